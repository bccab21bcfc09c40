"""The thin shell between a socket and a connection: bytes in and out without a copy, and nothing waits for ever.

The event loop reads straight into ``Connection.target()``. What is written goes to the kernel within the call as far as
the kernel takes it (the loop's own buffer has no room, so ``pause_writing`` and ``resume_writing`` say exactly when
everything is gone); the rest waits here, uncopied, and leaves in pieces. A peer that does not read, or that stops
inside a frame, is found by ``overdue``, which the owner calls now and then: no timer and no task for each request.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Protocol, cast

from hogpour.core.errors import HogpourError, RemoteProtocolError
from hogpour.net.connection import Connection
from hogpour.net.wire.base import Message

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["Owner", "Transport", "look_up", "loopback_of", "moved", "reason_of", "unsent"]

JOINED_BYTES = 32 * 1024
"""Up to here a payload is copied behind its header: one system call, and the copy takes less time than a second one."""

PIECE_BYTES = 1024 * 1024
"""A larger payload leaves in pieces of this size. asyncio's own transport copies what the kernel does not take at once:
64 MB in one write would be copied whole. Between 256 KiB and 4 MiB neither loop cares much (4 MB shards, loopback)."""


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def ready(self) -> None:
        """Both ends have proven that they know the token."""

    def arrived(self, id: int, message: Message, payload: memoryview | None) -> None:
        """A whole frame is there."""

    def lost(self, error: Exception | None) -> None:
        """The connection is gone; called once. ``error`` is None when the other end closed it between two frames."""


class Transport(asyncio.BufferedProtocol):
    """A connection on a socket.

    Args:
        connection: its state.
        owner: told what happens.
        write_s: seconds that a peer may read nothing while something waits to be written.
        arrive_s: seconds that may pass without a byte inside a frame.

    Attributes:
        bytes_in, bytes_out: so far.
    """

    def __init__(self, connection: Connection, owner: Owner, *, write_s: float = 10.0, arrive_s: float = 10.0) -> None:
        self.bytes_in = self.bytes_out = 0
        self._connection, self._owner, self._write_s, self._arrive_s = connection, owner, write_s, arrive_s
        self.get_buffer = connection.target  # type: ignore[method-assign]  # one call less for each read
        self._stream: asyncio.Transport | None = None
        self._waiting: deque[bytes | memoryview | Callable[[], None]] = deque()
        self._paused = False  # the kernel takes no more for now
        self._held = False  # the owner wants nothing more for now
        self._reading = True
        self._ended = False  # closed or about to be
        self._error: Exception | None = None
        self._in_seen, self._in_since = 0, -1.0
        self._out_seen, self._out_since = 0, -1.0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._stream = cast(asyncio.Transport, transport)
        self._stream.set_write_buffer_limits(high=0)
        opened = self._stream.get_extra_info("socket")
        if opened is not None and opened.family in (socket.AF_INET, socket.AF_INET6):
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send_own()

    def buffer_updated(self, nbytes: int) -> None:
        """Take in what arrived."""
        self.bytes_in += nbytes
        connection = self._connection
        if not connection.ready:
            self._shake(nbytes)
            return
        failure = None
        try:
            connection.received(nbytes)
        except HogpourError as error:
            failure = error
        for id, message, payload in connection.events():
            self._owner.arrived(id, message, payload)
        if failure is not None:
            self.close(failure)
        elif connection.blocked:
            self._set_reading()

    def eof_received(self) -> None:
        """Close; tell why if this was not between two frames."""
        try:
            self._connection.eof()
        except RemoteProtocolError as error:
            self.close(error)
        else:
            self.close(None)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """Everything is with the kernel."""
        self._paused = False
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._ended = self._paused = True
        self._stream = None
        for item in self._waiting:
            if callable(item):
                item()
        self._waiting.clear()
        self._owner.lost(self._error or exc)

    # What the owner calls.

    @property
    def peername(self) -> str:
        """host:port of the other end."""
        name = self._stream.get_extra_info("peername") if self._stream is not None else None
        return f"{name[0].removeprefix('::ffff:')}:{name[1]}" if name else "?"  # IPv4 on a socket of IPv6

    def write(self, frame: bytes, payload: Sequence[memoryview] = (), n_payload: int = 0) -> bool:
        """Write a frame. Return whether the payload is free again: copied or with the kernel. If not, see ``after``.

        Args:
            payload: contiguous bytes behind it,             n_payload: their number.
        """
        stream, waiting = self._stream, self._waiting
        if self._ended or stream is None or stream.is_closing():  # broken, and we are about to be told
            return True
        if n_payload <= JOINED_BYTES:
            if n_payload:
                frame = b"".join((frame, *payload))
            self.bytes_out += len(frame)
            if self._paused or waiting:
                waiting.append(frame)
                return False
            stream.write(frame)
            return True
        self.bytes_out += len(frame) + n_payload
        waiting.append(frame)
        for view in payload:
            octets = view.cast("B")
            waiting.extend(octets[k : k + PIECE_BYTES] for k in range(0, len(octets), PIECE_BYTES))
        if not self._paused:
            self._pump()
        return not (waiting or self._paused)

    def after(self, sent: Callable[[], None]) -> None:
        """Call ``sent`` once when all that was written so far is with the kernel, or the connection is gone."""
        self._waiting.append(sent)

    def hold(self, held: bool) -> None:
        """Read nothing more, or read on."""
        self._held = held
        self._set_reading()

    def retry_place(self) -> None:
        """Ask the connection's ``place`` again, and read on if it has one."""
        try:
            self._connection.retry_place()
        except HogpourError as error:
            self._hand_on()
            self.close(error)
        else:
            self._hand_on()
            self._set_reading()

    def overdue(self, now: float, slept: float = 0.0) -> str | None:
        """Return what this peer has not done for too long, or None. Call it every second or so.

        Args:
            slept: seconds since the last call in which this process stood still; see ``Watch``.
        """
        self._out_since += slept * (self._out_since >= 0)
        self._in_since += slept * (self._in_since >= 0)
        sent = _sent(self)
        if not self._paused or self._out_since < 0 or self._out_seen != sent:
            self._out_seen, self._out_since = sent, now if self._paused else -1.0
        elif now - self._out_since >= self._write_s:
            return f"read nothing for {self._write_s:g} s"
        inside = self._connection.inside and self._reading
        if not inside or self._in_since < 0 or self._in_seen != self.bytes_in:
            self._in_seen, self._in_since = self.bytes_in, now if inside else -1.0
        elif now - self._in_since >= self._arrive_s:
            return f"stopped inside a frame for {self._arrive_s:g} s"
        return None

    def close(self, error: Exception | None) -> None:
        """Read nothing more, close when what waits is written. ``owner.lost`` is told ``error``."""
        if not self._ended:
            self._ended, self._error = True, error
            if self._stream is not None and not self._waiting:
                self._stream.close()
            else:
                self._set_reading()

    def abort(self, error: Exception | None) -> bool:
        """Close at once; what waits is dropped, its memory not read any more. Return whether ``owner.lost`` follows."""
        if self._stream is None:
            return False
        if not self._ended:
            self._ended, self._error = True, error
        self._stream.abort()
        return True

    def _hand_on(self) -> None:
        for id, message, payload in self._connection.events():
            self._owner.arrived(id, message, payload)

    def _shake(self, nbytes: int) -> None:
        """Take in a part of the handshake, perhaps with what comes after it."""
        error = None
        try:
            self._connection.received(nbytes)
        except HogpourError as caught:
            error = caught
        self._send_own()
        if self._connection.ready:
            self._owner.ready()
            self._hand_on()
        if error is not None:
            self.close(error)
        else:
            self._set_reading()

    def _send_own(self) -> None:
        for frame in self._connection.data_to_send():
            self.write(frame)

    def _pump(self) -> None:
        """Write what waits, until the kernel takes no more."""
        waiting, stream = self._waiting, self._stream
        while waiting and not self._paused and stream is not None and not stream.is_closing():
            item = waiting.popleft()
            if callable(item):
                item()
            else:
                stream.write(item)
        if self._ended and not waiting and stream is not None:
            stream.close()

    def _set_reading(self) -> None:
        reading = not (self._held or self._connection.blocked or self._ended)
        if reading != self._reading and self._stream is not None:
            self._reading = reading
            if reading:
                self._stream.resume_reading()
            else:
                self._stream.pause_reading()


