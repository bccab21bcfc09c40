"""One end of a simulated connection: what ``asyncio`` calls a transport.

A write is with the kernel, and copied, as far as the window of the connection has room; what has none waits here **by
reference**, as in uvloop: whoever writes into that memory before it is gone sends something else than it wanted, here
as in reality. The window is what was accepted and has not been read by the other end's protocol, so that a reader that
stands still, or does not read, stops the writer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

from hogpour.sim.world.host import Host

if TYPE_CHECKING:
    from hogpour.sim.world.network import Machine, SimulatedNetwork

__all__ = ["Stream"]

_READ_BYTES = 1 << 18
"""What one read takes, as in uvloop."""


class Stream:
    """One end.

    Attributes:
        other: the other end.
        number: for the trace.
        established: both ends know of the connection, and it is not closed.
    """

    __slots__ = ("_acknowledging", "_begun", "_buffer", "_buffered", "_closing", "_cut", "_feeding", "_held",
                 "_held_since", "_host", "_in_flight", "_incoming", "_last", "_lost", "_machine", "_names", "_network",
                 "_paused", "_protocol", "_reading", "number", "other")  # fmt: skip

    other: Stream

    def __init__(
        self, network: SimulatedNetwork, number: int, machine: Machine, host: Host, names: tuple[tuple[str, int], ...]
    ) -> None:
        self.number = number
        self._network, self._machine, self._host, self._names = network, machine, host, names
        self._protocol: Any = None
        self._begun = self._closing = self._lost = False
        self._reading, self._feeding, self._paused, self._acknowledging = True, False, False, False
        self._incoming: deque[memoryview | None] = deque()  # pieces that arrived; None: the other end sends no more
        self._buffer: deque[memoryview] = deque()
        self._buffered = 0
        self._in_flight = 0  # bytes that the other end has not read
        self._last = 0.0  # when the newest piece arrives there
        self._held: list[bytes | Exception | None] = []  # what arrived where there is no way, or no power
        self._held_since = 0.0
        self._cut: Exception | None = None  # what comes next is cut short, and this is what follows
        machine.streams[self] = None

    @property
    def established(self) -> bool:
        """See above."""
        return self._begun and not self._closing and not self._lost and self.other._begun

    def begin(self, protocol: Any) -> None:
        """Tell a protocol of its connection; called as this end's host."""
        self._protocol, self._begun = protocol, True
        protocol.connection_made(self)
        if self._lost:  # it broke before anybody knew of it
            self._network.loop.call_soon(protocol.connection_lost, _reset())
        self._feed()

    # -- what protocols ask; see asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return "sockname" or "peername"."""
        return {"sockname": self._names[0], "peername": self._names[1]}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Stay as strict as can be: a protocol is told when anything waits here, and when nothing does."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait here."""
        return self._buffered

    def get_protocol(self) -> Any:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Talk to another protocol from now on."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether what arrives is handed on."""
        return self._reading

    def pause_reading(self) -> None:
        """Hand nothing on."""
        self._reading = False

    def resume_reading(self) -> None:
        """Hand on what arrives, from the next turn of the loop on."""
        if not self._reading and not self._closing:
            self._reading = True
            self._network.loop.call_soon(self._feed)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if not self._host.alive or self._closing or not len(data):
            return
        room = 0 if self._buffer else self._network.window_bytes - self._in_flight
        view = memoryview(data).cast("B")
        if room >= len(view):
            self._send(data if isinstance(data, bytes) else bytes(view))
            return
        if room > 0:
            self._send(bytes(view[:room]))
            view = view[room:]
        self._buffer.append(view)
        self._buffered += len(view)
        if not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def writelines(self, pieces: Any) -> None:
        """Send them one after the other."""
        for piece in pieces:
            self.write(piece)

    def close(self) -> None:
        """Send what waits, then no more, and read no more; the connection ends as with ``abort`` then."""
        if not self._closing and self._host.alive:
            self._closing, self._reading = True, False
            if not self._buffer:
                self._finish()

    def abort(self) -> None:
        """Close at once. As in reality, the other end's connection is reset only if something was not read here."""
        if self._lost or not self._host.alive:
            return
        self._drop()
        self._transmit(self._farewell())
        self._lose(None)

    # -- what happens to it

    def break_in_midst(self, error: Exception) -> None:
        """Break: of what is under way to this end, a random beginning still arrives."""
        if self._lost or not self._host.alive:
            return
        loop, other = self._network.loop, self.other
        other.forget(other._machine)
        if other._last > loop.time():
            other._cut = error
        else:
            loop.call_on(self._host, loop.time(), self._broken, error)

    def die(self, *, power: bool) -> None:
        """Be the end of a process that is not there any more."""
        if not power and not self._lost:
            self._transmit(self._farewell())
        self._drop()
        self._lost = self._closing = True

    def heal(self) -> None:
        """Send again what found no way, when this end's system tries next, if there is one now."""
        network, loop = self._network, self._network.loop
        if self._finds_a_way():
            at = loop.time() + network.retry_s(loop.time() - self._held_since)
            loop.call_on(loop.outside, at + network.delay(self._machine, self.other._machine), self._release)

    def forget(self, machine: Machine) -> None:
        """Send nothing again, if this is the machine whose system has what is to be sent."""
        if machine is self._machine:
            self._held.clear()
            self._network.holding.pop(self, None)

    # -- sending

    def _send(self, data: bytes) -> None:
        self._in_flight += len(data)
        self._transmit(data)

    def _transmit(self, piece: bytes | Exception | None) -> None:
        """Put a piece on its way: bytes, None for their end, an exception for a reset."""
        network, there = self._network, self.other._machine
        n_bytes = 0
        if isinstance(piece, bytes):
            n_bytes = len(piece) if network.weigh is None else network.weigh(piece)
            network.loop.trace.note(self.number, n_bytes, zlib.crc32(piece))
        # Nothing overtakes on a connection, not even its end; a reset comes as late as what was sent before it.
        self._last = max(self._last, network.carry(self._machine, there, n_bytes))
        network.loop.call_on(network.loop.outside, self._last, self._arrives, piece)

    def _finds_a_way(self) -> bool:
        there = self.other._machine
        return there.powered and self._network.reaches(self._machine, there)

    def _release(self) -> None:
        """Bring what was held to the other end, if the way is still there."""
        if self._finds_a_way():
            held, self._held = self._held, []
            self._network.holding.pop(self, None)
            for piece in held:
                self._arrives(piece)

    def _arrives(self, piece: bytes | Exception | None) -> None:
        """Bring a piece to the other end, or hold it where there is no way. Called from the outside."""
        network, other = self._network, self.other
        loop = network.loop
        if self._held or not self._finds_a_way():  # nothing overtakes what waits to be sent again
            if not self._held:
                self._held_since = loop.time()
                network.holding[self] = None
            self._held.append(piece)
            return
        if self._cut is not None:
            if isinstance(piece, bytes):
                rest = memoryview(piece)[: int(network.draw("random") * (len(piece) + 1))]
                if len(rest):
                    loop.call_on(other._host, loop.time(), other._take, rest)
            piece, self._cut = self._cut, None
        if isinstance(piece, Exception):
            loop.call_on(other._host, loop.time(), other._broken, piece)
        elif other._lost:
            if piece is not None and self._host.alive and not self._lost:  # nobody reads there any more: a reset
                at = loop.time() + network.delay(other._machine, self._machine)
                loop.call_on(loop.outside, at, self._answered_by_nobody)
        else:
            loop.call_on(other._host, loop.time(), other._take, None if piece is None else memoryview(piece))

    def _answered_by_nobody(self) -> None:
        if self._network.reaches(self._machine, self.other._machine) and not self._lost:
            self._network.loop.call_on(self._host, self._network.loop.time(), self._broken, _reset())

    def _acknowledged(self) -> None:
        """Send what waits, as far as there is room now."""
        self._acknowledging = False
        buffer = self._buffer
        while buffer and not self._lost:
            room = self._network.window_bytes - self._in_flight
            if room <= 0:
                return
            view = buffer[0]
            piece = bytes(view[:room])
            if len(piece) == len(view):
                buffer.popleft()
            else:
                buffer[0] = view[len(piece) :]
            self._buffered -= len(piece)
            self._send(piece)
        if self._lost:
            return
        if self._closing:
            self._finish()
        elif self._paused:
            self._paused = False
            self._protocol.resume_writing()

    # -- receiving, as this end's host

    def _take(self, piece: memoryview | None) -> None:
        if not self._lost:
            self._incoming.append(piece)
            self._feed()

    def _feed(self) -> None:
        """Hand on what has arrived, as long as the protocol wants it."""
        if self._feeding or not self._begun:
            return
        self._feeding = True
        incoming, network = self._incoming, self._network
        try:
            while incoming and self._reading and not self._closing:
                piece = incoming[0]
                if piece is None:
                    incoming.popleft()
                    if not self._protocol.eof_received():
                        self.close()
                    return
                protocol = self._protocol
                n = min(len(piece), _READ_BYTES)
                target: Any = None  # of memory that a protocol gives: typeshed's Buffer has neither length nor elements
                if isinstance(protocol, asyncio.BufferedProtocol):
                    target = protocol.get_buffer(-1)
                    if not len(target):
                        raise RuntimeError("get_buffer() returned an empty buffer")
                    n = min(n, len(target))
                if network.split_reads and n > 1 and network.draw("random") < 0.2:
                    n = 1 + int(network.draw("random") * (n - 1))
                if n == len(piece):
                    incoming.popleft()
                else:
                    incoming[0] = piece[n:]
                self._consumed(n)
                if target is None:
                    protocol.data_received(bytes(piece[:n]))
                else:
                    target[:n] = piece[:n]
                    protocol.buffer_updated(n)
        finally:
            self._feeding = False

    def _consumed(self, n_bytes: int) -> None:
        """Tell the writer that there is room again, if it waits for some."""
        other = self.other
        other._in_flight -= n_bytes
        if other._buffer and not other._acknowledging and not other._lost:
            other._acknowledging = True
            loop = self._network.loop
            at = loop.time() + self._network.delay(self._machine, other._machine)
            loop.call_on(other._host, at, other._acknowledged)

    # -- the end

    def _broken(self, error: Exception) -> None:
        """Lose the connection. What has arrived was read before, as far as it was wanted."""
        if not self._lost and self._begun:
            self._drop()
            self._lose(error)
        elif not self._lost:
            self._lost = self._closing = True
            self._machine.streams.pop(self, None)

    def _finish(self) -> None:
        self._transmit(self._farewell())
        self._lose(None)

    def _farewell(self) -> Exception | None:
        """Return what a system sends when a connection is closed: a reset if there is something that was not read."""
        return _reset() if self._incoming or not self._begun else None

    def _drop(self) -> None:
        self._buffer.clear()
        self._buffered = 0

    def _lose(self, error: Exception | None) -> None:
        self._lost = self._closing = True
        self._incoming.clear()
        self._machine.streams.pop(self, None)
        if self._begun:
            self._network.loop.call_soon(self._protocol.connection_lost, error)


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
