"""Two connections without sockets, wired to each other: what one sends, the other receives, in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hogpour.net.connection import Connection
from hogpour.net.wire.base import Message

TOKEN = b"of tests, and of nobody else"
NONCES = {"connector": b"c" * 32, "acceptor": b"a" * 32}


class End:
    """One end, with what arrived and the memory that it lies in."""

    def __init__(self, role: Any, token: bytes = TOKEN, limit: int = 1 << 20) -> None:
        self.arrived: list[tuple[int, Message, bytes | None]] = []
        self.asked_for: list[int] = []
        self.connection = Connection(role, token, nonce=NONCES[role], payload_limit=limit, place=self.place)
        self.room = True

    def place(self, id: int, message: Message, n_bytes: int) -> memoryview | None:
        self.asked_for.append(n_bytes)
        return memoryview(bytearray(n_bytes)) if self.room else None

    def receive(self, data: bytes, pieces: Iterable[int] = ()) -> None:
        """Put bytes where the connection wants them; ``pieces`` are the sizes of the first reads."""
        sizes = iter(pieces)
        while data:
            target = self.connection.target()
            assert len(target) > 0
            n = min(next(sizes, len(data)), len(target), len(data))
            target[:n] = data[:n]
            data = data[n:]
            try:
                self.connection.received(n)
            finally:
                self.take()

    def take(self) -> None:
        for id, message, payload in self.connection.events():
            self.arrived.append((id, message, None if payload is None else bytes(payload)))

    def sends(self) -> bytes:
        """What the connection itself sends."""
        return b"".join(self.connection.data_to_send())


def linked(pieces: Callable[[int], Iterable[int]] = lambda n: ()) -> tuple[End, End]:
    """Return connector and acceptor after the handshake."""
    connector, acceptor = End("connector"), End("acceptor")
    while data := connector.sends():
        acceptor.receive(data, pieces(len(data)))
        data = acceptor.sends()
        connector.receive(data, pieces(len(data)))
    assert connector.connection.ready
    assert acceptor.connection.ready
    return connector, acceptor
