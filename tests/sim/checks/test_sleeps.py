"""When the sweep lets all machines stand still at once."""

from __future__ import annotations

from hogpour.algos.exchange.base import Traffic
from hogpour.sim.checks.ablations import ABLATIONS
from hogpour.sim.checks.sleeps import sleeps
from hogpour.sim.checks.sweep import scenario_of


def test_all_machines_stand_still_and_nothing_else_happens() -> None:
    found = {seed: scenario_of(seed) for seed in range(1200) if sleeps(seed)}
    assert len(found) == 52
    for scenario, _ in found.values():
        (pause,) = scenario.pause
        assert pause.nodes == tuple(range(scenario.nodes))
        assert not any([scenario.death, scenario.partition, scenario.firewall, scenario.disk_fault, scenario.link.reset_every_s])
    assert 15 <= sum(scenario.stop_s > 0 for scenario, _ in found.values()) <= 37
    kinds = [job.algorithm.choices() for _, job in found.values()]
    assert any(kind.gate.closes for kind in kinds)
    assert {kind.exchange.traffic for kind in kinds} == set(Traffic) - {Traffic.NONE}


def test_no_ablation_of_another_safeguard_looks_there() -> None:
    assert {name for name, one in ABLATIONS.items() if sleeps(one.seed)} == {"asleep", "patience"}
