"""The bench of papers: its criteria on made-up errors, its tables on made-up runs, and real runs of a tiny size."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import hogpour as hp
from bench import papers
from bench.__main__ import main
from bench._papers import (
    backup_workers,
    dc_asgd,
    diloco,
    downpour_order,
    eamsgd,
    easgd,
    mnist_staleness,
    runs,
    ssp,
    staleness_aware,
    warm_start,
)  # fmt: skip
from bench.harness import Table
from hogpour.algos.exchange.local import Local
from hogpour.algos.gate.barrier import Barrier
from hogpour.sim.report import NodeReport, Point, SimulationReport

TINY = runs.Size(examples=160, tests=100, hidden=4)


def point(
    seconds: float, *, loss: float | None = None, accuracy: float | None = None, pushes: int = 0, epoch: float = 0.0
) -> Point:
    """Make up a look at a cluster."""
    return Point(
        seconds=seconds, examples=0, epoch=epoch, loss=loss, accuracy=accuracy, nodes=1, pushes=pushes, staleness=None
    )  # fmt: skip


def report_of(
    accuracy: float | None = 0.9, *, mean_staleness: float | None = 0.0, points: tuple[Point, ...] = (point(1.0),),
    waiting: float = 0.0, examples: int = 0, outcome: str = "finished", dropped: int = 0,
) -> SimulationReport:  # fmt: skip
    """Make up a report: of one node, which waited for a part of one second and computed in the rest."""
    node = NodeReport(
        node=0, lives=1, outcome=outcome, error="", examples=examples, computing_s=1.0 - waiting, waiting_s=waiting,
        bytes_in=0, bytes_out=0, replica_restarts=0, second_run=False,
    )  # fmt: skip
    return SimulationReport(
        outcome=outcome, error="", seconds=points[-1].seconds, examples=examples, repeated=0, loss=None,
        accuracy=accuracy, points=points, staleness=(), mean_staleness=mean_staleness, dropped=dropped, wait_s=None,
        nodes=(node,), happenings=(), deaths=0, resets=0, connections=0, events=0, trace="",
    )  # fmt: skip


def test_training_fails_from_five_points_on_and_keeps_up_to_one():
    assert [runs.fails(error, 10.0) for error in (14.9, 15.0)] == [False, True]
    assert [runs.keeps_up(error, 10.0) for error in (9.0, 11.0, 11.1)] == [True, True, False]


def test_what_is_above_is_not_equal_and_what_is_below_beats_all_others_and_has_got_there():
    never = float("inf")
    assert [runs.above(error, 10.0) for error in (10.0, 10.1)] == [False, True]
    assert [runs.below(time, 5.0, 6.0) for time in (4.9, 5.0, 5.5)] == [True, False, False]
    assert [runs.below(5.0, never, never), runs.below(never, never, never)] == [True, False]


def test_the_largest_rate_that_is_borne_costs_at_most_three_points():
    assert runs.borne({0.1: 20.0, 0.2: 10.0, 0.4: 13.0, 0.8: 13.1}) == 0.4
    assert runs.borne({0.1: 10.0, 0.2: 90.0}) == 0.1


def test_compensation_is_asked_for_at_the_largest_rate_at_which_delay_costs_one_to_three_points():
    assert dc_asgd.costly({0.1: 0.9, 0.2: 1.0, 0.3: 3.0, 0.4: 3.1}) == 0.3
    assert dc_asgd.costly({0.1: -1.0, 0.2: 0.5, 0.3: 4.0, 0.4: 80.0}) == 0.2


def test_compensation_recovers_half_of_a_gap_and_nothing_of_none():
    assert [dc_asgd.recovers(error, 12.0, 10.0) for error in (11.0, 11.1)] == [True, False]
    assert not dc_asgd.recovers(5.0, 10.0, 10.0)
    assert dc_asgd.share(11.5, 12.0, 10.0) == 25.0
    assert dc_asgd.share(11.5, 10.0, 10.0) is None


def test_staleness_must_cost_something_but_not_everything():
    assert [mnist_staleness.grows(error, 6.0, 5.0) for error in (6.0, 6.1, 15.0, 15.1)] == [False, True, True, False]


def test_ramp_up_lasts_until_half_of_the_nodes_would_have_used_three_epochs():
    # 21 nodes: 10.5 of them on average, 0.2 s for 32 examples each.
    assert mnist_staleness.ramp_s(21, 4000) == pytest.approx(3 * 4000 / 32 * 0.2 / 10.5)
    assert mnist_staleness.ramp_s(1, 4000) == 0.0


def test_a_target_counts_until_the_cut_off():
    report = report_of(points=(point(30.0, accuracy=0.84), point(31.0, accuracy=0.85)))
    assert downpour_order.reached(report, 31.0) == 31.0
    assert downpour_order.never(downpour_order.reached(report, 30.0))
    assert downpour_order.never(downpour_order.reached(report_of(points=(point(1.0, accuracy=0.84),)), 30.0))


def test_a_warm_start_halves_failures_and_nothing_of_none():
    assert [downpour_order.fewer(warm, 10) for warm in (0, 5, 6)] == [True, True, False]
    assert not downpour_order.fewer(0, 0)


def test_the_least_error_is_taken_over_all_rounds_for_each_seed():
    errors = {("easgd", tau): [10.0 - place, 5.0 + place] for place, tau in enumerate(easgd.PERIODS)}
    assert easgd.least(errors, "easgd") == [7.0, 5.0]


def test_a_perplexity_is_near_another_up_to_three_percent_and_far_from_there():
    never = float("inf")
    for found, other, near, far in (
        (1.03, 1.0, True, False), (1.031, 1.0, False, True), (0.5, 1.0, True, False), (never, 1.0, False, True),
        (never, never, False, False),
    ):  # fmt: skip
        assert (diloco.near(found, other), diloco.far(found, other)) == (near, far)


def test_a_perplexity_is_of_the_loss_at_as_many_steps_of_each_worker():
    looks = (point(1.0, loss=1.0, epoch=0.7), point(2.0, loss=0.5, epoch=0.8), point(3.0, loss=0.25, epoch=4.1))
    report = report_of(points=looks)
    assert diloco.perplexity(report) == pytest.approx(np.exp(0.25))
    assert diloco.perplexity(report, alone=True) == pytest.approx(np.exp(0.5))
    for lost in (report_of(points=looks[:2]), report_of(points=(point(1.0, epoch=9.0, loss=float("nan")),))):
        assert diloco.perplexity(lost) == float("inf")


def test_one_worker_alone_takes_as_many_steps_as_each_of_many():
    size = diloco.once_through(runs.Size(examples=64_000))
    assert (size.examples, size.hidden) == (40_000, 32)
    assert 4 / 5 * size.examples == 4 * 64_000 / diloco.WORKERS


def test_dropped_displacements_are_counted_of_all_that_were_sent():
    assert diloco.dropped(report_of(points=(point(1.0, pushes=6),), dropped=2)) == 25.0
    assert diloco.dropped(report_of()) == 0.0


def test_workers_that_begin_together_take_a_difference_of_harmonic_numbers():
    assert backup_workers.harmonic(1, 0) == 1.0
    assert backup_workers.harmonic(3, 0) == pytest.approx(1 + 1 / 2 + 1 / 3)
    assert backup_workers.harmonic(2, 1) == pytest.approx(1 / 2 + 1 / 3)
    assert [backup_workers.near(means, 100.0) for means in (94.9, 95.0, 105.0, 105.1)] == [False, True, True, False]


def test_the_rule_alone_is_slower_than_interrupted_workers_only_where_some_come_too_late():
    assert backup_workers.rule_means(2, 0, 0) == pytest.approx(1.5, rel=0.05)
    # Of two, the late one is busy half a mean longer than no time: 1/2 until one ends, and half of the time 1/2 more.
    assert backup_workers.rule_means(1, 1, 0) == pytest.approx(0.75, rel=0.05)
    assert backup_workers.rule_means(1, 1, 0) != backup_workers.rule_means(1, 1, 1)


def test_the_least_lies_in_between_and_is_less_than_both_ends():
    never = float("inf")
    for seconds, expected in (
        ([3.0, 2.0, 3.0], True), ([3.0, 3.0, 4.0], False), ([4.0, 3.0, 3.0], False), ([1.0, 2.0, 3.0], False),
        ([3.0, 2.0, 1.0], False), ([never, 2.0, never], True), ([never, never, never], False),
        ([4.0, 5.0, 3.0, 4.0], True),
    ):  # fmt: skip
        assert runs.u_shaped(seconds) == expected


def test_what_falls_or_rises_does_so_at_every_step():
    for values, falls, rises in (
        ([3.0, 2.0, 1.9], True, False), ([3.0, 2.0, 2.0], False, False), ([3.0, 1.0, 2.0], False, False),
        ([1.0, 2.0, 2.1], False, True), ([1.0, 1.0, 2.0], False, False),
    ):  # fmt: skip
        assert (ssp.falls(values), ssp.rises(values)) == (falls, rises)


def test_a_loss_is_reached_when_it_is_seen_first():
    report = report_of(points=(point(1.0), point(2.0, loss=0.41), point(3.0, loss=0.4), point(4.0, loss=0.3)))
    assert [ssp.seconds_to(loss, report) for loss in (0.4, 0.35, 0.2)] == [3.0, 4.0, float("inf")]


def test_what_came_too_late_is_what_was_computed_and_not_applied():
    late = report_of(points=(point(1.0, pushes=5), point(2.0, pushes=30)), examples=40 * backup_workers.BATCH)
    assert backup_workers.dropped(late) == pytest.approx(25.0)
    assert backup_workers.dropped(report_of()) == 0.0


def test_of_equal_values_the_first_is_best():
    assert runs.best((3.0, 1.0, 2.0), lambda value: value // 2) == 1.0
    assert runs.best((3.0, 2.0), lambda value: value // 2) == 3.0


def test_a_verdict_counts_the_seeds_and_not_their_medians():
    assert runs.verdict(runs.fails, [20.0, 10.0, 30.0], [10.0, 10.0, 10.0]) == {
        "seeds_agree": "2 of 3",
        "reproduced": "no",
    }


@pytest.mark.parametrize(
    ("holding", "seeds", "reproduced"),
    [(1, 1, "yes"), (2, 3, "no"), (3, 3, "yes"), (3, 4, "no"), (4, 4, "yes"), (3, 5, "no"), (4, 5, "yes"), (5, 5, "yes"),
     (4, 6, "no"), (5, 6, "yes"), (7, 10, "no"), (8, 10, "yes"), (0, 5, "no")],
)  # fmt: skip
def test_a_row_is_reproduced_in_every_seed_or_in_four_of_five(holding, seeds, reproduced):
    outcomes = [place < holding for place in range(seeds)]
    assert runs.judged(outcomes) == {"seeds_agree": f"{holding} of {seeds}", "reproduced": reproduced}


def test_what_is_kept_is_judged_as_it_was_counted():
    kept = json.loads((Path(papers.__file__).parent / "results" / "papers.json").read_text("utf-8"))
    rows = [row for table in kept["tables"] for row in table["rows"] if "seeds_agree" in row]
    assert len(rows) > 40
    for row in rows:
        holding, _, seeds = row["seeds_agree"].partition(" of ")
        judged = runs.judged([place < int(holding) for place in range(int(seeds))])
        assert row["reproduced"] == judged["reproduced"], row


def test_a_run_that_ended_without_a_model_has_the_error_of_chance():
    assert runs.error(report_of(float("nan"))) == runs.error(report_of(None)) == 90.0
    assert runs.error(report_of(0.75)) == 25.0


def test_an_error_at_an_epoch_is_that_of_the_first_look_after_it():
    report = report_of(points=(point(1.0, epoch=1.9), point(2.0, epoch=2.1, accuracy=0.8), point(3.0, epoch=3.0)))
    assert runs.at_epoch(2, report).seconds == 2.0
    assert runs.error_at(2, report) == pytest.approx(20.0)
    assert runs.at_epoch(4, report) is None
    assert runs.error_at(4, report) == 90.0


@pytest.mark.parametrize("seeds", ["0", "100", "-1", "two"])
def test_a_number_of_seeds_leaves_out_the_one_that_rates_are_chosen_with(seeds, capsys):
    with pytest.raises(SystemExit):
        main(["papers", "--seeds", seeds])
    assert "expected a number from 1 to 99" in capsys.readouterr().err


def table_of(paper: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Run one paper and return its rows, which are JSON as others read it: without an infinity."""
    assert main(["papers", "--json", "--seeds", "2", "--only", paper]) == 0
    (table,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["tables"]
    return table["rows"]


def test_without_a_name_all_papers_are_measured_in_order(monkeypatch, capsys):
    asked: list[range] = []
    for paper in papers.PAPERS:
        module = importlib.import_module(f"bench._papers.{paper}")
        found = Table(paper, ()), [paper]
        monkeypatch.setattr(module, "measure", lambda seeds, found=found: asked.append(seeds) or found)
    assert main(["papers", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [table["title"] for table in result["tables"]] == list(papers.PAPERS)
    assert result["notes"][:-1] == list(papers.PAPERS)
    assert asked == [range(5)] * len(papers.PAPERS)


def test_one_paper_is_a_part_of_the_results_and_all_are_the_whole(monkeypatch):
    for paper in papers.PAPERS:
        monkeypatch.setattr(importlib.import_module(f"bench._papers.{paper}"), "measure", lambda seeds: (Table("", ()), []))
    for only, part in ((None, False), ("ssp", True)):
        assert papers.measure(SimpleNamespace(only=only, seeds=1)).part is part


class Pretended:
    """In place of a simulation: computes nothing, and has a shard that makes ten steps a second."""

    made: list[Pretended]

    def __init__(self, job: hp.Job, scenario: hp.Scenario, *, told: Any = None) -> None:
        self.job, self.scenario, self.told, self.now = job, scenario, told, 0.0
        self.made.append(self)

    def run(self) -> SimulationReport:
        """Tell of the looks until the scenario's stop, and report."""
        looks = round(self.scenario.stop_s / self.scenario.look_every_s) if self.told else 0
        for look in range(looks):
            self.now = round(look * self.scenario.look_every_s, 6)
            self.told(point(self.now))
        return report_of()

    def shard(self, number: int) -> Any:
        """Return it; there is one, once the cluster has begun."""
        return SimpleNamespace(clock=int(10 * self.now + 1e-6)) if number == 0 and self.now else None


@pytest.fixture
def pretended(monkeypatch) -> list[Pretended]:
    """Simulate nothing, of no data; return what would have been."""
    Pretended.made = []
    x, y = np.zeros((4, 784), np.float32), np.array([0, 1, 2, 9])
    monkeypatch.setattr(hp, "Simulation", Pretended)
    data = hp.arrays(x, y, x, y)
    monkeypatch.setattr(runs, "_data", lambda examples, tests: data)
    monkeypatch.setattr(backup_workers, "rule_means", lambda n, b, seed: 1.0)
    return Pretended.made


@pytest.mark.parametrize("paper", papers.PAPERS)
def test_every_row_is_of_a_job_and_a_scenario_that_there_are(paper, pretended):
    module = importlib.import_module(f"bench._papers.{paper}")
    table, notes = module.measure(range(2))
    assert table.title == f"{paper}: {module.CLAIM}"
    assert notes
    assert all(note.startswith(f"{paper}: ") for note in notes)
    assert all(one.job.seed == one.scenario.seed for one in pretended)
    assert {one.job.batch for one in pretended} >= {row["batch"] for row in table.rows if "batch" in row}
    seeds = {0, 1, runs.CALIBRATION} | ({*range(10), *range(90, 95)} if paper == "downpour_order" else set())
    assert {one.job.seed for one in pretended} == seeds
    assert any("criterion" in row for row in table.rows)
    for row in table.rows:
        assert ("criterion" in row) == (row.get("reproduced") in ("yes", "no"))


def test_a_run_is_of_equal_nodes_with_exponential_times_unless_a_row_says_otherwise(pretended):
    scheme = hp.Asgd(optimiser=hp.Sgd(0.1))
    told = print
    runs.run(scheme, workers=3, batch=4, epochs=2, seed=5, size=TINY)
    runs.prepare(scheme, workers=3, batch=4, epochs=2, seed=5, size=TINY, told=told, nodes=7, look_every_s=1.0)
    usual, other = pretended
    assert (usual.job.algorithm, usual.job.batch, usual.job.epochs, usual.job.seed) == (scheme, 4, 2, 5)
    assert (usual.scenario.nodes, usual.scenario.replicas, usual.scenario.seed) == (3, 1, 5)
    assert (usual.scenario.compute.distribution, usual.scenario.compute.mean_s) == ("exponential", runs.MEAN_S)
    assert (usual.told, other.told) == (None, told)
    assert (other.scenario.nodes, other.scenario.look_every_s) == (7, 1.0)
    assert other.scenario.compute == usual.scenario.compute


def test_a_step_is_timed_when_all_have_joined_between_the_first_whole_one_and_the_last(pretended, monkeypatch):
    # Looks are a tenth of a mean apart, 0.01 s, and steps 0.1 s.
    monkeypatch.setattr(backup_workers, "STEP_MEAN_S", 0.1)
    assert backup_workers.step(3, 1, 0) == pytest.approx(1.0)
    (one,) = pretended
    assert one.scenario.nodes == 4
    assert one.scenario.model_only
    assert one.scenario.stop_s == pytest.approx(1.0 + 80 * 0.1 * backup_workers.harmonic(3, 1))


def test_what_a_step_is_timed_with_lasts_until_the_end(pretended):
    for n, b in backup_workers.SPLITS:
        backup_workers.step(n, b, 0)
        one = pretended.pop()
        computed = one.scenario.stop_s / backup_workers.STEP_MEAN_S * (n + b)
        assert computed < one.job.epochs * runs.Size().examples


def test_one_node_after_the_other_is_slow_and_none_beside_it(pretended):
    ssp.measure([0])
    turns = pretended[0].scenario.slow
    assert [turn.nodes for turn in turns] == [(node,) for node in range(8)]
    begins = [turn.at_s for turn in turns] + [turns[0].at_s + turns[0].every_s]
    assert all(turn.at_s + turn.for_s == later for turn, later in zip(turns, begins[1:], strict=True))
    assert {one.scenario.slow for one in pretended} == {turns}


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_softsync_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        accuracy = 0.9 if scheme.optimiser.lr < 1 else 0.8
        if isinstance(scheme, hp.Softsync):
            accuracy -= 0.06 * (scheme.n >= 15 and not scheme.staleness_aware) if works else 0.02
        looks = (point(1.0, accuracy=0.5, epoch=14.9), point(2.0, accuracy=accuracy, epoch=15.1), point(3.0, epoch=17.0))
        return report_of(0.1, mean_staleness=workers - 1.0, points=looks)

    monkeypatch.setattr(staleness_aware, "run", fake)
    serial, hardsync, *rest = table_of("staleness_aware", capsys)
    assert [(row["nodes"], row["batch"], row["staleness"]) for row in (serial, hardsync)] == [(1, 120, 0), (30, 4, 29)]
    assert {row["lr"] for row in (serial, hardsync, *rest)} == {0.2}
    assert "reproduced" not in serial | hardsync
    assert [row["n"] for row in rest] == [1, 1, 2, 2, 6, 6, 15, 15, 30, 30]
    expected = [29 / 30, 29 / 15, 29 / 5, 29 / 2, 29.0]
    assert [row["expected_staleness"] for row in rest[::2]] == pytest.approx(expected, rel=1e-3)
    judged = [row for row in rest if "criterion" in row]
    assert [row["n"] for row in judged] == [1, 2, 6, 15, 15, 30, 30]
    assert {row["reproduced"] for row in judged} == {"yes" if works else "no"}
    assert {row["seeds_agree"] for row in judged} == {"2 of 2" if works else "0 of 2"}


@pytest.mark.parametrize(("gap", "helps"), [(True, True), (True, False), (False, True)])
def test_the_column_of_compensation_follows_what_was_measured(gap, helps, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        lost = 0.1 * scheme.optimiser.lr**2 * (workers - 1) * gap  # with 4 workers, 2.7 points at 0.3 and then more
        if isinstance(scheme, hp.DcAsgd):
            lost *= 0.4 if helps else 0.6
            lost -= 0.0001 * (scheme.strength == 4.0)
        return report_of(0.9 - lost, mean_staleness=workers - 1.0)

    monkeypatch.setattr(dc_asgd, "run", fake)
    rows = table_of("dc_asgd", capsys)
    amended = ["dc_asgd-c", "dc_asgd-a", "dc_asgd-c, λ₀ of seed 99"]
    assert [(row["scheme"], row["M"]) for row in rows] == [
        ("sgd", 1), ("ssgd", 4), ("asgd", 4), ("asgd", 8), *((name, 4) for name in amended)
    ]  # fmt: skip
    assert {row["lr"] for row in rows} == {0.3}
    assert ["reproduced" in row for row in rows] == [False] + [True] * 6
    assert {row["reproduced"] for row in rows[1:4]} == {"yes" if gap else "no"}
    assert [row["strength"] for row in rows[4:]] == [0.04, 2.0, 4.0]
    assert [row["paper_error_%"] for row in rows[4:]] == [8.67, 8.19, None]
    assert {row["reproduced"] for row in rows[4:]} == {"yes" if gap and helps else "no"}
    recovered = (60.0 if helps else 40.0) if gap else None
    assert [row["gap_recovered_%"] for row in rows[4:6]] == [recovered] * 2


def test_asgd_of_more_workers_must_be_worse_than_of_fewer(monkeypatch, capsys):
    monkeypatch.setattr(dc_asgd, "run", lambda scheme, *, workers, **scenario: report_of(0.8 if workers > 1 else 0.9))
    judged = [row["reproduced"] for row in table_of("dc_asgd", capsys)[1:4]]
    assert judged == ["yes", "yes", "no"]


def test_seeds_are_judged_one_by_one(monkeypatch, capsys):
    def bounded(scheme, *, seed, **scenario):
        place = ssp.BOUNDS.index(scheme.s) * (1 if seed == 0 else -0.5)
        return report_of(waiting=0.5 - 0.1 * place, mean_staleness=place, points=(point(20.0, loss=0.3),))

    def backed(scheme, *, seed, **scenario):
        b = getattr(scheme, "backups", 0)
        return report_of(points=(point(10.0 + (b - 4) ** 2 if seed == 0 else 12.0 - b / 2, accuracy=0.8),))

    monkeypatch.setattr(backup_workers, "run", backed)
    monkeypatch.setattr(backup_workers, "step", lambda n, b, seed: 1 + 0.08 * seed)
    monkeypatch.setattr(backup_workers, "rule_means", lambda n, b, seed: 1.0)
    judged = [row for row in table_of("backup_workers", capsys) if "criterion" in row]
    assert [(row["seeds_agree"], row["reproduced"]) for row in judged] == [("1 of 2", "no")] * 4

    monkeypatch.setattr(ssp, "run", bounded)
    seconds, waiting, staleness = table_of("ssp", capsys)[5:]
    assert [(row["seeds_agree"], row["reproduced"]) for row in (seconds, waiting, staleness)] == [
        ("0 of 2", "no"),
        ("1 of 2", "no"),
        ("1 of 2", "no"),
    ]


@pytest.mark.parametrize(
    ("slower", "seconds", "reproduced"),
    [
        (1.04, {0: 30.0, 1: 20.0, 2: 10.0, 4: 15.0, 8: 40.0, 12: None}, "yes"),
        (1.06, {0: 30.0, 1: 20.0, 2: 10.0, 4: 9.0, 8: 8.0, 12: 7.0}, "no"),
        (1.06, dict.fromkeys((0, 1, 2, 4, 8, 12)), "no"),
    ],
)
def test_the_column_of_backups_follows_what_was_measured(slower, seconds, reproduced, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        if workers == 1:
            return report_of(0.9 if scheme.optimiser.lr == 0.3 else 0.8)
        at = seconds[scheme.backups]
        seen = point(at or 50.0, accuracy=0.8 if at else 0.79, pushes=workers - scheme.backups)
        return report_of(points=(seen,), examples=workers * batch)

    monkeypatch.setattr(backup_workers, "run", fake)
    monkeypatch.setattr(backup_workers, "step", lambda n, b, seed: slower)
    monkeypatch.setattr(backup_workers, "rule_means", lambda n, b, seed: 0.9 + 0.2 * seed)  # 1.0 on average
    rows = table_of("backup_workers", capsys)
    steps, times = rows[:3], rows[3:]
    assert [(row["N"], row["b"]) for row in steps] == [(100, 0), (96, 4), (90, 10)]
    assert [row["reproduced"] for row in steps] == ["yes" if slower < 1.05 else "no"] * 3
    assert [(row["N"], row["b"]) for row in times] == [(16, 0), (15, 1), (14, 2), (12, 4), (8, 8), (4, 12)]
    assert [row["lr"] for row in times] == pytest.approx([0.3 * row["N"] / 16 for row in times], abs=1e-3)
    assert [row.get("seconds_to_0.8") for row in times] == list(seconds.values())
    assert [row["dropped_%"] for row in times] == [100 * row["b"] / 16 for row in times]
    (judged,) = (row for row in times if "criterion" in row)
    least = min(filter(None, seconds.values()), default=None)
    assert judged.get("seconds_to_0.8") == least
    assert judged["reproduced"] == reproduced


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_a_bounded_staleness_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        place = ssp.BOUNDS.index(scheme.s) if works else 0
        at = 20.0 + (place - 2) ** 2 if works else 20.0
        accuracy = 0.9 if scheme.optimiser.lr == 0.3 else 0.8
        return report_of(
            accuracy, waiting=0.5 - 0.1 * place, mean_staleness=float(place),
            points=(point(at - 1, loss=0.41), point(at, loss=0.4), point(30.0, loss=0.3)),
        )  # fmt: skip

    monkeypatch.setattr(ssp, "run", fake)
    rows = table_of("ssp", capsys)
    bounds, judged = rows[:5], rows[5:]
    assert [row["s"] for row in bounds] == [0, 1, 3, 10, 1000]
    assert {row["lr"] for row in bounds} == {0.3}
    assert {row["seconds"] for row in bounds} == {30.0}
    if works:
        assert [row["seconds_to_0.4"] for row in bounds] == [24.0, 21.0, 20.0, 21.0, 24.0]
        assert [row["waiting_%"] for row in bounds] == pytest.approx([50.0, 40.0, 30.0, 20.0, 10.0])
        assert [row["staleness"] for row in bounds] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [row["reproduced"] for row in judged] == ["yes" if works else "no"] * 3
    assert [row["seeds_agree"] for row in judged] == ["2 of 2" if works else "0 of 2"] * 3


def test_a_bound_that_never_reaches_the_loss_has_no_time_to_it(monkeypatch, capsys):
    monkeypatch.setattr(ssp, "run", lambda scheme, **scenario: report_of(points=(point(30.0, loss=0.41),)))
    *rows, seconds, _, _ = table_of("ssp", capsys)
    assert [row.get("seconds_to_0.4") for row in rows] == [None] * 5
    assert seconds["reproduced"] == "no"


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_staleness_on_mnist_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size, join_spread_s, **scenario):
        lost = 0.001 * workers + 0.3 * (workers > 1 and not join_spread_s) if works else 0.0
        return report_of(0.95 - lost, mean_staleness=workers - 1.0)

    monkeypatch.setattr(mnist_staleness, "RATES", {20: (0.04, 0.07), 50: (0.02, 0.03)})
    monkeypatch.setattr(mnist_staleness, "run", fake)
    rows = table_of("mnist_staleness", capsys)
    assert [(row["nodes"], row.get("ramp_up")) for row in rows] == [
        (1, None), (21, "yes"), (21, "no"), (1, None), (21, "yes"), (51, "yes"), (51, "no")
    ]  # fmt: skip
    assert [row["lr"] for row in rows] == [0.07] * 3 + [0.03] * 4
    assert [row["nodes"] for row in rows if "reproduced" not in row] == [1, 1]
    assert {row["reproduced"] for row in rows if "reproduced" in row} == {"yes" if works else "no"}


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_elastic_averaging_follows_what_was_measured(works, monkeypatch, capsys):
    liked = {"Downpour": 0.1, "Easgd": 0.3, "Eamsgd": 0.01}

    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        name = type(scheme).__name__
        place = easgd.PERIODS.index(getattr(scheme, "tau", getattr(scheme, "n_push", 1)))
        lost = {"Downpour": 0.1 * max(0, place - 1), "Easgd": 0.0, "Eamsgd": -0.01 * (1 + place)}[name]
        if not works:
            lost = 0.02 * place * (name != "Downpour") + 0.02 * (name == "Downpour") * (place == 1)
        lost += 0.01 * (scheme.optimiser.lr != liked[name])
        at = 10.0 + (name != "Eamsgd") * works
        return report_of(0.9 - lost, mean_staleness=3.0, points=(point(at - 1, accuracy=0.8), point(at, accuracy=0.9)))

    monkeypatch.setattr(easgd, "run", fake)
    rows = table_of("easgd", capsys)
    names = ["downpour"] * 4 + ["easgd"] * 4 + ["eamsgd"] * 4 + ["downpour, rate of its τ"] * 2 + ["eamsgd, all τ"] * 2
    assert [row["scheme"] for row in rows] == names
    assert [row["tau"] for row in rows if "tau" in row] == [1, 4, 16, 64] * 3 + [16, 64]
    assert [row["lr"] for row in rows[:12]] == [0.1] * 4 + [0.3] * 4 + [0.01] * 4
    assert {row["seconds_to_0.88"] for row in rows[:8]} == {11.0 if works else 10.0}
    judged = [row for row in rows if "criterion" in row]
    assert len(judged) == 3 + 3 + 4 + 2 + 2
    assert {(row["reproduced"], row["seeds_agree"]) for row in judged} == {
        ("yes", "2 of 2") if works else ("no", "0 of 2")
    }


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_momentum_follows_what_was_measured(works, monkeypatch, capsys):
    liked = {"downpour": 0.3, "easgd": 3.0, "eamsgd": 0.03}
    usual = {"downpour": 30.0, "easgd": 20.0, "eamsgd": 10.0 if works else 20.0}

    def fake(method, rate, tau, seed, size, epochs):
        assert (size.sigmoids, epochs) == (True, 24)
        if tau == 64 and method == "downpour":
            return report_of(1 - rate, points=(point(100.0, accuracy=0.5),))
        return report_of(points=(point(usual[method] + (rate != liked[method]), accuracy=0.88),))

    monkeypatch.setattr(eamsgd, "once", fake)
    rows = table_of("eamsgd", capsys)
    assert [(row["scheme"], row["tau"]) for row in rows] == [(name, tau) for tau in (16, 64) for name in liked]
    assert [row["lr"] for row in rows] == [0.3, 3.0, 0.03, 0.03, 3.0, 0.03]
    assert [row["seconds_to_0.88"] for row in rows] == [*usual.values(), "never", *list(usual.values())[1:]]
    judged = [row for row in rows if "criterion" in row]
    assert [(row["scheme"], row["reproduced"]) for row in judged] == [("eamsgd", "yes" if works else "no")] * 2


def test_a_network_of_sigmoids_has_two_hidden_layers_of_them():
    assert [type(layer) for layer in runs.Size(sigmoids=True).layers()] == [
        hp.Linear, hp.Sigmoid, hp.Linear, hp.Sigmoid, hp.Linear
    ]  # fmt: skip
    assert runs.Size(sigmoids=True).words.endswith("784-32-32-10, sigmoids")
    assert runs.USUAL.words.endswith("784-32-10")


def test_a_peak_is_the_highest_loss_of_two_hundred_updates_behind_the_warm_start():
    looks = (point(1.0, loss=9.0), point(2.0, pushes=63, loss=2.0), point(3.0, pushes=200, loss=3.0),
             point(4.0, pushes=263, loss=4.0), point(5.0, pushes=264, loss=8.0))  # fmt: skip
    assert warm_start.peak(report_of(points=looks)) == 9.0
    assert warm_start.peak(report_of(points=looks), 4000) == 4.0
    assert warm_start.peak(report_of(points=(point(1.0, loss=float("nan")),))) == float("inf")
    assert warm_start.peak(report_of(points=looks[:1]), 4000) == float("inf")


def test_a_warm_start_takes_half_of_a_peak_and_nothing_of_none():
    assert [warm_start.lower(warmed, 6.0) for warmed in (3.0, 3.1)] == [True, False]
    assert [warm_start.lower(1.0, cold) for cold in (4.6, 4.7, float("inf"))] == [False, True, True]
    assert not warm_start.lower(float("inf"), float("inf"))


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_warm_starts_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(kind, replicas, rate, seed, size, warm, epochs, *, stop_s, look_every_s):
        assert stop_s == pytest.approx(1 + 1.15 * warm / 64 + 400 / replicas)
        assert look_every_s == pytest.approx(5 / replicas)
        loss = 2.0 if rate < 0.1 or (warm and works) else 6.0
        return report_of(points=(point(1.0, pushes=63, loss=loss),))

    monkeypatch.setattr(warm_start, "once", fake)
    rows = table_of("warm_start", capsys)
    assert [row["replicas"] for row in rows] == [20, 20, 200, 200] * 2
    assert {row["lr"] for row in rows} == {0.1}
    assert [row["peak_loss"] for row in rows] == [6.0, 2.0 if works else 6.0] * 4
    assert [row.get("reproduced") for row in rows] == [None, "yes" if works else "no"] * 4


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_rounds_follows_what_was_measured(works, monkeypatch, capsys):
    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        made = scheme.choices()
        loss = 0.3 + made.exchange.n_push * (0.0001 if works else 0.01 * (workers > 1))
        loss += 0.01 * ((scheme.inner.lr if isinstance(scheme, hp.DiLoCo) else 0.003) != 0.003)
        if workers == 1:
            loss += 0.2 * works
        elif made.gate.holds:
            loss += made.gate.backups * (0.005 if works else 0.05)
        elif isinstance(scheme, hp.Custom):
            loss += scheme.optimiser.lr * works
        else:
            loss += -0.001 if works else 0.2
        seen = point(1.0, loss=loss, epoch=4.0, pushes=6)
        return report_of(points=(seen,), mean_staleness=1.0, dropped=getattr(made.gate, "backups", 0))

    monkeypatch.setattr(diloco, "run", fake)
    rows = table_of("diloco", capsys)
    assert [row.get("H") for row in rows] == [None, 5, 20, 50] + [20] * 6
    assert [row["nodes"] for row in rows] == [1] + [8] * 9
    assert {row["lr"] for row in rows[1:]} == {0.003}
    assert [row["dropped_%"] for row in rows] == [0.0] * 4 + [25.0, 40.0] + [0.0] * 4
    assert [row["speeds"] for row in rows] == ["alike"] * 6 + ["1, 2, 4, 8"] * 4
    judged = [row for row in rows if "criterion" in row]
    assert len(judged) == 1 + 2 + 2 + 1 + 2
    assert {(row["reproduced"], row["seeds_agree"]) for row in judged} == {
        ("yes", "2 of 2") if works else ("no", "0 of 2")
    }


def test_rounds_that_are_compared_with_bad_short_ones_are_said_to_be():
    def notes_of(perplexities: tuple[float | None, ...], reproduced: str = "yes") -> list[str]:
        rows: list[dict[str, Any]] = [
            {"scheme": "diloco", "H": steps, "dropped_%": 0.0, "perplexity": perplexity}
            for steps, perplexity in zip(diloco.ROUNDS, perplexities, strict=True)
        ]
        rows.append({"scheme": "diloco, 4 of 8 count", "dropped_%": 50.0, "reproduced": reproduced})
        return diloco._notes(Table("diloco", (), rows), TINY)[3:]

    assert notes_of((1.2, 1.3, 1.4)) == notes_of((1.2, None, 1.4)) == []
    (said,) = notes_of((1.4, 1.2, 1.26))
    assert said.endswith("H = 50 is 5.0 % above H = 20")
    (said,) = notes_of((1.2, 1.3, 1.4), "no")
    assert "why drops cost more" in said


@pytest.mark.parametrize("works", [True, False])
def test_the_column_of_downpours_order_follows_what_was_measured(works, monkeypatch, capsys):
    good = {("Sgd", 1): 100.0, ("Sgd", 20): 40.0, ("Adagrad", 20): 20.0, ("Adagrad", 200): 10.0}
    bad = {("Sgd", 1): 50.0, ("Sgd", 20): 50.0, ("Adagrad", 20): 50.0, ("Sgd", 200): 20.0}

    def fake(scheme, *, workers, batch, epochs, seed, size, **scenario):
        seconds = (good if works else bad).get((type(scheme.optimiser).__name__, workers))
        fails = "stop_s" not in scenario and not (works and scheme.warm_start_examples)
        seen = point(seconds or 1.0, accuracy=0.9 if seconds else 0.1)
        return report_of(mean_staleness=workers - 1.0, points=(seen,), outcome="diverged" if fails else "finished")

    monkeypatch.setattr(downpour_order, "run", fake)
    rows = table_of("downpour_order", capsys)
    judged = [row["reproduced"] for row in rows if "criterion" in row]
    assert len(judged) == 10
    assert set(judged) == {"yes" if works else "no"}
    assert [row["failures"] for row in rows[-8:]] == ["10 of 10", "0 of 10" if works else "10 of 10"] * 4
    assert [row["replicas"] for row in rows[-8:]] == [20] * 4 + [200] * 4


def test_a_tiny_run_is_as_late_as_its_workers_are_many(shared_data: Path):
    del shared_data
    report = runs.run(hp.Asgd(optimiser=hp.Sgd(0.1)), workers=3, batch=4, epochs=1, seed=0, size=TINY)
    assert report.outcome == "finished"
    assert 0.5 < report.mean_staleness <= 2.0


def test_a_tiny_run_of_equal_nodes_is_as_late_as_they_are_many_and_less_while_they_join(shared_data: Path, monkeypatch):
    del shared_data
    monkeypatch.setattr(mnist_staleness, "EPOCHS", 4)
    monkeypatch.setattr(mnist_staleness, "RAMP_EPOCHS", 2)
    ramped, bare = (mnist_staleness.once(0.01, 2, ramp_up, 0, TINY) for ramp_up in (True, False))
    assert ramped.outcome == bare.outcome == "finished"
    assert 1.0 < ramped.mean_staleness < bare.mean_staleness <= 2.0
    assert bare.mean_staleness > 1.7


def test_a_tiny_run_of_downpour_ends_at_its_cut_off(shared_data: Path, monkeypatch):
    del shared_data
    monkeypatch.setitem(downpour_order.CUT_OFF_S, 3, 2.0)
    monkeypatch.setitem(downpour_order.LOOK_S, 3, 1.0)
    report = downpour_order._timed(downpour_order.ADAGRAD, 3, 0.01, 0, TINY)
    assert report.outcome == "stopped"
    assert 2.0 <= report.points[-1].seconds < 7.0


def test_a_tiny_run_of_rounds_without_half_of_the_workers_drops_half_of_them(shared_data: Path):
    del shared_data
    scheme = hp.Custom(exchange=Local(2, hp.AdamW(0.001)), gate=Barrier(4), optimiser=hp.Nesterov(0.7, 0.9))
    report = diloco.once(scheme, 0, TINY)
    assert report.outcome == "finished"
    assert 25.0 < diloco.dropped(report) < 60.0
    assert 1.0 < diloco.perplexity(report) < 20.0


def test_a_tiny_run_with_a_backup_drops_what_its_report_says(shared_data: Path):
    del shared_data
    scheme = hp.BackupSync(optimiser=hp.Sgd(0.1), backups=1)
    report = runs.run(scheme, workers=3, batch=backup_workers.BATCH, epochs=1, seed=0, size=TINY)
    computed = sum(node.examples for node in report.nodes) // backup_workers.BATCH
    assert 0 < report.dropped < computed
    assert backup_workers.dropped(report) == pytest.approx(100 * report.dropped / computed)


def test_a_step_of_a_tiny_cluster_of_equal_nodes_takes_as_long_as_a_gradient(shared_data: Path, monkeypatch):
    del shared_data

    def equal(scheme, **scenario):
        changes = {"compute": hp.Compute(mean_s=0.05), "size": TINY, "look_every_s": 0.01}
        return runs.prepare(scheme, **scenario | changes)

    monkeypatch.setattr(backup_workers, "prepare", equal)
    for name, value in (("STEP_MEAN_S", 0.05), ("BEGIN_S", 0.6), ("STEPS", 6)):
        monkeypatch.setattr(backup_workers, name, value)
    assert backup_workers.step(2, 0, 0) == pytest.approx(1.0, abs=0.05)
