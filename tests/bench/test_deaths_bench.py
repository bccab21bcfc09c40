"""The bench of deaths, on few examples and nodes: its rows, and what they are measured against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import deaths
from bench.__main__ import main


@pytest.mark.long
def test_each_optimiser_is_measured_with_and_without_deaths(
    shared_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del shared_data
    for name, value in {"NODES": 6, "DYING": 1, "HIDDEN": 32, "EVERY_S": 15.0, "BACK_S": 8.0}.items():
        monkeypatch.setattr(deaths, name, value)
    assert main(["deaths", "--json", "--rounds", "1", "--examples", "1000"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    rows = {(row["optimiser"], row["misfortune"]): row for row in table["rows"]}
    assert list(rows) == [(o, m) for o in ("sgd", "adagrad", "synchronous") for m in ("undisturbed", "killed")]
    for (_, misfortune), row in rows.items():
        assert row["accuracy"] > 0.7
        assert (row["deaths"] > 0) == (misfortune == "killed") == ("points" in row)
        assert (row["given_out_again_%"] > 0) == (misfortune == "killed")
    killed, undisturbed = rows["sgd", "killed"], rows["sgd", "undisturbed"]
    assert killed["times"] == pytest.approx(killed["virtual_s"] / undisturbed["virtual_s"], rel=1e-3)
