"""The page of benchmarks: what it says of results that are there, and nothing of those that are not."""

from __future__ import annotations

import json

import pytest

from bench import harness
from docs import generate
from docs.generate import benchmarks, papers, record

RESULTS = {
    "sparse": [
        [{"case": "SGD, imdb", "contender": "ours, 2 replicas", "M nnz/s": 732.4, "times the peer": 3.104, "times 1 replica": 1.65,
          "log loss": 0.30272, "accuracy": 0.8825},
         {"case": "SGD, imdb", "contender": "scikit-learn", "M nnz/s": 236.0, "log loss": 0.3064, "accuracy": 0.88}],
        [{"what": "SGD, 2 replicas / 1, worst of all", "times": 1.247, "goal": "at least 1.5", "reached": "no"}],
        [{"file": "a9a", "MB": 2.33, "ours, 1 core": 805.4, "ours, all cores": 1210.0}],
    ],
    "loopback": [
        [{"bytes": "1 KiB", "what": what, "contender": name, "p50": p50}
         for name, p50 in (("ours, uvloop", 61.4), ("echo, uvloop", 45.0)) for what in ("fetch", "push")],
        [{"bytes": "64 MiB", "what": "fetch", "contender": "ours, uvloop", "GB/s": 2.345}],
        [],
    ],
    "downpour": [
        [{"replicas": 1, "ratio": 0.984}, {"replicas": 2, "ratio": 0.961}],
        [{"optimiser": "sgd", "nodes": 1, "rate": 230000.0, "s to 0.96": 0.5, "accuracy": 0.9741},
         {"optimiser": "adagrad", "nodes": 2, "n_push": 4, "n_fetch": 4, "rate": 150000.0, "staleness": 2.84,
          "s to 0.96": None, "accuracy": 0.95}],
        [{"contender": "ours", "every": 16, "slow": 1.0, "times_ddp": 1.5, "rate": 200000.0, "s to 0.96": 0.6},
         {"contender": "ours", "every": 16, "slow": 5.0, "rate": 120000.0, "s to 0.96": 0.9, "of_alike": 0.6}],
    ],
    "deaths": [
        [{"optimiser": "sgd", "misfortune": "undisturbed", "deaths": 0, "accuracy": 0.9684, "virtual_s": 584.0},
         {"optimiser": "sgd", "misfortune": "killed", "deaths": 22, "accuracy": 0.9685, "virtual_s": 700.0,
          "points": -0.081, "times": 1.198, "s_to_0.95": 248.2}],
    ],
    "sim": [
        [{"event": "call_soon", "of_asyncio": 0.774, "events_per_s": 1e6},
         {"event": "timers", "of_asyncio": 0.29, "events_per_s": 4e5},
         {"event": "cluster with gradients", "of_asyncio": 0.05, "events_per_s": 70266.0}],
        [{"part": "they train", "virtual_s": 60.0, "wall_s": 38.6}],
        [{"nodes": 100}, {"nodes": 1100, "kB_per_node": 168.5}],
    ],
}  # fmt: skip


MACHINE = {"cpu": "a processor", "cores": 2, "python": "3.11", "versions": {"numba": "1", "torch": "2"}, "commit": "0123456789abcdef"}


@pytest.fixture(autouse=True)
def history(monkeypatch):
    """No history but what a test gives by this."""

    def given(*commits):
        benchmarks._last.cache_clear()
        monkeypatch.setattr(harness, "git", lambda *words: "\n".join(commits) or None)

    given()
    yield given
    benchmarks._last.cache_clear()


@pytest.mark.parametrize(("commits", "old"), [(51, True), (50, False), (0, False)], ids=["deep", "shallow", "no history"])
def test_a_result_of_more_than_50_commits_ago_is_marked_where_history_tells(commits, old, history):
    last = [f"{k:040}" for k in range(commits)]
    history(*last)
    assert benchmarks.marked("f" * 40) == "f" * 12 + (" (more than 50 commits ago)" if old else "")
    assert all(benchmarks.MARK not in benchmarks.marked(commit) for commit in last)


def test_a_page_is_not_stale_because_commits_were_made(history):
    page = generate.fill("<!-- generated: numbers -->\n<!-- /generated -->\n")
    history(*["0" * 40] * 51)
    assert benchmarks.MARK in generate.fill(page)
    assert generate.fresh(page)
    assert not generate.fresh(page.replace("| `hogwild`, ", "| `hogwild`, 0"))


