"""Where shards are, as a client knows it: the newest map, who answers there, and how many requests are made at once.

Pushes go to whoever serves a shard, wherever it moves meanwhile; to shards of this node's own without a socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from hogpour.core.errors import PeerLost, Refusal, RequestFailed
from hogpour.core.shard_map import ShardMap
from hogpour.net.requests import Handler, Reply, Requests
from hogpour.net.tasks import TaskSet
from hogpour.net.watch import Patience
from hogpour.net.wire.base import Message
from hogpour.net.wire.operate import Sum
from hogpour.net.wire.push import Push, Pushed

__all__ = ["Answer", "Routes", "Sender", "ask_shard", "collect", "gather_all"]

_IN_FLIGHT = 8
"""Pushes and fetches to one server at a time: 32 MB of the default shards, far more than a round trip holds."""

_AGAIN_S = 0.02
"""Until a server that had too much to do is asked again."""

_Answer = TypeVar("_Answer")
_Promised = Awaitable[Reply[Pushed]]

Answer = Pushed | asyncio.Task[Pushed]
"""What became of a push; or the task that will return it."""


async def ask_shard(
    shard: int,
    newest: Callable[[], ShardMap],
    attempt: Callable[[str], Awaitable[_Answer]],
    learn: Callable[[ShardMap], Awaitable[None]],
    complain: Callable[[int], Awaitable[bool]],
    patience_s: float,
) -> _Answer:
    """Ask whoever serves a shard, wherever it moves meanwhile, and again where its server has too much to do. One that
    does not answer serves it no longer, where somebody else can.

    Args:
        newest: returns the newest map that is known.
        attempt: asks at an address, and returns the answer.
        learn: waits where there may be a newer map than this one.
        complain: tells the coordinator of a server that does not answer; returns whether others will have its shards.
        patience_s: how long a server may have too much to do.

    Raises:
        PeerLost: the server does not answer, and the shard is not known to be elsewhere.
        RequestFailed: it refuses.
    """
    loop, patience = asyncio.get_running_loop(), None
    while True:
        known = newest()
        try:
            return await attempt(known.addresses[shard])
        except RequestFailed as error:
            if error.code == Refusal.BUSY:
                patience = patience or Patience(patience_s, loop.time())
                if patience.over(loop.time()):
                    raise
                await asyncio.sleep(_AGAIN_S)
                continue
            if error.code != Refusal.MOVED:
                raise
        except PeerLost:
            while newest().addresses[shard] == known.addresses[shard]:
                if not known.addresses[shard] or not await complain(known.owners[shard]):
                    raise  # the coordinator's own, or nobody else can have it
                await learn(newest())
            patience = None
            continue
        patience = None
        await learn(known)


async def gather_all(parts: list[asyncio.Task[_Answer]]) -> list[_Answer]:
    """Wait for all; when one fails or the caller is cancelled, end the others before that is told."""
    try:
        await asyncio.wait(parts, return_when=asyncio.FIRST_EXCEPTION)  # no deadline: each has its own
    finally:
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)  # no deadline: what is cancelled ends
        # Every error is looked at, or Python complains of those that are not.
        errors = [error for part in parts if not part.cancelled() and (error := part.exception()) is not None]
    if errors:
        raise errors[0]
    return [part.result() for part in parts]


class Routes:
    """The routes of one client.

    Args:
        shard_map: known at first.
        own_address: at which maps name this node; None where it serves nothing.
        reach: address → who answers there; "" is the coordinator's.
        relocate: asked when a shard is not where the map says; returns a map of a later epoch.
        complain: see ``ask_shard``.
        patience_s: how long a shard may not answer, or its server have too much to do, before the run fails.

    Attributes:
        map: the newest one.
    """

    def __init__(
        self,
        shard_map: ShardMap,
        own_address: str | None,
        reach: Callable[[str], Requests],
        relocate: Callable[[int], Awaitable[ShardMap]],
        complain: Callable[[int], Awaitable[bool]],
        patience_s: float,
    ) -> None:
        self.map, self.reach, self.patience_s = shard_map, reach, patience_s
        self._own_address, self._relocate, self._complain = own_address, relocate, complain
        self._lanes: dict[str, asyncio.Semaphore] = {}  # by address

    def follow(self, shard_map: ShardMap) -> None:
        """Take in a map that may be newer. Whoever waits for a server that has no shard any more asks the one that has
        it as soon as its connection is closed."""
        if shard_map.epoch > self.map.epoch:
            self.map = shard_map

    async def ask(self, shard: int, attempt: Callable[[str], Awaitable[_Answer]]) -> _Answer:
        """Ask whoever serves a shard, see ``ask_shard``."""
        return await ask_shard(shard, lambda: self.map, attempt, self._learn, self._complain, self.patience_s)

    async def _learn(self, known: ShardMap) -> None:
        """Learn where shards are now, since ``known`` is out of date."""
        if self.map is known:
            self.follow(await self._relocate(known.epoch))

    def leads_home(self, shard: int) -> bool:
        """Whether this node serves the shard itself."""
        return self.map.addresses[shard] == self._own_address

    def lane(self, address: str) -> asyncio.Semaphore:
        """Return what bounds the requests in flight to one server, so that the deadline of each is for itself and not
        for all shards of a large model. First come, first served: a push stays before the fetch of its shard."""
        return self._lanes.setdefault(address, asyncio.Semaphore(_IN_FLIGHT))


class Sender:
    """What sends the pushes of one node.

    Args:
        routes: where shards are.
        own: what answers requests for the shards that this node serves itself.
        requests: tasks that whoever sends waits for.

    Attributes:
        bytes_sent: to other nodes.
    """

    def __init__(self, routes: Routes, own: Mapping[type[Message], Handler], requests: TaskSet) -> None:
        self._routes, self._own, self._requests = routes, own, requests
        self.bytes_sent = 0

    def send(self, message: Push | Sum, payload: memoryview) -> Answer:
        """Push to a shard; where that is this node's own and idle, it is done at once.

        Args:
            payload: frozen until there is an answer.
        """
        promised: _Promised | None = None
        if self._routes.leads_home(message.shard):
            with suppress(RequestFailed):  # it is refused below once more
                given: Reply[Pushed] | _Promised = self._own[type(message)](message, payload)
                if isinstance(given, Reply):
                    answer: Pushed = given.message
                    return answer
                promised = given
        return self._requests.start(self._push(message, payload, promised))

    async def _push(self, message: Push | Sum, payload: memoryview, promised: _Promised | None) -> Pushed:
        """Push; ``promised`` is the answer of this node's own server."""

        async def attempt(address: str) -> Pushed:
            nonlocal promised
            reply, promised = promised, None
            if reply is not None:
                return (await reply).message  # no deadline: it is this process that works on it
            requests = self._routes.reach(address)
            async with self._routes.lane(address):
                answer = await requests.request(message, [payload], deadline_s=self._routes.patience_s)
            self.bytes_sent += payload.nbytes
            return answer

        return await self._routes.ask(message.shard, attempt)


async def collect(answers: Sequence[Answer]) -> list[Pushed]:
    """Return the answers of all shards, when they are there."""
    waiting = [answer for answer in answers if not isinstance(answer, Pushed)]
    known = [answer for answer in answers if isinstance(answer, Pushed)]
    return known + (await gather_all(waiting) if waiting else [])
