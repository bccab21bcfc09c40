"""Mutated frames by seed: what a member that means harm may send, at a listener as every node has one.

    python tests/support/mutated_frames.py 0-9999    # of each seed a thousand frames

A connection proves the token, says who it is, truly or not, and sends messages in good form with wrong numbers
(``hostile.made``). Most frames are changed: lengths, kinds, numbers of requests, bits, cut short, joined to the next one,
sent again. Checked are what the handlers are asked, the memory that is held, and what is logged.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import msgspec
import numpy as np
from support.ends import TOKEN
from support.hostile import made
from support.linked import End

from hogpour.core.errors import Refusal
from hogpour.net import frame
from hogpour.net.authority import Authority
from hogpour.net.credentials import credential
from hogpour.net.listener import Listener, Reply
from hogpour.net.staging import Staging
from hogpour.net.wire import answers, kinds
from hogpour.net.wire.base import Failed, Message, Speaker
from hogpour.net.wire.identify import Identify
from hogpour.net.wire.operate import Sum
from hogpour.net.wire.push import Push
from hogpour.sim.world.loop import Loop

__all__ = ["FRAMES", "Target", "frames_of"]

FRAMES = 1000
"""Of a seed."""

RUN = 3 << 20
ME, OTHERS = RUN + 4, [RUN + 1, RUN + 2, RUN + 3]
KEY = b"k" * 32
PAYLOAD_LIMIT, STAGING = 1 << 12, 1 << 16
LARGEST_BODY = max(kind.BODY_LIMIT for kind in answers())
_LENGTHS = (0, 1, 23, 255, 1023, 1025, PAYLOAD_LIMIT, PAYLOAD_LIMIT + 1, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
_SIZES = (0, 4, 64, 256)
_HEADER = frame.HEADER_BYTES
_NO_DIGITS = str.maketrans("", "", "0123456789")


class Pipe:
    """What stands for the socket of an accepted connection: it has room for everything that is written."""

    def __init__(self, protocol: Any) -> None:
        self.protocol, self.closed, self.reading, self.said = protocol, False, True, b""
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.9", 7000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.said += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def feed(self, data: bytes) -> bytes:
        """Let bytes arrive; return those that are not read now."""
        while data and self.reading and not self.closed:
            target = self.protocol.get_buffer(-1)
            n = min(len(target), len(data))
            target[:n] = data[:n]
            data = data[n:]
            self.protocol.buffer_updated(n)
        return data


class Target:
    """A listener whose handlers look at what they are asked.

    Attributes:
        found: what was wrong.
        ends: connections by how they ended: a line of the log without its numbers, or "".
        asked: requests that came to a handler.
    """

    def __init__(self, rng: Random) -> None:
        self.found: list[str] = []
        self.ends, self.asked = Counter[str](), 0
        self._rng, self._lines = rng, list[str]()
        self._proven = 0
        self._later: list[asyncio.Future[None]] = []
        authority = Authority()
        authority.begin(RUN + 2, KEY)
        self._staging = Staging(STAGING)
        handlers = {kind: partial(self._handle, kind) for kind in answers() if kind is not Identify}
        self._listener = Listener(handlers, TOKEN, authority=authority, staging=self._staging, payload_limit=PAYLOAD_LIMIT,
                                  log=self._lines.append, nonce=rng.randbytes)  # fmt: skip

    async def receive(self, frames: Callable[[], bytes | None]) -> None:
        """Take a connection until it ends, or ``frames`` does; then the other end closes it."""
        pipe = self._connect()
        while not pipe.closed and (data := frames()) is not None:
            while (data := pipe.feed(data)) and not pipe.closed:
                self._check(pipe)
                await self._answer()
            self._check(pipe)
        await self._answer()
        if not pipe.closed:
            pipe.protocol.eof_received()
        await self._answer()
        await asyncio.sleep(0.2)  # so that no line is counted only
        lines, self._lines[:] = [*self._lines], []
        self.ends[lines[0].partition(": ")[2].translate(_NO_DIGITS) if lines else ""] += 1
        if len(lines) > 1 or any(len(line) > 400 or not line.isprintable() for line in lines):
            self.found.append(f"said {lines}")
        if self._listener._sessions or self._staging.taken_bytes or not pipe.closed:
            self.found.append(f"after its end {self._staging.taken_bytes} bytes are taken")

    def _connect(self) -> Pipe:
        """Open a connection, prove the token, and say who speaks: in half of them the truth."""
        transport = self._listener._accept()
        pipe = Pipe(transport)
        if self._rng.random() < 0.9:  # as if it had been proven: the proof takes longer than a dozen frames
            transport._connection.ready = True
            transport._owner.ready()
        else:
            stranger = End("connector", TOKEN)
            while not stranger.connection.ready:
                assert pipe.feed(stranger.sends()) == b""
                said, pipe.said = pipe.said, b""
                stranger.receive(said)
        choice = self._rng.random()
        self._proven = ME if choice < 0.5 else 0
        shown = credential(KEY, ME) if choice < 0.8 else self._rng.randbytes(32)
        named = ME if choice < 0.5 or choice > 0.9 else self._rng.choice(OTHERS)
        if choice < 0.95:
            pipe.feed(frame.encode(Identify(named, shown), 1))
        return pipe

    def _handle(self, kind: type[Message], message: Message, *payload: memoryview) -> Any:
        self.asked += 1
        body = frame.encode(message, 1)
        named = getattr(message, "node", 0)
        speaker = kind.SPEAKER
        fitting = {
            Speaker.ANYBODY: True,
            Speaker.NAMED: named in (0, self._proven),
            Speaker.MEMBER: named == self._proven != 0,
            Speaker.COORDINATOR: False,
            Speaker.WARRANTED: bool(getattr(message, "warrant", b"")),
        }[speaker]
        if not fitting:
            self.found.append(f"{message} of {self._proven} came to its handler")
        if type(message) is not kind or frame.encode(frame.decode(kind, body[_HEADER:]), 1) != body:
            self.found.append(f"{message} is not what it is said to be")
        reply = Reply(Failed(Refusal.WRONG, "no"))
        return self._wait(reply) if self._rng.random() < 0.1 else reply

    async def _wait(self, reply: Reply[Any]) -> Reply[Any]:
        later = asyncio.get_running_loop().create_future()
        self._later.append(later)
        await later
        return reply

    async def _answer(self) -> None:
        """Let everybody who waits be answered."""
        while self._listener._tasks._tasks:
            await asyncio.sleep(0)
            for later in self._later:
                later.set_result(None)
            self._later.clear()

    def _check(self, pipe: Pipe) -> None:
        """Look at the memory that is held: staging, and a body under way."""
        pipe.said = b""
        body = pipe.protocol._connection._body
        if self._staging.held_bytes > STAGING or (body is not None and len(body) > LARGEST_BODY):
            self.found.append(f"holds {self._staging.held_bytes} bytes of staging, and a body of {len(body or b'')}")


def corpus(seed: int, size: int, nodes: list[int], *, moving: bool = True) -> list[bytes]:
    """Return frames of messages in good form with wrong numbers, requests most of them.

    Args:
        nodes: of members.
        moving: parameters move by what they bring. Else pushes have scale 0, and there are no sums of a batch method.
    """
    rng = np.random.default_rng([seed, 8])
    requests, others = list(answers()), [kind for kind in kinds().values() if kind not in answers()]
    found: list[bytes] = []
    while len(found) < size:
        of = requests if rng.random() < 0.9 else others
        message = made(of[int(rng.integers(len(of)))], rng, nodes)
        n = int(rng.choice(_SIZES)) if message.PAYLOAD else 0
        if isinstance(message, Push) and not moving:
            message = msgspec.structs.replace(message, scale=0.0)
        if moving or not isinstance(message, Sum):
            found.append(frame.encode(message, 1, n) + (rng.bytes(n) if moving else bytes(n)))
    return found


class Mutator:
    """Makes frames of those of a corpus, one at each call; None now and then, where the connection is to end."""

    def __init__(self, rng: Random, frames: list[bytes], n: int) -> None:
        self.left, self.changes = n, Counter[str]()
        self._rng, self._frames, self._last, self._id = rng, frames, frames[0], 1

    def __call__(self) -> bytes | None:
        rng = self._rng
        if not self.left or rng.random() < 0.04:
            return None
        self.left -= 1
        change = rng.choice(_CHANGES)
        self.changes[change.__name__[1:]] += 1
        self._id += 1
        data = bytearray(rng.choice(self._frames))
        data[8:12] = self._id.to_bytes(4, "little")
        self._last = bytes(change(self, data))
        return self._last

    def _whole(self, data: bytearray) -> bytearray:
        return data

    def _again(self, data: bytearray) -> bytes:
        return self._last

    def _id_number(self, data: bytearray) -> bytearray:
        ids = (0, 1, self._id - 1, self._id - 2, (1 << 32) - 1)
        data[8:12] = self._rng.choice(ids).to_bytes(4, "little")
        return data

    def _kind(self, data: bytearray) -> bytearray:
        data[self._rng.randrange(4, 8)] = self._rng.randrange(256)
        return data

    def _length(self, data: bytearray) -> bytearray:
        at, size = self._rng.choice([(12, 4), (16, 8)])
        n = int.from_bytes(data[at : at + size], "little")
        near = max(0, n + self._rng.randrange(-8, 9))
        data[at : at + size] = (near if self._rng.random() < 0.6 else self._rng.choice(_LENGTHS)).to_bytes(size, "little")
        return data

    def _bits(self, data: bytearray) -> bytearray:
        begin, end = 0 if self._rng.random() < 0.2 else _HEADER, _end(data)
        for _ in range(self._rng.randrange(1, 9)):
            data[self._rng.randrange(min(begin, end - 1), end)] ^= 1 << self._rng.randrange(8)
        return data

    def _body(self, data: bytearray) -> bytearray:
        """Replace a byte of the message: types and numbers of MessagePack."""
        if _end(data) > _HEADER:
            data[self._rng.randrange(_HEADER, _end(data))] = self._rng.choice((0, 0x7F, 0x80, 0xC0, 0xCB, 0xCF, 0xD3, 0xDD, 0xFF))
        return data

    def _cut(self, data: bytearray) -> bytearray:
        return data[: self._rng.randrange(1, len(data))]

    def _joined(self, data: bytearray) -> bytearray:
        """Put a part of another frame before or behind it."""
        other = self._rng.choice(self._frames)
        part = other[self._rng.randrange(len(other)) :] if self._rng.random() < 0.5 else other
        return data + part if self._rng.random() < 0.5 else bytearray(part) + data


def _end(data: bytearray) -> int:
    """Return where the message of a frame ends, and its payload begins, whose bytes mean nothing to the protocol."""
    return _HEADER + int.from_bytes(data[12:16], "little")


_CHANGES = (
    Mutator._whole, Mutator._whole, Mutator._again, Mutator._id_number, Mutator._kind, Mutator._length, Mutator._length, Mutator._bits,
    Mutator._bits, Mutator._body, Mutator._cut, Mutator._joined,
)  # fmt: skip


def frames_of(seed: int, n: int = FRAMES) -> tuple[Target, Mutator]:
    """Let a listener receive the frames of a seed."""
    rng = Random(seed)
    target, frames = Target(rng), Mutator(rng, corpus(seed, 100, [ME, *OTHERS]), n)

    async def receive() -> None:
        while frames.left:
            await target.receive(frames)
        await target._listener.close()

    loop = Loop(np.random.default_rng(seed))
    try:
        loop.run_until_complete(receive())
        target.found += [f"nobody took {error}" for error in loop.errors]
    finally:
        loop.close()
    return target, frames


def main() -> None:
    """Print what was found, and what was sent."""
    first, last = map(int, sys.argv[1].split("-"))
    changes, ends, asked, failed, began = Counter[str](), Counter[str](), 0, 0, time.perf_counter()
    for seed in range(first, last + 1):
        target, frames = frames_of(seed)
        changes += frames.changes
        ends += target.ends
        asked += target.asked
        failed += bool(target.found)
        for text in target.found:
            print(f"seed {seed}: {text}", flush=True)
        if seed % 500 == 499 or seed == last:
            print(f"{seed + 1 - first:,} seeds, {changes.total():,} frames {dict(changes)}, {ends.total():,} connections, "
                  f"{asked:,} requests; {failed} failed; {time.perf_counter() - began:.0f} s", flush=True)  # fmt: skip
    for text, count in ends.most_common(15):
        print(f"{count:9,} {text}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
