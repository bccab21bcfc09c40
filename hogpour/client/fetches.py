"""Fetches of a client: shards of whoever serves them, into the live vector of a node; and landings, of all shards.

A fetch lands in staging and is taken in by the exchange from there; shards of this node's own are taken directly from
what its server hands out, and let go then. One that moves meanwhile is fetched from where it went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.client.routes import Routes, gather_all
from hogpour.core.errors import RemoteProtocolError, RequestFailed
from hogpour.core.node_id import same_run
from hogpour.net import sparse_form
from hogpour.net.requests import Handler, Reply, Requests
from hogpour.net.staging import Staging
from hogpour.net.tasks import TaskSet
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.fetch_changes import WHOLE, Changes, FetchChanges
from hogpour.shm.accrual import Sealed
from hogpour.shm.mailbox import LANDING, Mailbox

__all__ = ["Fetches", "Landings"]

Floats = npt.NDArray[np.float32]
Take = Callable[[Floats, Floats], None]
"""What takes in a shard: its range of the live vector, and what has landed."""

_INLINE_ELEMENTS = 1 << 18
"""A copy of so many elements takes 0.1 ms and is made on the event loop; a longer one on a thread."""

_REMEMBERED = 1024
"""Landings whose clocks are remembered: a window of accrual seldom spans more than a few."""


@dataclass(slots=True)
class _Copy:
    """A shard as a node fetched it last."""

    node: int
    """Incarnation that fetched it."""
    clock: int
    params: Floats


class Fetches:
    """The fetches of one node.

    Args:
        params: the live vector.
        routes: where shards are.
        own: what answers requests for the shards that this node serves itself.
        staging: where fetches land.
        on_params: takes in what is fetched, unless a fetch names something else.
        sparse: whether most of a shard is the same from fetch to fetch: then a copy of each that others serve is kept,
            and only what changed is sent.

    Attributes:
        clocks: of the newest fetch of each shard.
        bytes_received: from other nodes.
    """

    def __init__(
        self, params: Floats, routes: Routes, own: Mapping[type[Message], Handler], staging: Staging, on_params: Take,
        sparse: bool = False,
    ) -> None:  # fmt: skip
        self._params, self._routes, self._own, self._staging = params, routes, own, staging
        self._on_params = on_params
        self._copies: dict[int, _Copy] | None = {} if sparse else None
        self.clocks, self.bytes_received = [0] * routes.map.n_shards, 0

    def at_once(self, shard: int, node: int) -> Awaitable[Reply[Fetched]] | bool:
        """Bring a shard into the live vector if this node serves it and can now.

        Returns:
            Whether it is there; or what this node's own server has promised, for ``fetch``.
        """
        part = self._routes.map.range(shard)
        if not self._routes.leads_home(shard) or part.stop - part.start > _INLINE_ELEMENTS:
            return False
        with suppress(RequestFailed):  # it is refused in ``fetch`` once more
            reply: Reply[Fetched] | Awaitable[Reply[Fetched]] = self._own[Fetch](Fetch(shard, node))
            if not isinstance(reply, Reply):
                return reply
            self._on_params(self._params[part], np.frombuffer(reply.payload[0], np.float32))
            self.clocks[shard] = reply.message.clock
            if reply.sent is not None:
                reply.sent()
            return True
        return False

    async def fetch(
        self, shard: int, node: int, reply: Awaitable[Reply[Fetched]] | None = None, take: Take | None = None
    ) -> None:
        """Fetch from whoever serves the shard, wherever it moves meanwhile.

        Args:
            reply: what this node's own server has promised.
            take: called once with the shard's range of the live vector and what has landed; None: ``on_params``.
        """
        take = take or self._on_params
        message, target = Fetch(shard, node), self._params[self._routes.map.range(shard)]

        async def attempt(address: str) -> Fetched | Changes:
            nonlocal reply
            promised, reply = reply, None
            if promised is not None or self._routes.leads_home(shard):
                return await self._fetch_own(promised or self._own[Fetch](message), target, take)
            async with self._routes.lane(address):
                requests = self._routes.reach(address)
                if self._copies is not None and take == self._on_params:
                    return await self._fetch_changes(message, target, requests, self._copies)
                return await self._fetch_other(message, target, requests, take)

        answer = await self._routes.ask(shard, attempt)
        self.clocks[shard] = answer.clock

    async def _fetch_own(
        self, given: Reply[Fetched] | Awaitable[Reply[Fetched]], target: Floats, take: Take
    ) -> Fetched:
        reply = given if isinstance(given, Reply) else await given  # no deadline: this process works on it
        try:
            await self._take(target, reply.payload[0], take)
        finally:
            if reply.sent is not None:
                reply.sent()
        return reply.message

    async def _fetch_other(self, message: Fetch, target: Floats, requests: Requests, take: Take) -> Fetched:
        place = await self._stage(target.nbytes)
        try:
            answer = await requests.request(message, into=place, deadline_s=self._routes.patience_s)
            self.bytes_received += place.nbytes
            await self._take(target, place, take)
        finally:
            self._staging.give(place)
        return answer

    async def _fetch_changes(
        self, message: Fetch, target: Floats, requests: Requests, copies: dict[int, _Copy]
    ) -> Changes:
        """Fetch what changed since the copy that this node has, and take in the copy.

        A clock stands for the same parameters in all of a run, whoever serves them; so the copy is of a run.
        """
        shard, node = message.shard, message.node
        copy = copies.pop(shard, None)  # back when it is whole again
        if copy is None or not same_run(copy.node, node):
            copy = _Copy(node, -1, np.empty(target.size, np.float32))
        place = await self._stage(target.nbytes)
        try:
            asked = FetchChanges(shard, node, copy.clock)
            answer = await requests.request(asked, into=place, deadline_s=self._routes.patience_s)
            whole, wrong = answer.n_entries == WHOLE, ""
            if answer.n_bytes > place.nbytes or (whole and answer.n_bytes != place.nbytes):
                wrong = f"{answer.n_bytes} bytes of a shard of {place.nbytes}"
            elif whole:
                copy.params[...] = np.frombuffer(place, np.float32)
            else:
                wrong = sparse_form.read(place[: answer.n_bytes], answer.n_entries, copy.params)
            if wrong:
                raise RemoteProtocolError(f"shard {shard}: changes since clock {copy.clock} cannot be read: {wrong}")
            self.bytes_received += answer.n_bytes
        finally:
            self._staging.give(place)
        copy.clock = answer.clock
        copies[shard] = copy
        await self._take(target, copy.params.data.cast("B"), self._on_params)
        return answer

    async def _take(self, target: Floats, fetched: memoryview, take: Take) -> None:
        source = np.frombuffer(fetched, np.float32)
        if target.size <= _INLINE_ELEMENTS:
            take(target, source)
        else:
            copying = asyncio.get_running_loop().run_in_executor(None, take, target, source)
            try:
                await asyncio.shield(copying)  # no deadline: it is this process that works on it
            finally:
                if not copying.done():  # cancelled, but the thread reads on what the caller is about to give back
                    await asyncio.wait([copying])

    async def _stage(self, n_bytes: int) -> memoryview:
        granted: asyncio.Future[memoryview] = asyncio.get_running_loop().create_future()
        later: Any = granted.set_result
        if (place := self._staging.take(n_bytes, later)) is not None:
            return place
        try:
            # No deadline: another fetch of this node holds the memory, and has one. Shielded: whoever gives memory back
            # may hand it to a fetch that is cancelled and has not heard of it.
            return await asyncio.shield(granted)
        except asyncio.CancelledError:
            self._staging.forget(later)
            if granted.done():
                self._staging.give(granted.result())
            raise


class Landings:
    """Fetches of all shards, one at a time, and which wishes of replicas each serves.

    Args:
        wake: rings the bell of a replica.
        works: tasks whose errors end the run.
        requests: tasks that these wait for.
        poll: called where something may be due that was not before.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        fetches: Fetches,
        coordinator: CoordinatorClient,
        wake: Callable[[int], None],
        works: TaskSet,
        requests: TaskSet,
        poll: Callable[[], None],
    ) -> None:
        self.poll = poll
        self._mailbox, self._fetches, self._coordinator, self._wake = mailbox, fetches, coordinator, wake
        self._works, self._requests = works, requests
        self._number, self._under_way, self._again = 0, False, False
        self._clocks: dict[int, tuple[int, ...]] = {}  # landing → clocks of its shards

    async def land(self) -> None:
        """Fetch all shards and let the replicas know; returns when they are in the live vector."""
        wishes, node = self._mailbox.wanted(), self._coordinator.node
        shards = range(len(self._fetches.clocks))
        await gather_all([self._requests.start(self._fetches.fetch(shard, node)) for shard in shards])
        self.complete(wishes)

    def begin(self, wishes: list[int]) -> bool:
        """Return whether a landing is to begin now that serves these wishes. While one is under way, it is remembered
        that the next is due."""
        due = any(wish > self._mailbox.landed(replica) for replica, wish in enumerate(wishes))
        if due and self._under_way:
            self._again, due = True, False
        self._under_way |= due
        return due

    def fetch(self, shard: int) -> asyncio.Task[None] | None:
        """Bring one shard into the live vector; None where it is there, because this node serves it."""
        found = self._fetches.at_once(shard, self._coordinator.node)
        if found is True:
            return None
        return self._requests.start(self._fetches.fetch(shard, self._coordinator.node, found or None))

    def finish(self, wishes: list[int], parts: list[asyncio.Task[None]]) -> None:
        """Complete what ``begin`` began, when these parts of it have ended."""
        if parts:
            self._works.start(self._finish(wishes, parts))
        else:
            self._under_way = False
            self.complete(wishes)

    async def _finish(self, wishes: list[int], parts: list[asyncio.Task[None]]) -> None:
        with self.ending():
            await gather_all(parts)
            self.complete(wishes)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Say that what ``begin`` began ends with this, and begin the next one if it is due."""
        try:
            yield
        finally:
            self._under_way = False
        if self._again:
            self._again = False
            self.poll()

    def complete(self, wishes: list[int]) -> None:
        """All shards have landed: say so to the replicas whose wishes that serves."""
        self._number += 1
        self._clocks[self._number] = tuple(self._fetches.clocks)
        self._mailbox.land(wishes, self._number)
        for replica in range(len(wishes)):
            if self._mailbox.waits_for(replica) & LANDING:  # a ring costs both sides more than a step may take
                self._wake(replica)
        self._clocks.pop(self._number - _REMEMBERED, None)

    def clocks_of(self, push: Sealed) -> tuple[int, ...]:
        """Return the clocks of the shards that the first gradient of a push was computed on. Those that are not kept
        any more were before the oldest that are."""
        return self._clocks.get(push.landing) or self._clocks[min(self._clocks)]
