"""Clusters that wait for their nodes, whole and in virtual time: what the first steps of a synchronous scheme are."""

from __future__ import annotations

from typing import Any

import pytest

import hogpour as hp
from hogpour.core.job import ClusterConfig
from hogpour.server.gated_step import GatedStep
from hogpour.server.shard import Shard
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Death, LinkConditions, NodeJoin, Scenario
from hogpour.sim.simulation import Simulation

QUICK = hp.Compute(distribution="constant", mean_s=0.001)
"""The fastest would have made many steps before the next node has joined."""


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many gradients each step was made of."""
    seen: list[int] = []
    count_step = Shard.count_step

    def count(shard: Shard, step: GatedStep) -> None:
        seen.append(len(step.pushes))
        count_step(shard, step)

    monkeypatch.setattr(Shard, "count_step", count)
    return seen


def run(algorithm: Any, wait_for: int, *, epochs: int = 1, batch: int = 16, **scenario: Any) -> SimulationReport:
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], epochs=epochs, batch=batch, algorithm=algorithm,
                 cluster=ClusterConfig(wait_for=wait_for, wait_for_s=60.0))  # fmt: skip
    return Simulation(job, Scenario(**{"compute": QUICK, "join_spread_s": 5.0} | scenario)).run()


@pytest.mark.parametrize("delay_s", [0.0, 0.0002, 0.1])
@pytest.mark.parametrize("replicas", [1, 2])
def test_steps_are_of_all_nodes_from_the_first_one_on(delay_s: float, replicas: int, sizes: list[int]) -> None:
    link = LinkConditions(delay_s=delay_s)
    assert run(hp.Ssgd(), 4, nodes=4, replicas=replicas, link=link).outcome == "finished"
    assert sizes[:5] == [4 * replicas] * 5


def test_without_it_a_run_begins_with_whoever_is_there(sizes: list[int]) -> None:
    run(hp.Ssgd(), 1, nodes=4)
    assert set(sizes) == {1}


def test_so_are_those_of_a_scheme_that_waits_for_half_of_them(sizes: list[int]) -> None:
    run(hp.Softsync(n=2), 4, nodes=4)
    assert set(sizes[:10]) == {2}


@pytest.mark.parametrize("algorithm", [hp.Downpour(), hp.Sandblaster(iterations=3), hp.Easgd(), hp.Ssp()], ids=str)
def test_nobody_trains_before_all_are_there_whatever_the_scheme(algorithm: Any) -> None:
    report = run(algorithm, 3, nodes=2, join=(NodeJoin(at_s=20.0),), epochs=10)
    assert report.outcome == "finished"
    assert next(point.seconds for point in report.points if point.examples) > 20.0
    texts = [(one.node, one.text) for one in report.happenings]
    for node in (0, 1):
        assert (node, "waiting for nodes: 2 of 3 are ready") in texts
    assert (0, "3 nodes are ready: training begins") in texts


def test_whoever_dies_while_the_others_are_waited_for_is_waited_for_too(sizes: list[int]) -> None:
    death = Death(at_s=4.0, nodes=(1,), back_s=10.0)
    assert run(hp.Ssgd(), 4, nodes=4, death=(death,), join_spread_s=10.0).outcome == "finished"
    assert sizes[:5] == [4] * 5


def test_more_nodes_than_blocks_begin_nevertheless(sizes: list[int]) -> None:
    report = run(hp.Ssgd(), 4, nodes=4, batch=2000)
    assert (report.outcome, sizes) == ("finished", [1])


@pytest.mark.parametrize("algorithm", [hp.Ssgd(), hp.Sandblaster()], ids=str)
def test_nodes_that_do_not_come_are_given_up_and_a_stop_does_not_wait_for_them(algorithm: Any) -> None:
    report = run(algorithm, 3, nodes=2)
    text = "2 of 3 nodes were ready within 60 s; start the others, or lower cluster.wait_for = 3"
    assert (report.outcome, report.error) == ("failed", text)
    assert [node.outcome for node in report.nodes] == ["failed", "failed"]
    report = run(algorithm, 3, nodes=2, stop_s=9.0)
    assert (report.outcome, report.seconds) == ("stopped", pytest.approx(9.0, abs=0.5))
    assert report.nodes[1].outcome == "stopped"


def test_a_resumed_run_waits_again(sizes: list[int]) -> None:
    """The first node dies in the midst of it, and the others with it; all come back, one after the other."""
    deaths = tuple(Death(at_s=8.0, nodes=(node,), back_s=2.0 + 5 * node) for node in range(3))
    compute = hp.Compute(distribution="constant", mean_s=0.05)
    report = run(hp.Ssgd(), 3, nodes=3, death=deaths, compute=compute, epochs=20)
    assert report.outcome == "finished"
    begun = [one.seconds for one in report.happenings if one.text == "3 nodes are ready: training begins"]
    assert [int(seconds) // 10 for seconds in begun] == [0, 2]
