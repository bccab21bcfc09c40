"""The transport's promises on a stream of the test's own: order, frozen memory, pauses, and what is overdue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.linked import End, linked

from hogpour.net import frame
from hogpour.net.transport import JOINED_BYTES, PIECE_BYTES, Transport
from hogpour.net.wire.base import Message
from hogpour.net.wire.fetch import Fetch, Fetched
from hogpour.net.wire.push import Push

PUSH = Push(3, 1, 0, 9, 17, 4, 0.5)


class Stream:
    """A socket's transport that takes as much as the test says, and keeps the objects that it was given."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.room = 1 << 60
        self.done: list[str] = []
        self.protocol: Transport | None = None
        self.breaks_after, self.broken = 0, False

    def is_closing(self) -> bool:
        return self.broken

    def write(self, data: Any) -> None:
        assert not self.broken, "asyncio logs a warning for this"
        self.written.append(data)
        self.broken = len(self.written) == self.breaks_after
        self.room -= len(data)
        if self.room < 0:
            assert self.protocol is not None
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return max(0, -self.room)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def get_extra_info(self, name: str) -> None:
        return None

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name in ("pause_reading", "resume_reading", "close", "abort"):
            return lambda: self.done.append(name)
        raise AttributeError(name)


class Owner:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def ready(self) -> None:
        self.heard.append("ready")

    def arrived(self, id: int, message: Message, payload: memoryview | None) -> None:
        self.heard.append((id, message, None if payload is None else bytes(payload)))

    def lost(self, error: Exception | None) -> None:
        self.heard.append(error)


def made(end: End, **more: Any) -> tuple[Transport, Stream, Owner]:
    owner, stream = Owner(), Stream()
    stream.protocol = transport = Transport(end.connection, owner, **more)
    transport.connection_made(stream)  # type: ignore[arg-type]
    return transport, stream, owner


def read(transport: Transport, data: bytes) -> None:
    """What an event loop does with bytes from a socket."""
    while data:
        target = transport.get_buffer(65536)
        n = min(len(target), len(data))
        target[:n] = data[:n]
        data = data[n:]
        transport.buffer_updated(n)


def test_a_small_frame_is_one_write() -> None:
    transport, stream, _ = made(linked()[0])
    payload = memoryview(b"p" * JOINED_BYTES)
    assert transport.write(b"frame", [payload[:5], payload[5:]], JOINED_BYTES)
    assert stream.written == [b"frame" + b"p" * JOINED_BYTES]
    assert transport.bytes_out == 5 + JOINED_BYTES


def test_nothing_is_written_to_a_connection_that_broke_before_that_is_told() -> None:
    """The event loop tells in its next turn; what was written until then brought lines from asyncio to the terminal."""
    transport, stream, owner = made(linked()[0])
    stream.breaks_after = 2
    assert transport.write(b"frame", [memoryview(bytes(3 * PIECE_BYTES))], 3 * PIECE_BYTES) is False
    sent: list[str] = []
    transport.after(lambda: sent.append("first"))
    assert transport.write(b"another")
    assert (len(stream.written), sent, owner.heard) == (2, [], [])
    transport.connection_lost(BrokenPipeError())
    assert sent == ["first"]


def test_a_large_payload_is_not_copied() -> None:
    transport, stream, _ = made(linked()[0])
    memory = bytearray(3 * PIECE_BYTES + 5)
    assert transport.write(b"frame", [memoryview(memory)], len(memory))
    assert stream.written[0] == b"frame"
    assert all(piece.obj is memory for piece in stream.written[1:])
    assert [len(piece) for piece in stream.written[1:]] == [PIECE_BYTES] * 3 + [5]


def test_what_the_kernel_does_not_take_waits_in_order_and_is_told_when_it_is_gone() -> None:
    transport, stream, _ = made(linked()[0])
    told: list[str] = []
    stream.room = PIECE_BYTES
    assert not transport.write(b"first", [memoryview(bytes(2 * PIECE_BYTES))], 2 * PIECE_BYTES)
    transport.after(lambda: told.append("first"))
    assert not transport.write(b"second")
    transport.after(lambda: told.append("second"))
    assert len(stream.written) == 2
    assert told == []
    stream.room = PIECE_BYTES // 2
    transport.resume_writing()
    assert len(stream.written) == 3
    assert told == []
    stream.room = 1 << 30
    transport.resume_writing()
    assert stream.written[3:] == [b"second"]
    assert told == ["first", "second"]
    assert transport.write(b"third")


