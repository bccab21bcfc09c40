"""The gate before a path: which fetches it lets go, and which pushes count when.

A push that every shard has is told to the coordinator as having arrived, and what the coordinator answers decides what
becomes of it. Until then its replica fetches nothing. A replica that takes part in gated steps is counted in by the
coordinator before it fetches what it computes on, and is counted out behind its last push.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hogpour.algos.gate.base import Gate
from hogpour.client.path import Parts, Path
from hogpour.client.pushes import AccruedPushes
from hogpour.client.routes import Answer, collect
from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.wire.gate import LATE, UNDECIDED, Arrive
from hogpour.net.wire.push import Outcome, Pushed
from hogpour.shm.accrual import Sealed
from hogpour.shm.queue import TicketQueue

__all__ = ["Gated"]


class Gated(Path):
    """A path behind a gate."""

    def __init__(self, path: Path, parts: Parts, gate: Gate) -> None:
        super().__init__(parts)
        assert isinstance(path, AccruedPushes), "a gate decides on what is accrued"
        self._path = path
        self._holds, self._goes_on = gate.holds, gate.holds and gate.counts_late
        self._passing: dict[int, set[int]] = {}  # replica → its pushes that the gate has not let pass, by sequence
        self._attending: dict[int, bool] = {}  # replica → what the coordinator knows of it
        self._telling: dict[int, bool] = {}  # replica → what it is being told

    def poll(self, wishes: list[int]) -> None:
        # Before the buffers: whoever says that it takes part no more has sealed what it had.
        present = [self._parts.mailbox.attends(replica) for replica in range(len(wishes))]
        due = self._parts.buffers.take_up_all()
        for push in due:
            if push.steps:
                self._passing.setdefault(push.replica, set()).add(push.sequence)
        allowed = [self._allow(replica, *of) for replica, of in enumerate(zip(wishes, present, strict=True))]
        self._path.start(due, allowed, self._settle)

    def drop(self) -> None:
        self._attending.clear()
        self._path.drop()

    def lease(self, queue: TicketQueue, wake: Callable[[], None]) -> list[Coroutine[Any, Any, None]]:
        return self._path.lease(queue, wake)

    def _allow(self, replica: int, wish: int, present: bool) -> int:
        """Return up to which wish a replica may be served: no further than it is while its push has not passed, or
        while it takes part and is not known to. Tells the coordinator who takes part."""
        passing, known = replica in self._passing, self._attending.get(replica, False)
        # Counted out before its push has passed, the others could decide without it.
        if present != known and replica not in self._telling and (present or not passing):
            self._telling[replica] = present
            self._parts.works.start(self._tell(replica, present, self._parts.coordinator.node))
        return self._parts.mailbox.landed(replica) if passing or (present and not known) else wish

    async def _tell(self, replica: int, present: bool, node: int) -> None:
        """Tell the coordinator that a replica takes part, or does not."""
        coordinator = self._parts.coordinator
        try:
            await coordinator.attend(node, replica, present)
            if node == coordinator.node:
                self._attending[replica] = present
        except RequestFailed as error:
            if error.code != Refusal.FENCED:
                raise
            coordinator.fence(node)
            if node == coordinator.node:
                return  # the next incarnation says it again, when it has joined
        finally:
            del self._telling[replica]
        self._parts.landings.poll()

    def _settle(self, push: Sealed, answers: list[Answer]) -> None:
        node, step = self._parts.coordinator.node, min(self._parts.landings.clocks_of(push))
        self._parts.works.start(self._pass(push, answers, Arrive(node, push.replica, push.sequence, step)))

    async def _pass(self, push: Sealed, answers: list[Answer], arrive: Arrive) -> None:
        with self.unless_fenced(arrive.node, push):
            await self._decide(push, await collect(answers), arrive)
        self._let_fetch(push)

    async def _decide(self, push: Sealed, answers: list[Pushed], arrive: Arrive) -> None:
        """Bring a push that every shard has through the gate."""
        loop, buffers, coordinator = asyncio.get_running_loop(), self._parts.buffers, self._parts.coordinator
        if not self._holds:
            buffers.acknowledge(push, answers)
        # Also where a shard has dropped it, since it has the next step: others may not have it yet, and a fetch would
        # bring what is late again. The answer waits until they do.
        began = loop.time()
        answer = await coordinator.arrive(arrive)
        early = self._goes_on and answer.outcome == UNDECIDED
        if early:  # its replica goes on meanwhile; its blocks are done when it is in the shards, not before
            buffers.waited_s += loop.time() - began
            buffers.free(push)
            self._let_fetch(push)
        while answer.outcome == UNDECIDED:
            answer = await coordinator.arrive(arrive)
        if not early:
            buffers.waited_s += loop.time() - began
        if answer.outcome == LATE or any(one.outcome is Outcome.DROPPED for one in answers):
            buffers.drop(push)
        elif self._holds:
            buffers.acknowledge(push, [answer])

    def _let_fetch(self, push: Sealed) -> None:
        """Let a replica fetch, unless another push of it is on its way; doing it again changes nothing."""
        passing = self._passing.get(push.replica)
        if passing is None or push.sequence not in passing:
            return
        passing.discard(push.sequence)
        if not passing:
            del self._passing[push.replica]
            self._parts.landings.poll()
