"""The record: its lines, its figures, and the run of all benches with those that fail and those that take too long."""

from __future__ import annotations

import argparse
import json
import os
import sys

import pytest

from bench import downpour, harness, hogwild, kernels, loopback, record
from bench.__main__ import main, questions
from bench.downpour import HOGWILD, PAIRS, Run
from bench.hogwild import CASES, ONE, OURS
from bench.loopback import Measured


def test_the_plan_has_every_bench_and_takes_an_hour():
    assert {*record.PLAN, *record.LEFT_OUT} == set(questions())
    assert sum(seconds for seconds, _ in record.PLAN.values()) <= 3600


@pytest.mark.parametrize("name", record.PLAN)
def test_a_bench_takes_what_the_plan_tells_it(name, monkeypatch):
    seconds, words = record.PLAN[name]
    monkeypatch.setattr(harness, "answer", lambda name, question, measure, options: 5 if options.save else 6)
    assert main([name, *words.split(), "--save"]) == 5
    if "--within" in words:
        assert float(words.split()[-1]) < 0.95 * seconds, "it counts from when the data are read"


def test_a_bench_that_fails_or_takes_too_long_takes_no_other_with_it(monkeypatch, capsys):
    asked = []

    def run(line, seconds):
        asked.append((line[3], line[-2:], seconds))
        return {"wire": 1, "sim": None}.get(line[3], 0)

    monkeypatch.setattr(record, "PLAN", {"startup": (110, ""), "wire": (20, ""), "sim": (180, "")})
    monkeypatch.setattr(record, "_run", run)
    assert main(["all", "--save", "--rounds", "1"]) == 1
    assert asked == [(name, ["--save", "--rounds=1"], seconds) for name, seconds in (("startup", 110), ("wire", 20), ("sim", 180))]
    said = capsys.readouterr().err
    assert "bench startup: 0 of 110 s\n" in said
    assert "bench wire: 0 of 20 s, failed with exit code 1\n" in said
    assert "bench sim: 0 of 180 s, ended\n" in said
    monkeypatch.setattr(record, "_run", lambda line, seconds: 0)
    assert main(["all"]) == 0


def test_help_of_all_runs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(record, "_run", None)
    assert main(["all", "--help"]) == 0
    assert main(["all", "--only"]) == 2
    assert "at most an hour" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.real
