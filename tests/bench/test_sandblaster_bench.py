"""The bench of Sandblaster, on little data: its rows, and that they are measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import sandblaster
from bench.__main__ import main
from bench._papers.runs import Size


@pytest.mark.long
@pytest.mark.serial
@pytest.mark.real
def test_scipy_and_ours_come_to_the_same(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--only", "scipy", "--examples", "2000", "--evaluations", "6", "--converge", "60", "--rounds", "1"]
    assert main(["sandblaster", "--json", *options]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    rows = {row["contender"]: row for row in table["rows"]}
    assert list(rows) == ["SciPy", "ours, 1 replica", "ours, 2 replicas", "ours, 2 nodes of 1"]
    assert all(row["ms_an_iteration"] > 0 for row in rows.values())
    assert rows["ours, 1 replica"]["above_optimum"] == rows["ours, 2 replicas"]["above_optimum"]
    assert max(row.get("above_optimum", 0) for row in rows.values()) < 0.05


def test_the_coordinators_traffic_does_not_grow_with_the_model() -> None:
    small, large = sandblaster.traffic((4, 400))[0].rows
    assert large["parameters"] > 50 * small["parameters"]
    assert large["programs_kB"] < 1.2 * small["programs_kB"]
    assert small["fetches_a_node_and_evaluation"] <= 1
    assert large["fetches_a_node_and_evaluation"] <= 1


@pytest.mark.long
def test_a_slow_node_is_measured_with_and_without_copies() -> None:
    (row,) = sandblaster.straggler((32,))[0].rows
    assert 1 <= row["times_with"] <= row["times_without"]


@pytest.mark.long
def test_both_of_distbeliefs_algorithms_are_waited_for(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandblaster, "ACCURACY", 0.3)
    monkeypatch.setattr(sandblaster, "RATES", (0.05,))
    (row,) = sandblaster.machines((4,), Size(examples=600, tests=200, hidden=8))[0].rows
    assert row["downpour_adagrad"] > 0
    assert row["sandblaster"] > 0
    assert row["sandblaster_MB"] > 0
