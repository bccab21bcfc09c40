"""What the tests of the wire share: a token, payloads, a listener and a peer that talk to each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from hogpour.net.listener import Handler, Listener
from hogpour.net.peer import Peer
from hogpour.net.requests import Reply
from hogpour.net.staging import Staging
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched

Run = Callable[[Coroutine[Any, Any, Any]], Any]
"""What the fixture ``run`` is."""

TOKEN = b"of tests, and of nobody else"


async def until(true: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so; the fixture ``run`` has the deadline."""
    while not true():  # noqa: ASYNC110  what is waited for has no event, on purpose
        await asyncio.sleep(0.001)


def octets(array: np.ndarray[Any, Any]) -> memoryview:
    """The bytes of an array, as memory."""
    return memoryview(array).cast("B")


@asynccontextmanager
async def listening(
    handlers: Mapping[type[Message], Handler], **more: Any
) -> AsyncIterator[tuple[Listener, list[str]]]:
    """A listener on a free port of this machine, with the lines that it logs."""
    lines: list[str] = []
    settings = {"staging": Staging(64 << 20), "payload_limit": 1 << 30, "log": lines.append} | more
    listener = Listener(handlers, TOKEN, **settings)
    await listener.start("127.0.0.1", 0)
    try:
        yield listener, lines
    finally:
        await listener.close()


@asynccontextmanager
async def talking(
    handlers: Mapping[type[Message], Handler], **more: Any
) -> AsyncIterator[tuple[Peer, Listener, list[str]]]:
    """The same with a peer that knows its address."""
    async with listening(handlers, **more) as (listener, lines):
        peer = Peer(listener.address, TOKEN)
        try:
            yield peer, listener, lines
        finally:
            await peer.close()


def fetched(request: Fetch) -> Reply:
    """A handler of fetches that sends nothing along."""
    return Reply(Fetched(request.shard, 1))


@asynccontextmanager
async def facing(
    stranger: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **more: Any
) -> AsyncIterator[Peer]:
    """A peer whose connections come to somebody that is no listener of ours."""
    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    peer = Peer("{}:{}".format(*server.sockets[0].getsockname()), TOKEN, **more)
    try:
        yield peer
    finally:
        await peer.close()
        server.close()
        await server.wait_closed()
