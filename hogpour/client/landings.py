"""Landings: fetches of all shards into the live vector, one at a time, and which wishes of replicas each serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hogpour.client.coordinator_client import CoordinatorClient
from hogpour.client.fetches import Fetches
from hogpour.client.routes import gather_all
from hogpour.net.tasks import TaskSet
from hogpour.shm.accrual import Sealed
from hogpour.shm.mailbox import LANDING, Mailbox

__all__ = ["Landings"]

_REMEMBERED = 1024
"""Landings whose clocks are remembered: a window of accrual seldom spans more than a few."""


class Landings:
    """The landings of one node.

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
