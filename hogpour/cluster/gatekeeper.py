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
from dataclasses import dataclass
from typing import Any, ClassVar

from hogpour.algos.gate.base import Gate
from hogpour.cluster.every_shard import ask_every_shard
from hogpour.cluster.overdue import StallLimit
from hogpour.core.errors import RequestFailed
from hogpour.core.node_id import display_id
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Requests
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive, Arrived, Commit, Counted

__all__ = ["MOST_REPLICAS", "Gatekeeper", "LeadGatekeeper", "StepGatekeeper", "keeper_of"]

_COMMIT_S = 10.0
"""For a server to apply a step. One that is dead ends the run long before, by its lease."""

_REMEMBERED = 64
"""Outcomes of one origin that are remembered, for answers that were lost: more than it can wait for."""

MOST_REPLICAS = 1024
"""Replicas of a member that may take part in a gate."""

Origin = tuple[int, int]
"""Incarnation of a node, and a replica of it."""


@dataclass(slots=True)
class _Arrival:
    """A gradient that every shard holds."""

    node: int
    replica: int
    sequence: int
    step: int
    decided: asyncio.Future[Arrived]


def keeper_of(gate: Gate) -> type[Gatekeeper]:
    """Return the class that keeps such a gate."""
    if gate.holds:
        return StepGatekeeper
    return LeadGatekeeper if gate.closes else Gatekeeper


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
        raise NotImplementedError("nothing arrives at an open gate")

    def forget(self, node: int) -> None:
        """Count every origin of a node out, because it is dead or has left; nobody waits for it any more."""
        self._stalled = {origin for origin in self._stalled if origin[0] != node}
        _drop(self._present, node)
        self._drop(node)
        _drop(self._left, node)
        _drop(self._moved, node)
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


