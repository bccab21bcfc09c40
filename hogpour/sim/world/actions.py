"""Single actions in the order of their times, from the schedules of a scenario. Lazy: schedules may go on for ever.

Who dies of a fraction is drawn when it happens, from those that are alive then; see ``simulation``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from hogpour.sim.scenario import (
    Death,
    DiskFault,
    Firewall,
    NodeJoin,
    Partition,
    Pause,
    ReplicaDeath,
    ReplicaPause,
    Scenario,
    Scheduled,
    SecondRun,
    Slow,
)

__all__ = ["Action", "actions"]

Kind = Literal[
    "die", "kill_replica", "cut", "heal", "shut", "open", "pause", "go_on", "slow", "join", "full", "read_only",
    "disk_well", "second_run", "freeze", "thaw",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that happens."""

    at_s: float
    kind: Kind
    nodes: tuple[int, ...] = ()
    death: Death | None = None
    """die: how. With a fraction, ``nodes`` is empty."""
    number: float = 0.0
    """kill_replica, freeze, thaw: of the replica. cut, heal, shut, open: of the table, from 1. slow: times. join:
    nodes."""
    sources: tuple[int, ...] = ()
    """shut: the nodes that cannot connect; empty: all others."""
    serving: bool = False
    """join: the nodes serve shards, too."""


def actions(scenario: Scenario) -> Iterator[Action]:
    """Yield the actions of a scenario in the order of their times; of one time, in that of the file's tables."""
    s = scenario
    tables = (s.death, s.replica_death, s.partition, s.firewall, s.pause, s.replica_pause, s.slow, s.join,
              s.disk_fault, s.second_run)  # fmt: skip
    streams = [_of(entry, number) for table in tables for number, entry in enumerate(table, start=1)]
    return heapq.merge(*streams, key=lambda action: action.at_s)


def _of(entry: Scheduled, number: int) -> Iterator[Action]:
    """Yield the actions of one table, the ``number``-th of its kind. They are in order, since a spell ends before the
    next begins."""
    for at_s in _times(entry):
        match entry:
            case Death():
                yield Action(at_s, "die", entry.nodes, entry)
            case ReplicaDeath():
                yield Action(at_s, "kill_replica", (entry.node,), number=entry.replica)
            case Partition():
                yield Action(at_s, "cut", entry.nodes, number=number)
                yield Action(at_s + entry.for_s, "heal", entry.nodes, number=number)
            case Firewall():
                yield Action(at_s, "shut", entry.nodes, number=number, sources=entry.sources)
                yield Action(at_s + entry.for_s, "open", entry.nodes, number=number)
            case Pause():
                yield Action(at_s, "pause", entry.nodes)
                yield Action(at_s + entry.for_s, "go_on", entry.nodes)
            case ReplicaPause():
                yield Action(at_s, "freeze", entry.nodes, number=entry.replica)
                yield Action(at_s + entry.for_s, "thaw", entry.nodes, number=entry.replica)
            case Slow():
                yield Action(at_s, "slow", entry.nodes, number=entry.times)
                yield Action(at_s + entry.for_s, "slow", entry.nodes, number=1.0)
            case NodeJoin():
                yield Action(at_s, "join", number=entry.nodes, serving=entry.serving)
            case DiskFault():
                yield Action(at_s, entry.kind, entry.nodes)
                yield Action(at_s + entry.for_s, "disk_well", entry.nodes)
            case SecondRun():
                yield Action(at_s, "second_run")


def _times(scheduled: Scheduled) -> Iterator[float]:
    k = 0
    while (at_s := scheduled.first_s + k * scheduled.every_s) <= scheduled.until_s:
        yield at_s
        if not scheduled.every_s:
            return
        k += 1