def test_the_page_shows_a_bench_when_its_results_are_there(tmp_path, monkeypatch):
    for name in ("hogwild", "kernels", "startup"):
        (tmp_path / f"{name}.json").write_bytes((benchmarks.RESULTS / f"{name}.json").read_bytes())
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    before = benchmarks.page()
    assert "loopback" not in before
    assert "downpour" not in before
    for name, rows in RESULTS.items():
        result = {"machine": MACHINE, "notes": ["a note"], "tables": [{"rows": table} for table in rows]}
        (tmp_path / f"{name}.json").write_text(json.dumps(result), "utf-8")
    page = benchmarks.page()
    assert page.startswith(before.rstrip("\n"))
    for line in (
        "`python -m bench sim`, a processor with 2 cores, Python 3.11, numba 1, torch 2, commit 0123456789ab.",
        "| SGD, imdb | ours, 2 replicas | 732 | 3.10 | 1.65 | 0.3027 | 0.8825 |",
        "| SGD, imdb | scikit-learn | 236 | – | – | 0.3064 | 0.8800 |",
        "| SGD, 2 replicas / 1, worst of all | at least 1.5 | 1.25 | no |",
        "| a9a | 805 | 1,210 | – |",
        "| ours, uvloop | 61 | 61 | 2.35 | – |",
        "| echo, uvloop | 45 | 45 | – | – |",
        "| 1 | SGD | – | – | 230,000 | – | 0.50 | 0.9741 |",
        "| 2 | Adagrad | 4 | 4 | 150,000 | 2.8 | – | 0.9500 |",
        "| ours | 16 | 200,000 | 1.5 | 0.60 | 120,000 | 0.60 | 0.90 |",
        "| SGD | undisturbed | 0 | 0.9684 | – | 584 | – | – |",
        "| SGD | killed | 22 | 0.9685 | -0.08 | 700 | 1.20 | 248 |",
        "- a note",
    ):
        assert f"\n{line}\n" in page
    assert "runs 0.77 (callbacks) and 0.29 (timers) times" in page
    assert "70,266 events a second" in page
    assert "at 0.98 and 0.96 of Hogwild's rate" in page


def test_the_record_is_a_table_for_each_bench_its_machines_apart_the_newest_first(tmp_path, monkeypatch):
    lines = [("wire", "x", "2026-01-01", {"copies: push": [0.5, 0.25, 1.0]}), ("wire", "y", "2026-01-02", {"copies: push": [2.0]}),
             ("wire", "x", "2026-01-03", {"copies: fetch": [3.0]}), ("sim", "x", "2026-01-01", {"asyncio: timers": [0.3]})]  # fmt: skip
    kept = [{"bench": bench, "commit": "0123456789", "cpu": cpu, "cores": 2, "time": day, "seconds": 9.6, "figures": figures}
            for bench, cpu, day, figures in lines]  # fmt: skip
    (tmp_path / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    wire, sim = record.page().split("\n\n### ")
    assert wire.splitlines()[2:] == [
        "| day | commit | machine | s | copies: fetch | copies: push |",
        "| --- | --- | --- | --: | --: | --: |",
        "| 2026-01-03 | 01234567 | x, 2 cores | 10 | 3.00 | – |",
        "| 2026-01-01 | 01234567 | x, 2 cores | 10 | – | 0.50 (0.25–1.00) |",
        "| 2026-01-02 | 01234567 | y, 2 cores | 10 | – | 2.00 |",
    ]
    assert sim.endswith("| 0.30 |\n")


def test_a_criterion_that_does_not_hold_is_counted_and_shown(tmp_path, monkeypatch):
    rows = [
        {"scheme": "ssp", "criterion": "earlier", "error_%": 9.5, "seeds_agree": "3 of 3", "reproduced": "yes"},
        {"scheme": "asgd", "criterion": "later", "paper": "never", "seeds_agree": "2 of 3", "reproduced": "no"},
        {"scheme": "sgd"},
    ]
    tables = [{"title": "ssp: Bounds pay.", "rows": rows}]
    result = {"machine": MACHINE, "notes": ["ssp: one rate", "easgd: another"], "tables": tables}
    (tmp_path / "papers.json").write_text(json.dumps(result), "utf-8")
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    page = papers.page()
    assert "| Ho et al. 2013, Stale Synchronous Parallel | 1 | 1 |" in page
    assert "| ssp | earlier | error (%) 9.5 | – | 3 of 3 | yes |" in page
    assert "| asgd | later | – | never | 2 of 3 | no |" in page
    assert "\n- asgd, later: no by its count alone; of fewer than 5 seeds all must agree\n" in page
    assert "\n`python -m bench papers --only ssp --seeds 3`, commit 0123456789ab.\n" in page
    assert "\n- one rate\n" in page
    assert "another" not in page
