"""Seeds whose links are hard and break never: a server cannot be reached, by all others or by some, a transfer takes
longer than a node is patient, or names take their time. Where nothing else happens, every node ends in order.

Drawn by the seed's number, so that all other seeds are what they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hogpour.sim.report import SimulationReport
from hogpour.sim.scenario import Death, Firewall, Scenario

__all__ = ["CRAWLING", "are_hard", "hard_links_of", "slow_leavers", "with_hard_links"]

_SOME, _NAMES, CRAWLING = 1, 2, 3
"""Kinds of hard links; 0: nobody reaches a server."""

_CRAWL = 0.015e6
"""Bytes a second of a network on which a wide model takes longer than a node is patient."""


def hard_links_of(seed: int) -> int | None:
    """Return the kind of a seed's links; None: they are not hard."""
    return seed // 25 % 4 if seed % 25 == 5 else None


def with_hard_links(scenario: Scenario, kind: int, rng: np.random.Generator) -> Scenario:
    """Return the scenario with links of a kind."""
    if kind == CRAWLING:
        return replace(scenario, link=replace(scenario.link, bandwidth=_CRAWL, window_bytes=1024, reset_every_s=0.0))
    if kind == _NAMES:
        return replace(scenario, link=replace(scenario.link, look_up_s=float(rng.choice([0.5, 2.0, 5.0]))))
    if rng.random() < 0.7:  # nothing else
        link = replace(scenario.link, reset_every_s=0.0)
        scenario = replace(scenario, death=(), partition=(), pause=(), link=link)
    nodes, leaver = max(3, scenario.nodes), Death(at_s=1.0, nodes=(2,), kind="leave")
    count = int(rng.integers(1, nodes - 1)) if kind == _SOME else 0
    some = rng.choice(np.arange(2, nodes), count, replace=False).tolist() if count else ()
    # Connections that were made before stay.
    at_s, for_s = float(rng.choice([0.0, 0.6])), float(rng.choice([2.0, 1e3, 1e3]))
    wall = Firewall(at_s=at_s, for_s=for_s, nodes=(1,), sources=tuple(sorted(some)))
    compute = replace(scenario.compute, mean_s=1.0)  # so that the run is long
    return replace(scenario, nodes=nodes, serving=max(2, scenario.serving), firewall=(wall,), join_spread_s=0.0,
                   compute=compute, death=scenario.death if kind == _SOME else (*scenario.death, leaver))  # fmt: skip


def are_hard(scenario: Scenario) -> bool:
    """Whether this is such a scenario."""
    return bool(scenario.firewall or scenario.link.look_up_s or scenario.link.bandwidth == _CRAWL)


def slow_leavers(report: SimulationReport, within_s: float) -> Iterator[str]:
    """Tell who was asked to leave and was there for longer than so many seconds."""
    asked: dict[int, float] = {}
    for happening in report.happenings:
        if happening.text == "is asked to leave":
            asked.setdefault(happening.node, happening.seconds)
        elif happening.text.startswith("ends: ") and happening.node in asked:
            took_s = happening.seconds - asked.pop(happening.node)
            if took_s > within_s:
                yield f"ends: node {happening.node} was asked to leave, and was still there {took_s:.1f} s later"
