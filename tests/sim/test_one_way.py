"""Nodes that speak and cannot be spoken to: a firewall before the port of a node that would serve, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

import hogpour as hp
from hogpour.core.job import ClusterConfig
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Death, Firewall, LinkConditions, Scenario
from hogpour.sim.simulation import Simulation


def run(algorithm: Any = None, epochs: int = 30, **scenario: Any) -> SimulationReport:
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], epochs=epochs, batch=128,
                 algorithm=algorithm or hp.Downpour(n_push=4, n_fetch=4), cluster=ClusterConfig(shard_bytes=256))  # fmt: skip
    compute = hp.Compute(distribution="constant", mean_s=0.2)
    return Simulation(job, Scenario(nodes=4, join_spread_s=0.0, compute=compute, **scenario)).run()


def said(report: SimulationReport, text: str) -> list[float]:
    return [happening.seconds for happening in report.happenings if text in happening.text]


def test_a_firewalled_server_keeps_no_other_from_serving_and_leaving() -> None:
    """Its heartbeats got through, and its port did not: a server that was asked to leave was still there 110 s later."""
    report = run(serving=2, firewall=(Firewall(at_s=0.0, for_s=1e6, nodes=(1,)),),
                 death=(Death(at_s=10.0, nodes=(2,), kind="leave"),))  # fmt: skip
    assert [node.outcome for node in report.nodes] == ["finished", "finished", "stopped", "finished"]
    assert len(said(report, "10.0.0.1:7000, node 2, cannot be reached from here: firewall? it computes only")) == 1
    (left,) = said(report, "ends: stopped")
    assert 10.0 < left < 12.0
    assert report.nodes[1].examples > 1000


def test_a_firewall_that_opens_lets_a_server_serve() -> None:
    report = run(serving=1, firewall=(Firewall(at_s=0.0, for_s=8.0, nodes=(1,)),))
    (at_s,) = said(report, "can be reached now")
    assert 8.0 < at_s < 12.0
    assert {node.outcome for node in report.nodes} == {"finished"}


@pytest.mark.parametrize("algorithm", [hp.Downpour(n_push=4, n_fetch=4), hp.Ssgd(), hp.Easgd()], ids=["downpour", "ssgd", "easgd"])
def test_a_member_that_cannot_reach_a_server_goes_on_with_shards_elsewhere(algorithm: Any) -> None:
    """It ended after 7 s: "node 2, which serves shards, does not answer", while all others reached it."""
    report = run(algorithm, serving=2, firewall=(Firewall(at_s=0.0, for_s=1e6, nodes=(1,), sources=(3,)),))
    assert [(node.outcome, node.error) for node in report.nodes] == [("finished", "")] * 4
    assert said(report, "node 2 (10.0.0.1:7000) cannot be reached by node 4 (10.0.0.3): firewall? its shards go to others")
    assert report.nodes[3].examples > 1000


def test_two_servers_that_cannot_reach_each_other_give_shards_to_those_who_can() -> None:
    wall = (Firewall(at_s=0.0, for_s=1e6, nodes=(1, 2), sources=(1, 2)),)
    report = run(serving=2, firewall=wall, death=(Death(at_s=10.0, nodes=(2,), kind="leave"),))
    assert [(node.outcome, node.error) for node in report.nodes][:2] == [("finished", "")] * 2
    assert report.nodes[2].outcome == "stopped"


def test_a_resolver_that_takes_five_seconds_keeps_nobody_out() -> None:
    report = run(serving=1, link=LinkConditions(look_up_s=5.0))
    assert [(node.outcome, node.error) for node in report.nodes] == [("finished", "")] * 4
    assert min(node.examples for node in report.nodes) > 0
