"""Pushes to whoever serves a shard, wherever it moves meanwhile; to shards of this node's own without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress

from hogpour.client.routes import Routes, gather_all
from hogpour.core.errors import RequestFailed
from hogpour.net.requests import Handler, Reply
from hogpour.net.tasks import TaskSet
from hogpour.net.wire.base import Message
from hogpour.net.wire.operate import Sum
from hogpour.net.wire.push import Push, Pushed

__all__ = ["Answer", "Sender", "collect"]

Answer = int | asyncio.Task[int]
"""The staleness of a push, or what else became of it (``wire.push``); or the task that will return it."""


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
        promised: Awaitable[Reply[Pushed]] | None = None
        if self._routes.leads_home(message.shard):
            with suppress(RequestFailed):  # it is refused below once more
                given: Reply[Pushed] | Awaitable[Reply[Pushed]] = self._own[type(message)](message, payload)
                if isinstance(given, Reply):
                    return given.message.staleness
                promised = given
        return self._requests.start(self._push(message, payload, promised))

    async def _push(self, message: Push | Sum, payload: memoryview, promised: Awaitable[Reply[Pushed]] | None) -> int:
        """Push.

        Args:
            promised: by this node's own server.
        """

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

        return (await self._routes.ask(message.shard, attempt)).staleness


async def collect(answers: Sequence[Answer]) -> list[int]:
    """Return the answers of all shards, when they are there."""
    waiting = [answer for answer in answers if not isinstance(answer, int)]
    known = [answer for answer in answers if isinstance(answer, int)]
    return known + (await gather_all(waiting) if waiting else [])
