"""The gatekeeper: the part of the coordinator that decides which gradients count in a step, and who waits for whom.

It sees no gradient, only that one has arrived at all shards. A step is decided here once for all shards, and told to
the servers in one stated order; when each of them has applied it, the origins hear of it and fetch. So a shard that is
slow holds a step up, and shards never disagree about what is in it.

    origin → every shard     Push: held            servers apply nothing yet
    origin → coordinator     Arrive                from here on the origin may die: its gradient is everywhere
    coordinator → servers    Commit                the step, in the order of the sum
    coordinator → origin     Arrived               counted, or too late; then it fetches

The order of these is what makes deaths harmless. An origin that dies before it arrives is in no step, whatever shards
hold of it; a server frees that with its next step, since no step decided after the death can count it. A shard that
moves takes what it holds along, and a step is told again, by a newer map, until every shard has it.

Before the first step a cluster may wait for a number of nodes (``muster``): that step is made when all of their
replicas take part. Otherwise a run begins with whoever is there, and its first steps are made of few gradients, at the
whole rate.

Whoever has no more data is not waited for, and at the end of a run steps are made of fewer and fewer gradients. The
rate is one for the mean of all: at the whole of it the last ones, of a gradient each, would undo what the run has
learned (with 4 of 6 workers and b = 2, an error of 12.5 % became 67 % within the last blocks). So such a step moves by
its share: what N gradients make of the mean, where the others are zero. The dead and those who left have none.

A gate that makes no steps, but bounds how far ahead of the slowest an origin may be, needs its clocks only.

Whoever takes part and does nothing, while others wait, is counted out when that takes too long (``overdue``), as if it
had no more data, and in again with its next gradient. So no gate waits for a process that is stopped.

Knows no sockets; what an origin waits for is a future.
"""
from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from hogpour.algos.gate.base import Gate
from hogpour.cluster.overdue import StallLimit
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.node_id import display_id
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Requests
from hogpour.net.wire.gate import Arrive, Arrived

__all__ = ["MOST_REPLICAS", "Gatekeeper", "Origin", "drop_node"]

MOST_REPLICAS = 1024
"""Replicas of a member that may take part in a gate."""

Origin = tuple[int, int]
"""Incarnation of a node, and a replica of it."""


class Gatekeeper:
    """Knows which origins take part. By itself it keeps the gate that is always open: nobody is asked to, or waits.

    Args:
        gate: decides how many.
        step: clock of all shards at the beginning.
        shard_map: returns the newest one.
        peers: whom to ask at an address.
        log: told what happened, a line each time.
        fail: told why the cluster cannot go on.
        clock: the time.
        stall_s: see ``StallLimit``.
        complete: says whether so many origins are enough for a first step.

    Attributes:
        step: decided so far; the clock of the shards as soon as all have the newest one.
        still: held while a step is applied. Whoever holds it sees all shards at one clock.
        dropped: gradients that arrived too late.
    """

    most_replicas: ClassVar[int] = 0
    """Replicas of a member that may take part."""

    def __init__(
        self,
        gate: Gate,
        step: int,
        *,
        shard_map: Callable[[], ShardMap],
        peers: Callable[[str], Requests],
        log: Callable[[str], None],
        fail: Callable[[str], None],
        clock: Callable[[], float],
        stall_s: float,
        complete: Callable[[int], bool] = lambda present: True,
    ) -> None:
        self._gate, self.step, self.dropped = gate, step, 0
        self._complete, self._begun = complete, False
        self._map, self._peers, self._log, self._fail = shard_map, peers, log, fail
        self.still = asyncio.Lock()
        self._present: dict[Origin, int] = {}  # → its clock, where a gate bounds how far ahead it may be
        self._left: dict[Origin, int] = {}  # clocks of those who may take part again
        self._clock, self._patience = clock, StallLimit(stall_s)
        self._moved: dict[Origin, float] = {}  # → when it came, sent a gradient, or was told of one
        self._stalled: set[Origin] = set()  # of those who left: they were counted out

    @property
    def present(self) -> int:
        """Origins that take part."""
        return len(self._present)

    def attend(self, node: int, replica: int, present: bool) -> asyncio.Future[None] | None:
        """Count an origin in, or out; saying it again changes nothing.

        Returns:
            What whoever comes waits for before it fetches: the parameters of a step that is being applied would be
            late before their gradient is there. None: nothing.
        """
        origin = node, replica
        if origin in self._stalled:
            self._stalled.discard(origin)
            self._log(f"replica {replica} of node {display_id(node)} is back")
        if present and origin not in self._present:
            self._moved[origin] = self._clock()
            self._present[origin] = max(self._left.pop(origin, 0), min(self._present.values(), default=0))
        elif not present:
            if origin in self._present:
                self._left[origin] = self._present.pop(origin)
            self._look()
        return None

    def arrive(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        """Take in that a gradient has arrived; return what becomes of it, or a future that will tell."""
        raise RequestFailed(Refusal.WRONG, "the scheme has no gate, nothing arrives at one")

    def forget(self, node: int) -> None:
        """Count every origin of a node out, because it is dead or has left; nobody waits for it any more."""
        self._stalled = {origin for origin in self._stalled if origin[0] != node}
        drop_node(self._present, node)
        self._drop(node)
        drop_node(self._left, node)
        drop_node(self._moved, node)
        self._look()

    def possible(self, step: int) -> bool:
        """Return whether a gradient can have been computed on parameters of this clock."""
        return step >= 0

    def tick(self) -> None:
        """Count out who is waited for in vain; raise what went wrong in a step: a bug."""
        limit_s = self._patience.limit_s
        for origin, seconds in self.waits()[1]:
            if seconds > limit_s:
                self._log(f"replica {origin[1]} of node {display_id(origin[0])} has done nothing for {seconds:.1f} s: "
                          "others wait for it no longer")  # fmt: skip
                self.attend(*origin, False)
                self._stalled.add(origin)

    def waits(self) -> tuple[set[int], list[tuple[Origin, float]]]:
        """Return the nodes that wait for others, and which origins for, each with the seconds that it did nothing."""
        (waiting, beside), now = self._waits(), self._clock()
        return waiting, [(one, now - self._moved[one]) for one in self._present if waiting and one not in beside]

    def held_up(self) -> set[int]:
        """Return the nodes that wait for others, and that nobody waits for."""
        waiting, origins = self.waits()
        return waiting - {node for (node, _), _ in origins}

    def _waits(self) -> tuple[set[int], Collection[Origin]]:
        return set(), ()  # the nodes that wait, and the origins that are not waited for

    def _move(self, origin: Origin) -> None:
        """Note that an origin has sent a gradient, and let it take part again if it was counted out."""
        if origin in self._stalled:
            self.attend(*origin, True)
        elif origin in self._present:
            self._patience.note(self._clock() - self._moved[origin])
        self._let_go(origin)

    def _let_go(self, origin: Origin) -> None:
        if origin in self._present:
            self._moved[origin] = self._clock()

    async def close(self) -> None:
        """Drop what is under way."""

    def _look(self) -> None:
        """Decide what can be decided, now that others take part or have arrived."""

    def _drop(self, node: int) -> None:
        """Forget what came from a node."""


def drop_node(books: dict[Origin, Any], node: int) -> None:
    """Remove every origin of a node from books about origins."""
    for origin in [origin for origin in books if origin[0] == node]:
        del books[origin]
