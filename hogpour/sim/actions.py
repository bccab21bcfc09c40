"""Single actions in the order of their times, from the schedules of a scenario. Lazy: schedules may go on for ever.

Who dies of a fraction is drawn when it happens, from those that are alive then; see ``simulation``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hogpour.sim.scenario import Death, Scenario, Scheduled

__all__ = ["Action", "actions"]

Kind = Literal["die", "start", "kill_replica", "cut", "heal", "pause", "go_on", "slow", "join"]


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that happens."""

    at_s: float
    kind: Kind
    nodes: tuple[int, ...] = ()
    death: Death | None = None
    """die: how. With a fraction, ``nodes`` is empty."""
    number: float = 0.0
    """kill_replica: of the replica. cut, heal: of the partition, from 1. slow: times from now on. join: nodes."""
    serving: bool = False
    """start, join: the nodes serve shards, too."""


def actions(scenario: Scenario) -> Iterator[Action]:
    """Yield the actions of a scenario in the order of their times; of one time, in that of the file's tables."""
    streams = [
        *(map(_die, _times(d), _forever(d)) for d in scenario.death),
        *((Action(t, "kill_replica", (d.node,), number=d.replica) for t in _times(d)) for d in scenario.replica_death),
        *(
            stream
            for k, p in enumerate(scenario.partition)
            for stream in (
                (Action(t, "cut", p.nodes, number=k + 1) for t in _times(p)),
                (Action(t + p.for_s, "heal", p.nodes, number=k + 1) for t in _times(p)),
            )
        ),
        *(
            stream
            for p in scenario.pause
            for stream in (
                (Action(t, "pause", p.nodes) for t in _times(p)),
                (Action(t + p.for_s, "go_on", p.nodes) for t in _times(p)),
            )
        ),
        *(
            stream
            for s in scenario.slow
            for stream in (
                (Action(t, "slow", s.nodes, number=s.times) for t in _times(s)),
                (Action(t + s.for_s, "slow", s.nodes, number=1.0) for t in _times(s)),
            )
        ),
        *((Action(t, "join", number=j.nodes, serving=j.serving) for t in _times(j)) for j in scenario.join),
    ]
    return heapq.merge(*streams, key=lambda action: action.at_s)


def _die(at_s: float, death: Death) -> Action:
    return Action(at_s, "die", death.nodes, death)


def _forever(death: Death) -> Iterator[Death]:
    while True:
        yield death


def _times(scheduled: Scheduled) -> Iterator[float]:
    k = 0
    while (at_s := scheduled.first_s + k * scheduled.every_s) <= scheduled.until_s:
        yield at_s
        if not scheduled.every_s:
            return
        k += 1
