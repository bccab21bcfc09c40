"""Seeds whose machines all stand still at once, for longer than anybody is patient: a laptop that is closed, virtual
machines that are paused together. Nothing else happens to them, nothing is lost, and every node ends in order.

Drawn by the seed's number, so that all other seeds are what they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Pause, Scenario

__all__ = ["sleeps", "unrested", "with_sleep"]

_MEAN_S = 0.2
"""Of a gradient, so that all have joined before the run is over."""


def sleeps(seed: int) -> bool:
    """Whether machines do so in a seed. Of every 300 thirteen, of which one is of a batch method and some have a gate
    or are pulled; none that the ablations of other safeguards name."""
    return seed % 50 in (21, 40) or seed % 300 == 183


def with_sleep(scenario: Scenario, rng: np.random.Generator, length_s: float) -> Scenario:
    """Return the scenario with a sleep and nothing else that goes wrong.

    Args:
        length_s: how long the run computes, about.
    """
    at_s = float(rng.uniform(0.05, 1.2 * max(1.0, length_s * _MEAN_S / scenario.compute.mean_s)))
    stop_s = at_s - float(rng.uniform(0.0, 0.3)) if rng.random() < 0.5 else 0.0  # in the midst of the end
    night = Pause(at_s=at_s, for_s=float(rng.choice([4.0, 12.0, 30.0, 100.0])), nodes=tuple(range(scenario.nodes)))
    return replace(scenario, pause=(night,), stop_s=max(0.0, stop_s), join_spread_s=0.0,
                   link=replace(scenario.link, reset_every_s=0.0),
                   compute=replace(scenario.compute, mean_s=max(_MEAN_S, scenario.compute.mean_s)),
                   death=(), replica_death=(), partition=(), join=())  # fmt: skip


def unrested(scenario: Scenario, report: SimulationReport) -> Iterator[str]:
    """Tell who has not ended in order."""
    for node in report.nodes:
        if node.outcome != "finished" and not (scenario.stop_s and node.outcome == "stopped"):
            yield f"ends: node {node.node} slept, and {node.outcome}: {node.error}"
