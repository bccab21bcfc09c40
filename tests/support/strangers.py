"""Clients that a listener must bear: raw ones that send what they like, and proven ones that behave badly."""

from __future__ import annotations

import asyncio
from typing import Any

from support.ends import TOKEN
from support.linked import End

from hogpour.net.address import split


class Stranger:
    """A connection by which a test sends bytes of its choice."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.end = End("connector", TOKEN, limit=1 << 30)

    @classmethod
    async def open(cls, address: str, **more: Any) -> Stranger:
        return cls(*await asyncio.open_connection(*split(address), **more))

    @classmethod
    async def prove(cls, address: str, token: bytes = TOKEN, **more: Any) -> Stranger:
        """Open a connection and prove the token."""
        stranger = await cls.open(address, **more)
        stranger.end = End("connector", token, limit=1 << 30)
        while not stranger.end.connection.ready:
            stranger.writer.write(stranger.end.sends())
            data = await stranger.reader.read(4096)
            if not data:
                raise ConnectionResetError("closed before the end of the proof")
            stranger.end.receive(data)
        return stranger

    async def ended(self) -> bytes:
        """Wait until the other end has closed, and return what it sent last."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""
        finally:
            await self.close()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass
        finally:
            self.writer.transport.abort()

    async def answers(self, n: int) -> None:
        """Wait for ``n`` answers."""
        while len(self.end.arrived) < n:
            data = await self.reader.read(65536)
            assert data, "closed"
            self.end.receive(data)
