"""Who joins in the last seconds of a run, or one that is over: it hears so, and nobody waits for its data. Virtual time."""

from __future__ import annotations

from typing import Any

import pytest

import hogpour as hp
from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Death, NodeJoin, Scenario
from hogpour.sim.simulation import Simulation

LATE = "the run ended before this node was ready"


def run(algorithm: Any = None, **scenario: Any) -> SimulationReport:
    job = hp.Job(data=hp.load("digits"), model=[hp.Linear(10)], epochs=30, batch=128,
                 algorithm=algorithm or hp.Downpour(n_push=4, n_fetch=4))  # fmt: skip
    compute = hp.Compute(distribution="constant", mean_s=0.2)
    return Simulation(job, Scenario(nodes=1, compute=compute, **scenario)).run()


@pytest.mark.parametrize("serving", [False, True])
def test_a_node_that_reads_its_data_when_the_run_ends_has_failed_in_nothing(serving: bool) -> None:
    """It ended with 1: "the first node does not answer: no answer to Where within 7 s: connection refused"."""
    alone = run().seconds
    report = run(read_s=15.0, join=(NodeJoin(at_s=15.0 + alone - 3.0, serving=serving),))
    assert [(node.outcome, node.error) for node in report.nodes] == [("finished", ""), ("stopped", "")]
    assert report.seconds < 15.0 + alone + 3.0


@pytest.mark.parametrize("before_s", [0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
def test_whenever_it_joins_before_the_end_it_ends_in_order(before_s: float) -> None:
    alone = run().seconds
    report = run(join=(NodeJoin(at_s=alone - before_s),))
    assert {node.outcome for node in report.nodes} <= {"finished", "stopped"}
    assert report.nodes[0].outcome == "finished"


def test_a_run_that_failed_is_told_as_such() -> None:
    report = run(read_s=15.0, serving=0, join=(NodeJoin(at_s=1.0), NodeJoin(at_s=20.0)), death=(Death(at_s=22.0, nodes=(0,)),))
    assert report.nodes[2].outcome == "failed"