def test_who_waits_is_told_when_the_connection_is_gone() -> None:
    transport, stream, owner = made(linked()[0])
    told: list[str] = []
    stream.room = 0
    transport.write(b"frame", [memoryview(bytes(JOINED_BYTES + 1))], JOINED_BYTES + 1)
    transport.after(lambda: told.append("gone"))
    transport.connection_lost(None)
    assert told == ["gone"]
    assert owner.heard == [None]
    assert transport.write(b"later")  # into the void


def test_closing_writes_what_waits_first() -> None:
    transport, stream, _ = made(linked()[0])
    stream.room = 0
    transport.write(b"frame", [memoryview(bytes(JOINED_BYTES + 1))], JOINED_BYTES + 1)
    transport.close(None)
    assert stream.done == ["pause_reading"]
    stream.room = 1 << 30
    transport.resume_writing()
    assert stream.done == ["pause_reading", "close"]


def test_reading_pauses_while_a_payload_has_no_place_and_while_it_is_held() -> None:
    connector, acceptor = linked()
    transport, stream, owner = made(acceptor)
    data = connector.connection.send(PUSH, 1, 5) + b"12345" + connector.connection.send(Fetch(0, 1), 2)
    acceptor.room = False
    read(transport, data)
    assert stream.done == ["pause_reading"]
    transport.hold(True)
    acceptor.room = True
    transport.retry_place()
    assert owner.heard == [(1, PUSH, b"12345"), (2, Fetch(0, 1), None)]
    assert stream.done == ["pause_reading"]
    transport.hold(False)
    assert stream.done == ["pause_reading", "resume_reading"]


def test_the_reason_for_the_end_is_the_first_one() -> None:
    connector, acceptor = linked()
    transport, stream, owner = made(acceptor)
    read(transport, connector.connection.send(Fetch(0, 1), 1) + b"garbage")
    assert stream.done == ["close"]
    transport.abort(ValueError("second"))
    transport.connection_lost(OSError("third"))
    assert owner.heard[0] == (1, Fetch(0, 1), None)
    assert str(owner.heard[1]) == "this is no hogpour peer: it begins with b'garb'"


def test_idleness_between_frames_is_never_overdue() -> None:
    transport, _, _ = made(linked()[1])
    assert [transport.overdue(now) for now in (0.0, 1e3, 1e6)] == [None] * 3


def test_a_frame_that_does_not_go_on_is_overdue() -> None:
    connector, acceptor = linked()
    transport, _, _ = made(acceptor, arrive_s=10.0)
    data = connector.connection.send(PUSH, 1, 100_000)
    read(transport, data)
    assert [transport.overdue(now) for now in (1.0, 10.9)] == [None, None]
    read(transport, b"x")  # one byte is progress
    assert [transport.overdue(now) for now in (11.0, 20.9)] == [None, None]
    assert transport.overdue(21.0) == "stopped inside a frame for 10 s"


def test_a_frame_that_we_do_not_read_is_not_overdue() -> None:
    connector, acceptor = linked()
    transport, _, _ = made(acceptor)
    acceptor.room = False
    read(transport, connector.connection.send(PUSH, 1, 100_000))
    assert [transport.overdue(now) for now in (1.0, 1e6)] == [None, None]


def test_who_does_not_read_is_overdue_and_who_reads_slowly_is_not() -> None:
    transport, stream, _ = made(linked()[0], write_s=10.0)
    stream.room = 0
    transport.write(b"frame" * 100)
    assert [transport.overdue(now) for now in (1.0, 10.9)] == [None, None]
    stream.room += 1
    assert [transport.overdue(now) for now in (11.0, 20.9)] == [None, None]
    assert transport.overdue(21.0) == "read nothing for 10 s"


@pytest.mark.parametrize("cut", [1, 30, 1000])
def test_a_handshake_and_what_comes_with_it_may_arrive_in_any_pieces(cut: int) -> None:
    connector, acceptor = End("connector"), End("acceptor")
    ours, out, _ = made(connector)
    theirs, back, owner = made(acceptor)
    while out.written or back.written:
        sent, out.written = b"".join(out.written), []
        for k in range(0, len(sent), cut):
            read(theirs, sent[k : k + cut])
        sent, back.written = b"".join(back.written), []
        for k in range(0, len(sent), cut):
            read(ours, sent[k : k + cut])
    assert owner.heard == ["ready"]
    read(theirs, connector.connection.send(Fetch(0, 1), 1))
    assert owner.heard == ["ready", (1, Fetch(0, 1), None)]
    assert frame.decode(Fetched, acceptor.connection.send(Fetched(0, 2), 1)[24:]) == Fetched(0, 2)
