"""The bench of papers: its criteria on made-up errors, its tables on made-up runs, and real runs of a tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.__main__ import main
from bench._papers import dc_asgd, downpour_order, mnist_staleness, runs, staleness_aware


def test_a_fixed_rate_fails_from_five_points_on_and_a_corrected_one_keeps_up_to_one():
    assert [staleness_aware.fails(error, 10.0) for error in (14.9, 15.0)] == [False, True]
    assert [staleness_aware.keeps_up(error, 10.0) for error in (9.0, 11.0, 11.1)] == [True, True, False]


def test_compensation_recovers_half_of_a_gap_and_nothing_of_none():
    assert [dc_asgd.recovers(error, 12.0, 10.0) for error in (11.0, 11.1)] == [True, False]
    assert not dc_asgd.recovers(5.0, 10.0, 10.0)
    assert dc_asgd.share(11.5, 12.0, 10.0) == 25.0
    assert dc_asgd.share(11.5, 10.0, 10.0) is None


def test_staleness_must_cost_something_but_not_everything_and_no_ramp_up_everything():
    assert [mnist_staleness.grows(error, 6.0, 5.0) for error in (6.0, 6.1, 15.0, 15.1)] == [False, True, True, False]
    assert [mnist_staleness.fails(error, 7.0) for error in (11.9, 12.0)] == [False, True]


def test_ramp_up_lasts_until_half_of_the_nodes_would_have_used_three_epochs():
    # 21 nodes: 10.5 of them on average, 0.2 s for 32 examples each.
    assert mnist_staleness.ramp_s(21, 4000) == pytest.approx(3 * 4000 / 32 * 0.2 / 10.5)
    assert mnist_staleness.ramp_s(1, 4000) == 0.0


def test_a_target_counts_until_the_cut_off_and_only_earlier_is_sooner():
    report = SimpleNamespace(time_to=lambda accuracy: 31.0)
    assert downpour_order.reached(report, 31.0) == 31.0
    assert downpour_order.never(downpour_order.reached(report, 30.0))
    assert downpour_order.never(downpour_order.reached(SimpleNamespace(time_to=lambda accuracy: None), 30.0))
    assert not downpour_order.sooner(float("inf"), float("inf"))
    assert [downpour_order.sooner(time, 5.0) for time in (4.9, 5.0)] == [True, False]


def test_a_warm_start_halves_failures_and_nothing_of_none():
    assert [downpour_order.fewer(warm, 10) for warm in (0, 5, 6)] == [True, True, False]
    assert not downpour_order.fewer(0, 0)


def test_a_verdict_is_of_the_medians_and_counts_the_seeds():
    assert runs.verdict(staleness_aware.fails, [20.0, 10.0, 30.0], [10.0, 10.0, 10.0]) == {
        "seeds_agree": "2 of 3",
        "reproduced": "yes",
    }


def test_a_run_that_ended_without_a_model_has_the_error_of_chance():
    assert runs.error(SimpleNamespace(accuracy=float("nan"))) == runs.error(SimpleNamespace(accuracy=None)) == 90.0


def table_of(paper: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run one paper and return its rows."""
    assert main(["papers", "--json", "--seeds", "2", "--only", paper]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    return table["rows"]


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("module", [staleness_aware, dc_asgd])
def test_the_last_column_follows_what_was_measured(module, works, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size):
        late = workers > 1 and (not works or type(scheme).__name__ == "Asgd")
        return SimpleNamespace(accuracy=0.9 - 0.01 * workers * late, mean_staleness=workers - 1.0)

    monkeypatch.setattr(module, "run", fake)
    first, *rest = table_of(module.__name__.rpartition(".")[2], capsys)
    assert "reproduced" not in first
    for row in rest:
        assert row["reproduced"] == ("yes" if works or row["scheme"].startswith("asgd") else "no")


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_staleness_on_mnist_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(scheme, *, workers, join_spread_s, seed, **rest):
        lost = 0.001 * workers + 0.3 * (workers > 1 and not join_spread_s) if works else 0.0
        return SimpleNamespace(accuracy=0.95 - lost, mean_staleness=workers - 1.0)

    monkeypatch.setattr(mnist_staleness, "run", fake)
    first, *rest = table_of("mnist_staleness", capsys)
    assert [(row["nodes"], row["ramp_up"]) for row in rest] == [(21, "yes"), (21, "no"), (51, "yes"), (51, "no")]
    assert first["lr_best_at"] == "τ = 0 and τ = 50"
    assert "reproduced" not in first
    assert {row["reproduced"] for row in rest} == {"yes" if works else "no"}


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_downpours_order_follows_what_was_measured(works, monkeypatch, capsys):
    good = {("Sgd", 1): 100.0, ("Sgd", 20): 40.0, ("Adagrad", 20): 20.0, ("Adagrad", 200): 10.0}
    bad = {("Sgd", 1): 50.0, ("Sgd", 20): 50.0, ("Adagrad", 20): 50.0, ("Sgd", 200): 20.0}

    def fake(scheme, *, workers, seed, **rest):
        seconds = (good if works else bad).get((type(scheme.optimiser).__name__, workers))
        fails = "stop_s" not in rest and not (works and scheme.warm_start_examples)
        return SimpleNamespace(
            accuracy=0.9, mean_staleness=workers - 1.0, time_to=lambda accuracy: seconds,
            outcome="diverged" if fails else "finished",
        )  # fmt: skip

    monkeypatch.setattr(downpour_order, "run", fake)
    rows = table_of("downpour_order", capsys)
    judged = [row["reproduced"] for row in rows if "criterion" in row]
    assert len(judged) == 8
    assert set(judged) == {"yes" if works else "no"}
    assert [row["failures"] for row in rows[-2:]] == ["10 of 10", "0 of 10" if works else "10 of 10"]


def test_a_tiny_run_is_as_late_as_its_workers_are_many(shared_data: Path):
    del shared_data
    import hogpour as hp

    size = runs.Size(examples=320, tests=100, hidden=4)
    report = runs.run(hp.Asgd(optimiser=hp.Sgd(0.1)), workers=3, batch=4, epochs=1, seed=0, size=size)
    assert report.outcome == "finished"
    assert 0.5 < report.mean_staleness <= 2.0


def test_a_tiny_run_of_equal_nodes_is_as_late_as_they_are_many_and_less_while_they_join(shared_data: Path):
    del shared_data
    size = runs.Size(examples=320, tests=100, hidden=4)
    ramped, bare = (mnist_staleness.once(0.01, 2, ramp_up, 0, size) for ramp_up in (True, False))
    assert ramped.outcome == bare.outcome == "finished"
    assert 1.7 < ramped.mean_staleness < bare.mean_staleness <= 2.0


def test_a_tiny_run_of_downpour_ends_at_its_cut_off(shared_data: Path, monkeypatch):
    del shared_data
    monkeypatch.setitem(downpour_order.CUT_OFF_S, 3, 5.0)
    monkeypatch.setitem(downpour_order.LOOK_S, 3, 1.0)
    size = runs.Size(examples=512, tests=100, hidden=4)
    report = downpour_order._timed(downpour_order.ADAGRAD, 3, 0.01, 0, size)
    assert report.outcome == "stopped"
    assert 5.0 <= report.points[-1].seconds < 10.0
