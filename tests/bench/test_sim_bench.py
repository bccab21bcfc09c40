"""The bench of virtual time, in small: its rows, and that a ratio is of rates of one run."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

import hogpour as hp
from bench import sim
from bench.__main__ import main
from bench.harness import Spread
from hogpour.data.load import Data

EVENTS = 2 * sim.READY


@pytest.fixture
def data() -> Data:
    return hp.load("digits")


@pytest.mark.parametrize("call", [sim.plain, sim.soon, sim.shuffled, sim.timers])
def test_as_many_callbacks_are_run_as_were_asked_for(call: Any) -> None:
    assert [call(EVENTS), call(sim.READY)] == [EVENTS, sim.READY]


def test_an_echo_has_four_events_beside_those_of_its_connection() -> None:
    events = [sim.echo(sim.EVENTS_AN_ECHO * echoes) for echoes in (10, 20, 30)]
    assert [b - a for a, b in pairwise(events)] == [10 * sim.EVENTS_AN_ECHO] * 2
    assert events[0] < 20 * sim.EVENTS_AN_ECHO


@pytest.mark.slow
def test_ratios_are_of_rates_of_one_run(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was measured: here, a call takes as many milliseconds as its place in the table says."""

    def timed(contenders: Any, *, rounds: int) -> dict[str, Spread]:
        for call in contenders.values():
            call()
        return {name: Spread(0.001 * place, 0.0, 0.0, rounds) for place, name in enumerate(contenders, start=1)}

    monkeypatch.setattr(sim, "alternate", timed)
    rows = sim.callbacks(data, EVENTS, 1, 3).rows
    assert [row["event"] for row in rows] == [
        "plain asyncio, call_soon", "call_soon", "call_soon, hosts shuffled", "timers", "echo on a connection",
        "cluster, model only", "cluster with gradients",
    ]  # fmt: skip
    for place, row in enumerate(rows, start=1):
        assert row["events_per_s"] == pytest.approx(row["events"] / (0.001 * place), abs=0.5)
        assert row["of_asyncio"] == pytest.approx(row["events"] / place / EVENTS)
        assert row["us"] == pytest.approx(1000 * place / row["events"])
    assert [row["events"] for row in rows[:4]] == [EVENTS] * 4
    assert [row["goal"] for row in rows] == [None, *["at least 0.2"] * 3, None, None, None]
    assert rows[5]["events"] == rows[6]["events"]  # model-only or not, as many things happen


@pytest.mark.slow
def test_the_parts_of_a_large_run_add_up(data: Data) -> None:
    table = sim.large(data, nodes=5, seconds=4.0)
    assert table.title == "5 nodes without gradients; the run ends as it should: stopped"
    *parts, whole = table.rows
    assert [row["part"] for row in table.rows] == ["they join", "they train", "they are stopped", "all of it"]
    for column in ("virtual_s", "wall_s", "events", "pushes", "MB"):
        assert sum(row[column] for row in parts) == pytest.approx(whole[column])
    assert [row["virtual_s"] for row in parts[:2]] == pytest.approx([sim.JOINING_S, 4.0])
    assert 10 <= parts[1]["pushes"] <= 30  # 5 nodes, about one a second each
    for row in table.rows:
        assert row["wall_per_virtual"] == pytest.approx(row["wall_s"] / row["virtual_s"])
        assert row["events_per_s"] == pytest.approx(row["events"] / row["wall_s"], abs=0.5)


def test_memory_of_a_node_is_that_of_the_nodes_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sim, "_elsewhere", {3: 100_000_000, 13: 102_000_000}.get)
    assert sim.memory(3, 13).rows == [
        {"nodes": 3, "MB": 100.0},
        {"nodes": 13, "MB": 102.0, "kB_per_node": 200.0, "goal": "at most 200"},
    ]


@pytest.mark.long
def test_idle_nodes_are_there_and_one_of_them_computes() -> None:
    assert sim.idle(4) > 10_000_000


@pytest.mark.long
@pytest.mark.real
def test_the_whole_bench_runs_in_small(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory is measured in processes of its own, so that what is kept from other parts is not in it."""
    quickly = sim.alternate
    monkeypatch.setattr(sim, "alternate", lambda calls, rounds: quickly(calls, rounds=rounds, sample_s=0.0))
    small = ["--rounds", "1", "--events", "2000", "--epochs", "1", "--nodes", "3", "--seconds", "1", "--idle", "1", "3"]
    assert main(["sim", "--json", *small]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["question"] == "How fast is virtual time?"
    assert [len(table["rows"]) for table in result["tables"]] == [7, 4, 2]
    assert [row["nodes"] for row in result["tables"][2]["rows"]] == [1, 3]
    assert result["tables"][0]["rows"][0]["of_asyncio"] == 1.0
    assert len(result["notes"]) == 5
