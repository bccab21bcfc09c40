"""Makes steps of gradients that wait at the servers: of a gate that holds them (``gatekeeper``).

A member may say of any gradient that it has arrived. Where a shard lacks one that counts, zeros stand for it there, so
that a lie does no more to the others than a member's own pushes may. Nobody has more than ``MOST_REPLICAS`` wait, and
all together no more than ``MOST_WAITING``, which is as many as a ``Commit`` has room for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from hogpour.algos.gate.base import Gate
from hogpour.cluster.every_shard import ask_every_shard
from hogpour.cluster.gatekeeper import MOST_REPLICAS, Gatekeeper, Origin, drop_node
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.node_id import display_id
from hogpour.net.wire.gate import COUNTED, LATE, UNDECIDED, Arrive, Arrived, Commit, Counted

__all__ = ["StepGatekeeper"]

MOST_WAITING = 4096
"""Gradients that wait for their step: as many as a shard holds, so that one too many was not pushed to all of them."""

_COMMIT_S = 10.0
"""For a server to apply a step. One that is dead ends the run long before, by its lease."""

_REMEMBERED = 64
"""Outcomes of one origin that are remembered, for answers that were lost: more than it can wait for."""


@dataclass(slots=True)
class _Arrival:
    """A gradient that every shard holds."""

    node: int
    replica: int
    sequence: int
    step: int
    decided: asyncio.Future[Arrived]


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
        self._named: set[int] = set()  # nodes of which a gradient was not there

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
        if len(self._pool) >= MOST_REPLICAS and sum(key[0] == arrive.node for key in self._pool) >= MOST_REPLICAS:
            raise RequestFailed(Refusal.BUSY, f"{MOST_REPLICAS} gradients of node {display_id(arrive.node)} wait for "
                                "their step already")  # fmt: skip
        self._move(origin)
        if self._gate.is_late(arrive.step, self.step):
            self.dropped += 1
            late = self._note(origin, arrive.sequence, Arrived(LATE, self.step - arrive.step))
            # Told at once, its origin would fetch what is late again, as long as the step takes to be applied.
            return late if self._committing is None else self._when_settled(late)
        if len(self._pool) >= MOST_WAITING:
            self._make_room()
        decided: asyncio.Future[Arrived] = asyncio.get_running_loop().create_future()
        self._pool[key] = _Arrival(*key, arrive.step, decided)
        self._look()
        if key in self._pool and not self._gate.detains(len(self._pool), self.present):
            return Arrived(UNDECIDED, 0)  # its origin goes on meanwhile, and asks again; not while a step is held up
        return decided

    def _make_room(self) -> None:
        """Drop the last gradient of the node that has most of those that wait."""
        most = Counter(node for node, *_ in self._pool).most_common(1)[0][0]
        last = self._pool.pop(next(key for key in reversed(self._pool) if key[0] == most))
        self.dropped += 1
        late = self._note((last.node, last.replica), last.sequence, Arrived(LATE, max(0, self.step - last.step)))
        if not last.decided.done():  # nobody waits for it any more
            last.decided.set_result(late)

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
        drop_node(self._outcomes, node)
        self._named.discard(node)

    def _share(self, arrivals: list[_Arrival]) -> float:
        """Return what of the rate a step of these is worth."""
        return min(1.0, len(arrivals) / self._gate.needed(len(self._present) + len(self._left)))

    async def _commit(self, step: int, arrivals: list[_Arrival], share: float) -> None:
        """Have every shard apply a step, then let its origins know."""
        counted = [Counted(one.node, one.replica, one.sequence, max(0, step - one.step)) for one in arrivals]
        async with self.still:
            try:
                answers = await ask_every_shard(
                    self._map, self._peers, lambda shards: Commit(step, shards, counted, share),
                    what=f"step {step}", deadline_s=_COMMIT_S, log=self._log,
                )  # fmt: skip
            except RequestFailed as error:
                self._failed = True
                self._fail(str(error))
                return
        lied = {node for answer in answers for node in answer.lied}
        for node in sorted(lied - self._named):
            self._log(f"step {step}: a gradient of node {display_id(node)} was not there as it said: such ones count "
                      "as zeros")  # fmt: skip
        self._named |= lied
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
