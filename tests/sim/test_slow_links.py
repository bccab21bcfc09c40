"""Clusters over slow links: a node joins, trains, and takes its leave before the first one ends, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

import hogpour as hp
from hogpour.core.job import ClusterConfig
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import LinkConditions, Scenario
from hogpour.sim.simulation import Simulation

PATIENT = {"connect_s": 5.0, "lease_s": 30.0, "give_up_s": 90.0, "stall_s": 90.0}


def run(delay_s: float, algorithm: Any, serving: int = 0, **cluster: float) -> SimulationReport:
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], epochs=60, batch=128, algorithm=algorithm,
                 cluster=ClusterConfig(**cluster))  # fmt: skip
    return Simulation(job, Scenario(nodes=2, serving=serving, link=LinkConditions(delay_s=delay_s),
                                    compute=hp.Compute(distribution="constant", mean_s=0.2))).run()  # fmt: skip


@pytest.mark.parametrize("serving", [0, 1])
@pytest.mark.parametrize("delay_s", [0.18, 0.45])
def test_a_node_joins_where_a_round_trip_takes_nearly_a_second(delay_s: float, serving: int) -> None:
    report = run(delay_s, hp.Downpour(n_push=4, n_fetch=4), serving)
    assert [(node.outcome, node.error) for node in report.nodes] == [("finished", "")] * 2
    assert report.nodes[1].examples > 1000


@pytest.mark.parametrize("serving", [0, 1])
@pytest.mark.parametrize("algorithm", [hp.Downpour(n_push=4, n_fetch=4), hp.LocalSgd(steps=16)], ids=["downpour", "local"])
def test_with_more_patience_one_joins_over_four_seconds_and_leaves_in_order(algorithm: Any, serving: int) -> None:
    """Connecting takes 12 s, and the end of a node some 30: the first one once waited 10 s for it."""
    report = run(2.0, algorithm, serving, **PATIENT)
    assert [(node.outcome, node.error) for node in report.nodes] == [("finished", "")] * 2
    assert report.nodes[1].examples > 1000
    assert report.repeated == 0


def test_without_it_the_error_says_how_long_was_waited() -> None:
    report = run(2.0, hp.Downpour())
    first = "10.0.0.0:7000"
    assert report.nodes[1].error == f"--join {first}: {first}: no answer to Join within 10 s: no connection within 1 s"


@pytest.mark.long
@pytest.mark.parametrize("serving", [0, 1])
def test_a_model_that_takes_longer_than_the_patience_trains_as_it_comes(serving: int) -> None:
    """As 6.5 MB at 0.7 MB/s, a tenth of each: 9 s, more than give_up_s, which was the time for a transfer as a whole."""
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(2160), hp.ReLU(), hp.Linear(10)],
                 epochs=6, batch=128, algorithm=hp.Downpour(n_push=4, n_fetch=4))  # fmt: skip
    scenario = Scenario(nodes=2, serving=serving, link=LinkConditions(bandwidth=0.07e6, window_bytes=26_000),
                        compute=hp.Compute(distribution="constant", mean_s=5.0))  # fmt: skip
    report = Simulation(job, scenario).run()
    assert [(node.outcome, node.error) for node in report.nodes] == [("finished", "")] * 2
    assert report.nodes[1].examples > 1000
