"""The sweep finds nothing, and finds what is wrong when a safeguard is switched off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.reference_lbfgs import minimise

from hogpour.algos.exchange.base import Traffic
from hogpour.algos.optim.nesterov import Nesterov
from hogpour.algos.optim.sgd import Sgd
from hogpour.algos.schemes.sandblaster import Sandblaster
from hogpour.core.job import Job
from hogpour.sim.checks import sweep
from hogpour.sim.checks.ablations import ABLATIONS
from hogpour.sim.checks.sandblaster_sweep import Serial, serial_of
from hogpour.sim.checks.sweep import run_seed, scenario_of
from hogpour.sim.simulation import Simulation
from hogpour.sim.world import workload as sim_workload
from hogpour.sim.world.loop import Stuck
from hogpour.sim.world.workload import Workload

SEEDS, AT_ONCE = 200, 20

BATCH = {"sum once", "sum of now", "given again", "its point", "still"}
"""Safeguards of batch methods."""

PULLED = {"pull", "added", "frozen pull", "riding", "rounds", "drain", "landed whole"}
"""Safeguards of elastic exchanges."""


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_seed_breaks_a_promise(first: int) -> None:
    findings = [run_seed(seed) for seed in range(first, first + AT_ONCE)]
    broken = [f"{finding.replay()}: {finding.violations[0]}" for finding in findings if finding.violations]
    assert broken == []


@pytest.mark.long
@pytest.mark.parametrize("name", ABLATIONS)
def test_without_a_safeguard_its_seed_fails(name: str) -> None:
    """And with it the seed passes: those that were found broken by the sweep are among them (run, attempt, stale, before)."""
    ablation = ABLATIONS[name]
    assert run_seed(ablation.seed).violations == ()
    violations = run_seed(ablation.seed, name).violations
    shown = [text.partition(" s: ")[2] if text.startswith("at ") else text for text in violations]
    assert any(text.startswith(ablation.shows) for text in shown), violations


def test_seeds_differ_and_one_seed_is_the_same_again() -> None:
    """Every kind of misfortune is in the first hundred; the choices depend on the seed alone."""
    scenarios = [scenario_of(seed) for seed in range(100)]
    assert [scenario_of(seed) for seed in range(5)] == scenarios[:5]
    for name in ("death", "replica_death", "partition", "pause", "slow", "join", "slow_link"):
        assert sum(bool(getattr(scenario, name)) for scenario, _ in scenarios) >= 5, name
    assert {0, 1} <= {min(death.nodes) for scenario, _ in scenarios for death in scenario.death}
    assert len({job.cluster.shard_bytes for _, job in scenarios}) == 3
    assert 5 <= sum(len(job.model) == 2 for _, job in scenarios) <= 30
    first, again = run_seed(3), run_seed(3)
    assert first.report is not None
    assert first == again


def test_every_eighth_seed_is_pulled_with_momentum_or_without() -> None:
    """Where nothing else is drawn: the traces of all others are what they were before there was any."""
    found = {seed: scenario_of(seed)[1].algorithm for seed in range(400)}
    pulled = {seed: scheme for seed, scheme in found.items() if scheme.choices().exchange.traffic is Traffic.PULLED}
    assert 40 <= len(pulled) <= 60
    assert {type(scheme.optimiser) for scheme in pulled.values()} == {Sgd, Nesterov}
    assert not pulled.keys() & {ablation.seed for name, ablation in ABLATIONS.items() if name not in PULLED}


def test_every_twentieth_seed_is_of_a_batch_method() -> None:
    """Those that the ablations of other kinds name are what they were before there was any."""
    found = {seed: scenario_of(seed)[1].algorithm for seed in range(2000)}
    batch = {seed: scheme for seed, scheme in found.items() if isinstance(scheme, Sandblaster)}
    assert list(batch) == list(range(3, 2000, 20))
    assert not batch.keys() & {ablation.seed for name, ablation in ABLATIONS.items() if name not in BATCH}
    for name in ("blocks", "memory", "l2", "subset", "iterations", "copies"):
        assert len({getattr(scheme, name) for scheme in batch.values()}) > 1, name


@pytest.mark.parametrize("seed", [23, 63, 103, 143])
def test_the_serial_run_of_a_batch_method_is_that_of_the_ruler(seed: int) -> None:
    workload = sweep._workload(scenario_of(seed)[1])
    params, values = minimise(workload)
    serial = serial_of(workload)
    assert list(serial.points) == list(range(len(values)))
    assert serial.final == params.tobytes()


def test_a_point_that_is_not_of_the_serial_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = next(s for s in range(3, 2000, 20) if not any(_misfortunes(s)))
    right = serial_of(sweep._workload(scenario_of(seed)[1]))
    last = max(right.points)
    wrong = Serial(right.points | {last: right.begin}, right.begin)
    monkeypatch.setattr(sweep, "serial_of", lambda _: wrong)
    at_s, *end = run_seed(seed).violations
    assert at_s.endswith(f" s: bits: iteration {last} is another point than the serial run")
    assert end[0] == "bits: the shards end with other parameters than the serial run"
    assert end[1] == "bits: node 0 ends with other parameters than the serial run"


def test_pulls_are_counted_in_the_shards() -> None:
    """In a pulled seed without any misfortune every batch is in the shards once, in the part that its pull took."""
    seed = next(s for s in range(1000) if scenario_of(s)[1].algorithm.choices().exchange.traffic is Traffic.PULLED and not any(_misfortunes(s)))
    finding = run_seed(seed)
    assert finding.violations == ()
    assert finding.report is not None
    assert (finding.report.outcome, finding.report.repeated) == ("finished", 0)


def test_batches_are_counted_in_the_shards() -> None:
    """In a seed without any misfortune every batch is in the shards exactly once."""
    seed = next(s for s in range(100) if not any(_misfortunes(s)))
    finding = run_seed(seed)
    assert finding.violations == ()
    assert finding.report is not None
    assert finding.report.outcome == "finished"
    assert finding.report.repeated == 0


def _misfortunes(seed: int) -> tuple[object, ...]:
    s = scenario_of(seed)[0]
    return (*s.death, *s.replica_death, *s.partition, *s.pause, *s.slow, *s.join, *s.slow_link, s.link.reset_every_s)


def test_every_scheme_is_run_once_before_virtual_time_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an empty kernel cache four of the first thirty seeds once compiled in virtual time, which is no promise
    that was broken: they took the kernels of the first seed for their own."""
    made: list[Job] = []

    def workload_of(job: Job) -> Workload:
        made.append(job)
        return sim_workload.workload_of(job)

    monkeypatch.setattr(sweep, "_workloads", {})
    monkeypatch.setattr(sweep, "workload_of", workload_of)
    jobs = [scenario_of(seed)[1] for seed in range(100)]
    for job in jobs:
        assert sweep._workload(job).job.algorithm == job.algorithm
    wanted = {(len(job.model), job.algorithm) for job in jobs}
    assert len(made) == len(wanted)
    assert {(len(job.model), job.algorithm) for job in made} == wanted


def test_a_run_that_does_not_end_is_told() -> None:
    scenario, job = scenario_of(0)
    with pytest.raises(Stuck, match=r"^the simulation has not ended after 1 virtual seconds; nodes that"):
        Simulation(job, replace(scenario, until_s=1.0, death=())).run()
    assert np.isfinite(scenario.until_s)