class StepGatekeeper(Gatekeeper):
    """Makes steps of gradients that wait at the servers."""

    most_replicas = MOST_REPLICAS

    def __init__(self, gate: Gate, step: int, **surroundings: Any) -> None:
        super().__init__(gate, step, **surroundings)
        self._pool: dict[tuple[int, int, int], _Arrival] = {}  # in the order of arrival
        self._deciding: dict[tuple[int, int, int], _Arrival] = {}  # of the step that is being applied
        self._settled: list[tuple[asyncio.Future[Any], Any]] = []  # who waits for that step, for which answer
        self._outcomes: dict[Origin, dict[int, Arrived]] = {}
        self._committing: asyncio.Task[None] | None = None
        self._failed = False

    def attend(self, node: int, replica: int, present: bool) -> asyncio.Future[None] | None:
        super().attend(node, replica, present)
        return self._when_settled(None) if present and self._committing is not None else None

    def _when_settled(self, answer: Any) -> asyncio.Future[Any]:
        """Return a future of an answer that comes when the step is applied that is decided on."""
        later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._settled.append((later, answer))
        return later

    def possible(self, step: int) -> bool:
        return 0 <= step <= self.step

    def arrive(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        origin, key = (arrive.node, arrive.replica), (arrive.node, arrive.replica, arrive.sequence)
        if (there := self._pool.get(key) or self._deciding.get(key)) is not None:
            return there.decided
        known = self._outcomes.setdefault(origin, {})
        if arrive.sequence in known:
            answer = known[arrive.sequence]
            waits = answer.outcome == LATE and self._committing is not None
            return self._when_settled(answer) if waits else answer
        self._move(origin)
        if self._gate.is_late(arrive.step, self.step):
            self.dropped += 1
            late = self._note(origin, arrive.sequence, Arrived(LATE, self.step - arrive.step))
            # Told at once, its origin would fetch what is late again, as long as the step takes to be applied.
            return late if self._committing is None else self._when_settled(late)
        decided: asyncio.Future[Arrived] = asyncio.get_running_loop().create_future()
        self._pool[key] = _Arrival(*key, arrive.step, decided)
        self._look()
        if key in self._pool and not self._gate.detains(len(self._pool), self.present):
            return Arrived(UNDECIDED, 0)  # its origin goes on meanwhile, and asks again; not while a step is held up
        return decided

    def _look(self) -> None:
        if self._committing is not None or self._failed or not (self._begun or self._complete(self.present)):
            return
        arrivals = self._gate.choose(list(self._pool.values()), self.present)
        if not arrivals:
            return
        for one in arrivals:
            key = one.node, one.replica, one.sequence
            self._deciding[key] = self._pool.pop(key)
        step, self.step, self._begun = self.step, self.step + 1, True
        self._committing = asyncio.get_running_loop().create_task(self._commit(step, arrivals, self._share(arrivals)))
        self._committing.add_done_callback(self._committed)

    def _drop(self, node: int) -> None:
        for key in [key for key in self._pool if key[0] == node]:
            self._pool.pop(key).decided.cancel()
        _drop(self._outcomes, node)

    def _share(self, arrivals: list[_Arrival]) -> float:
        """Return what of the rate a step of these is worth."""
        return min(1.0, len(arrivals) / self._gate.needed(len(self._present) + len(self._left)))

    async def _commit(self, step: int, arrivals: list[_Arrival], share: float) -> None:
        """Have every shard apply a step, then let its origins know."""
        counted = [Counted(one.node, one.replica, one.sequence, max(0, step - one.step)) for one in arrivals]
        async with self.still:
            try:
                await ask_every_shard(
                    self._map, self._peers, lambda shards: Commit(step, shards, counted, share),
                    what=f"step {step}", deadline_s=_COMMIT_S, log=self._log,
                )  # fmt: skip
            except RequestFailed as error:
                self._failed = True
                self._fail(str(error))
                return
        for one, what in zip(arrivals, counted, strict=True):
            self._let_go((one.node, one.replica))
            answer = self._note((one.node, one.replica), one.sequence, Arrived(COUNTED, what.staleness))
            if not one.decided.done():
                one.decided.set_result(answer)

    def _committed(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is not None:
            return  # ``tick`` raises it
        self._committing = None
        self._deciding.clear()
        settled, self._settled = self._settled, []
        for later, answer in settled:
            if not later.done():
                later.set_result(answer)
        self._look()

    def _note(self, origin: Origin, sequence: int, answer: Arrived) -> Arrived:
        """Remember an outcome, should the answer be lost."""
        if origin in self._outcomes:  # else it is gone
            known = self._outcomes[origin]
            known[sequence] = answer
            if len(known) > _REMEMBERED:
                del known[next(iter(known))]
        return answer

    def tick(self) -> None:
        super().tick()
        if self._committing is not None and self._committing.done():
            self._committing.result()
        if not self._begun:  # the last one that was waited for may be gone, have no block, or do nothing
            latest = self._clock() - self._patience.limit_s
            self._begun = any(self._moved.get(key[:2], latest) < latest for key in self._pool)
            self._look()

    def _waits(self) -> tuple[set[int], Collection[Origin]]:
        pool = [key[:2] for key in self._pool] if self._committing is None else []
        return {node for node, _ in pool}, pool

    async def close(self) -> None:
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait([self._committing])  # no deadline: a request that is cancelled ends
        for one in (*self._pool.values(), *self._deciding.values()):
            one.decided.cancel()
        for later, _ in self._settled:
            later.cancel()


class LeadGatekeeper(Gatekeeper):
    """Lets no origin get further ahead of the slowest than its gate allows."""

    most_replicas = MOST_REPLICAS

    def __init__(self, gate: Gate, step: int, **surroundings: Any) -> None:
        super().__init__(gate, step, **surroundings)
        self._heard: dict[Origin, int] = {}  # → highest sequence that has arrived
        self._waiting: dict[Origin, asyncio.Future[Arrived]] = {}  # those that are too far ahead

    def arrive(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        origin = arrive.node, arrive.replica
        if arrive.sequence > self._heard.get(origin, 0):
            self._heard[origin] = arrive.sequence
            if origin in self._present:
                self._present[origin] += 1
                self._look()
            self._move(origin)
        if self._may_go(origin, min(self._present.values(), default=0)):
            return Arrived(COUNTED, 0)
        waiting = self._waiting.get(origin)
        if waiting is None:
            waiting = self._waiting[origin] = asyncio.get_running_loop().create_future()
        return waiting

    def _waits(self) -> tuple[set[int], Collection[Origin]]:
        least = min(self._present.values(), default=0)
        return {node for node, _ in self._waiting}, [one for one, clock in self._present.items() if clock > least]

    def _look(self) -> None:
        least = min(self._present.values(), default=0)
        for origin in list(self._waiting):
            if self._may_go(origin, least):
                self._go_on(origin)

    def _drop(self, node: int) -> None:
        for origin in [origin for origin in self._waiting if origin[0] == node]:
            self._go_on(origin)
        _drop(self._heard, node)

    def _may_go(self, origin: Origin, least: int) -> bool:
        ahead, clock = self._gate.ahead(), self._present.get(origin)
        return ahead is None or clock is None or clock - least <= ahead

    def _go_on(self, origin: Origin) -> None:
        self._let_go(origin)
        waiting = self._waiting.pop(origin, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(Arrived(COUNTED, 0))

    async def close(self) -> None:
        for waiting in self._waiting.values():
            waiting.cancel()


def _drop(books: dict[Origin, Any], node: int) -> None:
    for origin in [origin for origin in books if origin[0] == node]:
        del books[origin]
