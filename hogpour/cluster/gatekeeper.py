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

Whoever has no more data is not waited for, and at the end of a run steps are made of fewer and fewer gradients. The
rate is one for the mean of all: at the whole of it the last ones, of a gradient each, would undo what the run has
learned (with 4 of 6 workers and b = 2, an error of 12.5 % became 67 % within the last blocks). So such a step moves by
its share: what N gradients make of the mean, where the others are zero. The dead and those who left have none.

Knows no sockets; what an origin waits for is a future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hogpour.algos.gate.base import Gate
from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Requests
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive, Arrived, Commit, Committed, Counted

__all__ = ["Gatekeeper"]

_COMMIT_S = 10.0
"""For a server to apply a step. One that is dead ends the run long before, by its lease."""

_STEP_S = 90.0
"""For a step to be applied to all shards: longer than one may be on its way to another server (``placement``)."""

_AGAIN_S = 0.02
"""Until a step is told again to shards that were on their way."""

_REMEMBERED = 64
"""Outcomes of one origin that are remembered, for answers that were lost: more than it can wait for."""

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


class Gatekeeper:
    """Keeps the gate of one run.

    Args:
        gate: decides how many.
        step: clock of all shards at the beginning.
        shard_map: returns the newest one.
        peers: whom to ask at an address.
        log: told what happened, a line each time.
        fail: told why the cluster cannot go on.

    Attributes:
        step: decided so far; the clock of the shards as soon as all have the newest one.
        still: held while a step is applied. Whoever holds it sees all shards at one clock.
        dropped: gradients that arrived too late.
    """

    def __init__(
        self,
        gate: Gate,
        step: int,
        *,
        shard_map: Callable[[], ShardMap],
        peers: Callable[[str], Requests],
        log: Callable[[str], None],
        fail: Callable[[str], None],
    ) -> None:
        self._gate, self.step, self._map, self._peers = gate, step, shard_map, peers
        self._log, self._fail = log, fail
        self.dropped, self._failed = 0, False
        self.still = asyncio.Lock()
        self._present: dict[Origin, int] = {}  # → its clock, where a gate bounds how far ahead it may be
        self._heard: dict[Origin, int] = {}  # → highest sequence that has arrived
        self._pool: dict[tuple[int, int, int], _Arrival] = {}  # in the order of arrival
        self._deciding: dict[tuple[int, int, int], _Arrival] = {}  # of the step that is being applied
        self._settled: list[tuple[asyncio.Future[Any], Any]] = []  # who waits for that step, for which answer
        self._left: dict[Origin, int] = {}  # clocks of those who may take part again
        self._outcomes: dict[Origin, dict[int, Arrived]] = {}
        self._waiting: dict[Origin, asyncio.Future[Arrived]] = {}  # those that are too far ahead
        self._committing: asyncio.Task[None] | None = None

    @property
    def present(self) -> int:
        """Origins that take part."""
        return len(self._present)

    # -- what origins say

    def attend(self, node: int, replica: int, present: bool) -> asyncio.Future[None] | None:
        """Count an origin in, or out; saying it again changes nothing.

        Returns:
            What whoever comes waits for before it fetches: the parameters of a step that is being applied would be
            late before their gradient is there. None: nothing.
        """
        origin = node, replica
        if present and origin not in self._present:
            self._present[origin] = max(self._left.pop(origin, 0), min(self._present.values(), default=0))
        elif not present:
            if origin in self._present:
                self._left[origin] = self._present.pop(origin)
            self._go_on(origin)
            self._look()
        return self._when_settled(None) if present and self._committing is not None else None

    def _when_settled(self, answer: Any) -> asyncio.Future[Any]:
        """Return a future of an answer that comes when the step is applied that is decided on."""
        later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._settled.append((later, answer))
        return later

    def arrive(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        """Take in that a gradient has arrived; return what becomes of it, or a future that will tell."""
        if self._gate.holds:
            return self._arrive_in_pool(arrive)
        return self._tick(arrive)

    def forget(self, node: int) -> None:
        """Count every origin of a node out, because it is dead or has left; nobody waits for it any more."""
        for origin in [origin for origin in self._present if origin[0] == node]:
            del self._present[origin]
        for origin in [origin for origin in self._waiting if origin[0] == node]:
            self._go_on(origin)
        for key in [key for key in self._pool if key[0] == node]:
            self._pool.pop(key).decided.cancel()
        for books in (self._outcomes, self._heard, self._left):
            for origin in [origin for origin in books if origin[0] == node]:
                del books[origin]
        self._look()

    def possible(self, step: int) -> bool:
        """Whether a gradient can have been computed on parameters of this clock."""
        return step >= 0 and (not self._gate.holds or step <= self.step)

    # -- steps

    def _arrive_in_pool(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        origin, key = (arrive.node, arrive.replica), (arrive.node, arrive.replica, arrive.sequence)
        if (there := self._pool.get(key) or self._deciding.get(key)) is not None:
            return there.decided
        known = self._outcomes.setdefault(origin, {})
        if arrive.sequence in known:
            answer = known[arrive.sequence]
            waits = answer.outcome == LATE and self._committing is not None
            return self._when_settled(answer) if waits else answer
        if not self._gate.counts_late and arrive.step < self.step:
            self.dropped += 1
            late = self._note(origin, arrive.sequence, Arrived(LATE, self.step - arrive.step))
            # Told at once, its origin would fetch what is late again, as long as the step takes to be applied.
            return late if self._committing is None else self._when_settled(late)
        decided: asyncio.Future[Arrived] = asyncio.get_running_loop().create_future()
        self._pool[key] = _Arrival(*key, arrive.step, decided)
        self._look()
        if self._gate.counts_late and key in self._pool and len(self._pool) < self._gate.needed(self.present):
            return Arrived(UNDECIDED, 0)  # its origin goes on meanwhile, and asks again; not while a step is held up
        return decided

    def _look(self) -> None:
        """Decide what can be decided."""
        if not self._gate.holds:
            least = min(self._present.values(), default=0)
            for origin in list(self._waiting):
                if self._may_go(origin, least):
                    self._go_on(origin)
            return
        if self._committing is not None:
            return
        needed = self._gate.needed(self.present)
        if len(self._pool) < needed:
            return
        arrivals = list(self._pool.values())
        if self._gate.counts_late:
            arrivals = arrivals[:needed]
        else:  # all that are there, in an order that no delay changes
            arrivals.sort(key=lambda one: (one.node, one.replica))
        for one in arrivals:
            key = one.node, one.replica, one.sequence
            self._deciding[key] = self._pool.pop(key)
        step, self.step = self.step, self.step + 1
        self._committing = asyncio.get_running_loop().create_task(self._commit(step, arrivals, self._share(arrivals)))
        self._committing.add_done_callback(self._committed)

    def _share(self, arrivals: list[_Arrival]) -> float:
        """Return what of the rate a step of these is worth."""
        return min(1.0, len(arrivals) / self._gate.needed(len(self._present) + len(self._left)))

    async def _commit(self, step: int, arrivals: list[_Arrival], share: float) -> None:
        """Have every shard apply a step, then let its origins know."""
        counted = [Counted(one.node, one.replica, one.sequence, max(0, step - one.step)) for one in arrivals]
        loop = asyncio.get_running_loop()
        async with self.still:
            deadline = loop.time() + _STEP_S
            missing = set(range(self._map().n_shards))
            while missing and not self._failed:
                before = len(missing)
                places: dict[str, list[int]] = {}
                for shard in sorted(missing):
                    places.setdefault(self._map().addresses[shard], []).append(shard)
                told = [Commit(step, shards, counted, share) for shards in places.values()]
                for done in await asyncio.gather(*map(self._tell, places, told)):
                    missing.difference_update(done)
                if missing and len(missing) == before:
                    if loop.time() > deadline:
                        self._failed = True
                        self._fail(f"step {step} could not be applied to shards {sorted(missing)} within {_STEP_S:g} s")
                    await asyncio.sleep(_AGAIN_S)
        if self._failed:
            return
        for one, what in zip(arrivals, counted, strict=True):
            answer = self._note((one.node, one.replica), one.sequence, Arrived(COUNTED, what.staleness))
            if not one.decided.done():
                one.decided.set_result(answer)

    async def _tell(self, address: str, commit: Commit) -> list[int]:
        """Tell one server; return the shards of it that have the step. What it does not hear now it is told again."""
        try:
            answer = await self._peers(address).request(commit, deadline_s=_COMMIT_S)
        except PeerLost as error:
            self._log(f"step {commit.step} is told again: {error}")
            return []
        except RequestFailed as error:
            if error.code == Refusal.WRONG:
                self._failed = True
                self._fail(f"step {commit.step} cannot be applied: {error}")
            return []
        assert isinstance(answer, Committed)
        return answer.shards

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

    # -- how far ahead

    def _tick(self, arrive: Arrive) -> Arrived | asyncio.Future[Arrived]:
        origin = arrive.node, arrive.replica
        if arrive.sequence > self._heard.get(origin, 0):
            self._heard[origin] = arrive.sequence
            if origin in self._present:
                self._present[origin] += 1
                self._look()
        if self._may_go(origin, min(self._present.values(), default=0)):
            return Arrived(COUNTED, 0)
        waiting = self._waiting.get(origin)
        if waiting is None:
            waiting = self._waiting[origin] = asyncio.get_running_loop().create_future()
        return waiting

    def _may_go(self, origin: Origin, least: int) -> bool:
        ahead, clock = self._gate.ahead(), self._present.get(origin)
        return ahead is None or clock is None or clock - least <= ahead

    def _go_on(self, origin: Origin) -> None:
        waiting = self._waiting.pop(origin, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(Arrived(COUNTED, 0))

    # -- the end

    def tick(self) -> None:
        """Raise what went wrong in a step: a bug."""
        if self._committing is not None and self._committing.done():
            self._committing.result()

    async def close(self) -> None:
        """Drop what is under way."""
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait([self._committing])  # no deadline: a request that is cancelled ends
        for one in (*self._pool.values(), *self._deciding.values()):
            one.decided.cancel()
        for later in (*self._waiting.values(), *(later for later, _ in self._settled)):
            later.cancel()
