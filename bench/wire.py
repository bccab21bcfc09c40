"""How many frames a second does the protocol itself carry, through two linked connections without sockets?

A request and its answer, encoded at one end, parsed at the other: the connections' own work, and the copies between
memory that stand for the kernel. Beside it the same bytes copied back and forth without looking at them, which is the
least that any protocol costs here. Frames a second count both directions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Literal

from bench.harness import Report, Table, alternate, times
from hogpour.net.connection import Connection
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.heartbeat import Heartbeat, HeartbeatReply
from hogpour.net.wire.push import Push, Pushed

__all__ = ["measure"]

COLUMNS = ("what", "bytes", "us", "p10_us", "p90_us", "frames_per_s", "GB_per_s", "copies_us", "times_copies")

PIECE_BYTES = 256 * 1024
"""What a socket gives at once."""

BEAT = Heartbeat(1, 2, 1_000_000, 900_000, 12_345.6, 4_000, 8_000.5)
BEATEN = HeartbeatReply("run", "", 1, False, 3, 3_000_000, 1.0)
PUSH = Push(3, 1, 0, 1000, 2000, 4, 0.5)

CASES: list[tuple[str, Message, int, Message, int]] = [
    ("heartbeat", BEAT, 0, BEATEN, 0),
    ("fetch 1 kB", Fetch(3, 1), 0, Fetched(3, 2000), 1000),
    ("push 1 kB", PUSH, 1000, Pushed(3, 2001, 1), 0),
    ("fetch 4 MB", Fetch(3, 1), 0, Fetched(3, 2000), 4_000_000),
    ("push 4 MB", PUSH, 4_000_000, Pushed(3, 2001, 1), 0),
]


def measure(options: argparse.Namespace) -> Report:
    """Measure every case in turns with the copies of its bytes."""
    table, figures = Table("round trips", COLUMNS), {}
    for what, request, n_request, answer, n_answer in CASES:
        pair = Pair(max(n_request, n_answer))
        n_bytes = pair.round_trip(request, n_request, answer, n_answer)
        found = alternate(
            {
                "ours": lambda pair=pair, case=(request, n_request, answer, n_answer): pair.round_trip(*case),
                "copies": copies(n_bytes),
            },
            rounds=options.rounds or 15,
        )
        ours, plain = found["ours"], found["copies"]
        table.add(
            what=what, bytes=n_bytes, us=ours.median * 1e6, p10_us=ours.p10 * 1e6, p90_us=ours.p90 * 1e6,
            frames_per_s=2 / ours.median, GB_per_s=n_bytes / ours.median / 1e9,
            copies_us=plain.median * 1e6, times_copies=ours.median / plain.median,
        )  # fmt: skip
        figures[f"copies: {what}"] = times(plain.median, ours.median, ours.p10, ours.p90)
    return Report([table], ["one thread; no sockets, no event loop"], figures)


class Pair:
    """Two proven connections, and a payload's memory at each end."""

    def __init__(self, n_bytes: int) -> None:
        self._source, place = memoryview(bytes(n_bytes)), memoryview(bytearray(n_bytes))

        def end(role: Literal["connector", "acceptor"]) -> Connection:
            nonce = role[:1].encode() * 32
            return Connection(role, b"t" * 16, nonce=nonce, payload_limit=1 << 40, place=lambda id, m, n: place[:n])

        self._connector, self._acceptor = end("connector"), end("acceptor")
        self._id = 0
        while not (self._connector.ready and self._acceptor.ready):
            for end, other in ((self._connector, self._acceptor), (self._acceptor, self._connector)):
                for frame in end.data_to_send():
                    move(memoryview(frame), other)

    def round_trip(self, request: Message, n_request: int, answer: Message, n_answer: int) -> int:
        """Send a request and its answer; return how many bytes moved."""
        self._id = id = self._id % 0xFFFFFFFF + 1
        sent = self._send(self._connector, request, id, n_request, self._acceptor)
        sent += self._send(self._acceptor, answer, id, n_answer, self._connector)
        return sent

    def _send(self, end: Connection, message: Message, id: int, n_payload: int, other: Connection) -> int:
        frame = end.send(message, id, n_payload)
        if 0 < n_payload <= 32 * 1024:  # as the transport does
            frame = b"".join((frame, self._source[:n_payload]))
            move(memoryview(frame), other)
            n = len(frame)
        else:
            move(memoryview(frame), other)
            move(self._source[:n_payload], other)
            n = len(frame) + n_payload
        ((arrived, _, _),) = other.events()
        assert arrived == id
        return n


def move(data: memoryview, end: Connection) -> None:
    """Do what an event loop and a socket do: bytes go where the connection says, a piece at a time."""
    while data:
        target = end.target()
        n = min(len(target), len(data), PIECE_BYTES)
        target[:n] = data[:n]
        end.received(n)
        data = data[n:]


def copies(n_bytes: int) -> Callable[[], None]:
    """Return something that copies this many bytes in the same pieces."""
    source, target = memoryview(bytes(n_bytes)), memoryview(bytearray(n_bytes))

    def copy() -> None:
        for begin in range(0, n_bytes, PIECE_BYTES):
            target[begin : begin + PIECE_BYTES] = source[begin : begin + PIECE_BYTES]

    return copy