def moved(transport: Transport) -> int:
    """Return how many bytes have arrived, here or there."""
    return transport.bytes_in + _sent(transport)


def unsent(transport: Transport) -> int:
    """Return how many bytes are still here, of those that were written: where this system tells, also the kernel's that
    the other end has not acknowledged."""
    stream = transport._stream
    waiting = sum([len(item) for item in transport._waiting if not callable(item)])
    if stream is not None:
        waiting += stream.get_write_buffer_size()
        opened = stream.get_extra_info("socket")
        if opened is not None and sys.platform == "linux":
            with suppress(OSError):  # it is closed
                waiting += int.from_bytes(fcntl.ioctl(opened.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return waiting


def _sent(transport: Transport) -> int:
    """Return how many bytes are with the other end's kernel or, where this system does not tell, with ours."""
    return transport.bytes_out - unsent(transport)


async def look_up(host: str, port: int, turn: int) -> str:
    """Return an address of a host by its name, another one at each turn, as long as the resolver takes.

    Raises:
        OSError: the name has none.
    """
    with suppress(ValueError):
        ip_address(host)
        return host
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return str(found[turn % len(found)][4][0])


async def loopback_of(host: str) -> str:
    """Return the address of a host that only this machine reaches, whatever its name is; empty: others may, too."""
    addresses = [host]
    try:
        ip_address(host)
    except ValueError:
        with suppress(OSError):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    with suppress(ValueError):  # a name that nobody knows
        if all([ip_address(address).is_loopback for address in addresses]):
            return addresses[0]
    return ""


def reason_of(error: Exception) -> str:
    """Say in a few words why a connection could not be made or broke."""
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()  # of the resolver
    return str(error) or type(error).__name__
