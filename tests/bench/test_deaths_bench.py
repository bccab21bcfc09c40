"""The bench of deaths, on few examples: its rows, and what they are measured against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.__main__ import main


@pytest.mark.slow
def test_each_optimiser_is_measured_with_and_without_deaths(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del shared_data
    assert main(["deaths", "--json", "--rounds", "1", "--examples", "8000"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    rows = {(row["optimiser"], row["misfortune"]): row for row in table["rows"]}
    assert list(rows) == [(o, m) for o in ("sgd", "adagrad", "synchronous") for m in ("undisturbed", "killed")]
    for (_, misfortune), row in rows.items():
        assert row["accuracy"] > 0.7
        assert (row["deaths"] > 0) == (misfortune == "killed") == ("points" in row)
        assert (row["given_out_again_%"] > 0) == (misfortune == "killed")
    killed, undisturbed = rows["sgd", "killed"], rows["sgd", "undisturbed"]
    assert killed["times"] == pytest.approx(killed["virtual_s"] / undisturbed["virtual_s"], rel=1e-3)
