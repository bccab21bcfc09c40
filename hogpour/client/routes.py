"""Where shards are, as a link knows it: the newest map, who answers there, and how many requests are made at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Requests

__all__ = ["Routes"]

_IN_FLIGHT = 8
"""Pushes and fetches to one server at a time: 32 MB of the default shards, far more than a round trip holds."""


class Routes:
    """The routes of one link.

    Args:
        shard_map: known at first.
        own_address: at which maps name this node; None where it serves nothing.
        reach: address → who answers there; "" is the coordinator's.
        relocate: asked when a shard is not where the map says; returns a map of a later epoch.

    Attributes:
        map: the newest one.
    """

    def __init__(
        self,
        shard_map: ShardMap,
        own_address: str | None,
        reach: Callable[[str], Requests],
        relocate: Callable[[int], Awaitable[ShardMap]],
    ) -> None:
        self.map, self.reach = shard_map, reach
        self._own_address, self._relocate = own_address, relocate
        self._lanes: dict[str, asyncio.Semaphore] = {}  # by address

    def follow(self, shard_map: ShardMap) -> None:
        """Take in a map that may be newer. Whoever waits for a server that has no shard any more asks the one that has
        it as soon as its connection is closed."""
        if shard_map.epoch > self.map.epoch:
            self.map = shard_map

    async def learn(self, known: ShardMap) -> None:
        """Learn where shards are now, since ``known`` is out of date."""
        if self.map is known:
            self.follow(await self._relocate(known.epoch))

    def leads_home(self, shard: int) -> bool:
        """Whether this node serves the shard itself."""
        return self.map.addresses[shard] == self._own_address

    def moved(self, shard: int, known: ShardMap) -> bool:
        """Whether the shard is at another address now than ``known`` says."""
        return self.map.addresses[shard] != known.addresses[shard]

    def lane(self, address: str) -> asyncio.Semaphore:
        """Return what bounds the requests in flight to one server, so that the deadline of each is for itself and not
        for all shards of a large model. First come, first served: a push stays before the fetch of its shard."""
        return self._lanes.setdefault(address, asyncio.Semaphore(_IN_FLIGHT))
