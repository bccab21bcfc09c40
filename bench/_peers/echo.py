"""The barest server on an event loop: as many bytes up and down as a fetch or a push has, and nothing done with them.

A ``BufferedProtocol`` on either end, bytes received into memory that is there already, a client that awaits the answer
as the caller of a request does. A frame begins with its own length and that of the answer. What separates it from our
own is the price of our header, messages, checks, deadlines and the application of a gradient.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from typing import cast

from bench._peers.contender import answer, resident_bytes, server, tell, timed_async, written

__all__ = ["SMALL", "loop_factory"]

HEAD = struct.Struct("<QQ")
SMALL = 48
"""Bytes of a frame without payload, and around a payload: our header and a message of a few small numbers."""


def loop_factory(name: str):  # type: ignore[no-untyped-def]
    """Return what makes event loops of this name: ``asyncio`` or ``uvloop``."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    assert name == "asyncio", name
    return asyncio.SelectorEventLoop


class Server(asyncio.BufferedProtocol):
    """Answers each whole frame."""

    def __init__(self, n_bytes: int, gone: asyncio.Future[None]) -> None:
        self._mailbox = memoryview(bytearray(n_bytes + SMALL))
        self._answer = memoryview(written(n_bytes + SMALL, 1)).cast("B")
        self._filled, self._gone = 0, gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base class

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._mailbox[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled >= HEAD.size:
            up, down = HEAD.unpack_from(self._mailbox)
            if self._filled == up:
                self._filled = 0
                self._transport.write(self._answer[:down])

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set_result(None)


class Client(asyncio.BufferedProtocol):
    """Sends a frame and has somebody wait for its answer."""

    def __init__(self, n_bytes: int) -> None:
        self._mailbox = memoryview(bytearray(n_bytes + SMALL))
        self._expected = self._filled = 0
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has no such base class
        self._gone = asyncio.get_running_loop().create_future()

    async def call(self, frame: memoryview, down: int) -> None:
        self._done = asyncio.get_running_loop().create_future()
        self._expected = down
        self._transport.write(frame)
        await self._done

    async def close(self) -> None:
        self._transport.close()
        await self._gone  # no deadline: nothing is left to be sent

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._mailbox[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == self._expected:
            self._filled = 0  # at once: uvloop asks for the next buffer before anybody has sent another frame
            assert self._done is not None
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set_result(None)
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("closed by the server"))


def serve(loop_name: str, n_bytes: int) -> None:
    """Serve one connection until it is closed."""

    async def run() -> None:
        before = resident_bytes()
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        listener = await loop.create_server(lambda: Server(n_bytes, gone), "127.0.0.1", 0)
        tell(port=listener.sockets[0].getsockname()[1], server=os.getpid(), before=before)
        await gone  # no deadline: the client closes the connection when it ends, however it ends
        listener.close()

    with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
        runner.run(run())


def measure(loop_name: str, n_bytes: int) -> None:
    """Be the client."""

    def frame(up: int, down: int) -> memoryview:
        whole = memoryview(written(up, 1)).cast("B")
        HEAD.pack_into(whole, 0, up, down)
        return whole

    async def connect(port: int) -> Client:
        _, client = await asyncio.get_running_loop().create_connection(lambda: Client(n_bytes), "127.0.0.1", port)
        return client

    long = SMALL + n_bytes
    with (
        server(__spec__.name, "serve", loop_name, str(n_bytes)) as there,
        asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner,
    ):
        client = runner.run(connect(there["port"]))
        fetch, push = frame(SMALL, long), frame(long, SMALL)
        answer({"fetch": timed_async(lambda: client.call(fetch, long), runner),
                "push": timed_async(lambda: client.call(push, SMALL), runner)},
               server=there["server"], before=there["before"])  # fmt: skip
        runner.run(client.close())


if __name__ == "__main__":
    {"serve": serve, "measure": measure}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