def test_a_bench_that_is_ended_leaves_nothing_that_it_started(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert record._run(["sh", "-c", f"exec 3>{pipe}; echo started >&3; sleep 100 & wait"], 0.3) is None
    os.set_blocking(reader, True)
    with os.fdopen(reader) as file:
        assert file.read() == "started\n", "and then the end: nobody holds the other end any more"
    assert record._run([sys.executable, "-c", "raise SystemExit(3)"], 60.0) == 3


def measured(options):
    return harness.Report([], figures={"peer: rate": (2.0, 1.23456, 3.0)})


@pytest.mark.parametrize(("changes", "lines"), [("", 1), (" M bench/wire.py", 0), (None, 0)], ids=["clean", "changed", "no git"])
def test_a_result_of_a_clean_tree_adds_a_line(changes, lines, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    (tmp_path / "bench" / "results").mkdir(parents=True)
    monkeypatch.setattr(harness, "git", lambda *words: changes if words[0] == "status" else "c0ffee")
    harness.answer("wire", "How fast?", measured, argparse.Namespace(json=True, save=True))
    kept = list((tmp_path / "bench" / "results").glob("record.jsonl"))
    assert len(kept) == lines
    for file in kept:
        line = json.loads(file.read_text("utf-8"))
        assert (line["bench"], line["commit"], line["figures"]) == ("wire", "c0ffee", {"peer: rate": [2.0, 1.235, 3.0]})


def test_a_line_gives_way_to_one_of_the_same_bench_commit_and_machine(tmp_path):
    def keep(bench, commit, cpu, rate):
        machine = {"commit": commit, "cpu": cpu, "cores": 2, "time": "now", "clean": True}
        result = {"bench": bench, "machine": machine, "seconds": 1.0, "figures": {"peer: rate": [rate]}}
        record.keep(result, tmp_path / "record.jsonl")

    for k, line in enumerate([("wire", "a", "x"), ("sim", "a", "x"), ("wire", "b", "x"), ("wire", "a", "y"), ("wire", "a", "x")]):
        keep(*line, k)
    lines = [json.loads(line) for line in (tmp_path / "record.jsonl").read_text("utf-8").splitlines()]
    assert [line["figures"]["peer: rate"] for line in lines] == [[1], [2], [3], [4]]


def test_no_round_begins_that_would_end_later():
    now = iter([0.0, 0.0, 40.0, 70.0, 90.0])
    assert list(harness.rounds(9, 100.0, lambda: next(now))) == [0, 1, 2], "the third began at 70 and took the 30 before it"
    now = iter([0.0, 0.0, 51.0])
    assert list(harness.rounds(9, 100.0, lambda: next(now))) == [0], "a second would end at 102"
    assert list(harness.rounds(3, None)) == [0, 1, 2]


def test_a_ratio_is_that_of_each_round():
    assert harness.paired([2.0, 9.0, 4.0, 7.0], [1.0, 3.0, 1.0]) == (3.0, pytest.approx(2.2), pytest.approx(3.8))
    assert harness.times(6.0, 2.0, 1.5, 3.0) == (3.0, 2.0, 4.0)


def test_contenders_without_a_goal_are_trained_once(monkeypatch):
    class Peer:
        cases = ""

        def __init__(self, name):
            self.name = name

        def train(self, case, data, seed):
            return {"rate": 50.0, "seed": seed}

    monkeypatch.setattr(hogwild, "_train", lambda case, data, replicas, seed, watch: {"rate": 100.0 * replicas, "seed": seed, "curve": []})
    peers = [Peer("JAX, scan"), Peer("scikit-learn")]
    seeds = {
        once: {name: [run["seed"] for run in found] for name, found in hogwild._rounds(CASES[0], None, iter(range(3)), peers, once).items()}
        for once in (False, True)
    }
    assert set(map(tuple, seeds[False].values())) == {(0, 1, 2)}
    assert seeds[True] == {OURS: [0, 1, 2], ONE: [0, 1, 2], "JAX, scan": [0, 1, 2], "scikit-learn": [0]}
    figures = hogwild._figures(CASES[0], hogwild._rounds(CASES[0], None, iter(range(3)), peers, True))
    assert figures == {"JAX, scan: MLP 784-128-10": (4.0,) * 3, f"{ONE}: MLP 784-128-10": (2.0,) * 3}


def test_those_with_a_slow_one_train_once():
    turns = [HOGWILD[1], *PAIRS[1, 1.0], *PAIRS[1, 5.0]]
    assert downpour._order(turns, 1, False) == turns[::-1]
    assert downpour._order(turns, 0, True) == turns
    assert downpour._order(turns, 1, True) == turns[2::-1]


def test_figures_of_downpour_are_its_ratios_with_goals_as_far_as_they_were_measured():
    rates = {HOGWILD[1]: (100.0, 50.0), downpour.ALONE[1]: (90.0, 45.0), PAIRS[16, 1.0][0]: (60.0,), PAIRS[16, 1.0][1]: (20.0,),
             PAIRS[1, 1.0][0]: (10.0,), PAIRS[16, 5.0][0]: (1.0,)}  # fmt: skip
    runs = {case: [Run(rate, 0.9, None) for rate in found] for case, found in rates.items()}
    assert downpour._figures(runs) == {"hogwild: one node of 1": (0.9,) * 3, "DDP: an exchange every 16 steps": (3.0,) * 3}


def test_figures_of_loopback_are_ratios_of_medians_of_calls():
    ours = Measured({"fetch": [[4.0, 4.0, 9.0], [5.0]], "push": [[3.0]]}, None)
    echo = Measured({"fetch": [[2.0], [2.0]], "push": [[1.0]]}, None)
    figures = loopback._figures({1 << 10: {"ours, uvloop": ours, "echo, uvloop": echo}})
    assert figures["echo, uvloop: fetch 1 KiB"] == pytest.approx((0.45, 0.41, 0.49))
    assert list(figures) == ["echo, uvloop: fetch 1 KiB", "echo, uvloop: push 1 KiB"]


def test_the_figure_of_kernels_is_the_row_that_loses_most():
    rows = [{"times_torch": 2.0, "torch_us": 8.0, "us": 4.0, "p10_us": 3.0, "p90_us": 5.0},
            {"times_torch": 0.5, "torch_us": 2.0, "us": 4.0, "p10_us": 2.0, "p90_us": 8.0}, {"us": 9.0}]  # fmt: skip
    assert kernels._slowest(rows) == (0.5, 0.25, 1.0)
