"""The other node as seen from here: requests go to it over one connection, which is made again whenever it breaks.

Many requests are in flight at once and are answered in any order; their frames leave in the order of the calls. One
timer for all of them looks for what is overdue. There is no task for a request, only for making the connection.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hogpour.core.errors import LocalProtocolError, PeerLost, ProtocolError, RemoteProtocolError, RequestFailed
from hogpour.net.address import split
from hogpour.net.asked import Asked, Unanswered
from hogpour.net.connection import Connection, Ended
from hogpour.net.handshake import NONCE_BYTES
from hogpour.net.transport import Transport, look_up, moved, reason_of
from hogpour.net.watch import Watch
from hogpour.net.wire.base import Answer, Message, Request
from hogpour.net.wire.identify import Identify

__all__ = ["Peer"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Between two tries to connect; doubled from one to the next. The very first retry after a connection that had answered
something comes at once."""

SWEEP_S = 1.0
"""While a request is unanswered, its connection is looked at this often."""

NO_LIMIT = 1 << 63
"""An answer's payload is compared with the memory that waits for it."""

TURNS = 2
"""A deadline is counted from the last byte that moved, until this many times the payloads moved that were under way
when the request was sent: a server answers in an order of its own."""


class _Link:
    """One connection of a peer, from the try to make it to its end."""

    def __init__(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        self.proven: asyncio.Future[Exception | None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.connection = Connection(
            "connector", peer._token, nonce=peer._nonce(NONCE_BYTES), payload_limit=NO_LIMIT, place=peer._asked.place
        )
        self.transport = Transport(self.connection, self, write_s=peer._write_s, arrive_s=peer._arrive_s)
        self.arrived = peer._arrived
        self.said: Identify | None = None  # who this node is, as the other end knows it
        self._peer = peer

    def ready(self) -> None:
        if not self.proven.done():
            self.proven.set_result(None)
            self._peer._ready(self)

    def lost(self, error: Exception | None) -> None:
        error = error or ConnectionResetError("closed by the other end")
        self.gone.set_result(None)
        if not self.proven.done():
            self.proven.set_result(error)
        self._peer._lost(self, error)


class Peer:
    """A node to ask; see ``requests.Requests``.

    Args:
        address: host:port.
        token: the cluster's.
        connect_s: seconds that a round trip may take while a connection is made: one of TCP, and two of the mutual
            proof.
        write_s, arrive_s: see ``Transport``.
        nonce: source of random bytes.

    Attributes:
        identity: what the other end is told before the next request, if it has not been on this connection.
    """

    def __init__(
        self,
        address: str,
        token: bytes,
        *,
        connect_s: float = 1.0,
        write_s: float = 10.0,
        arrive_s: float = 10.0,
        nonce: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.address = address
        self.identity: Identify | None = None
        self._host, self._port = split(address)
        self._token, self._connect_s, self._write_s, self._arrive_s = token, connect_s, write_s, arrive_s
        self._nonce, self._sweep_s = nonce, min(SWEEP_S, write_s, arrive_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = Unanswered(address)
        self._moved = 0  # on this connection, when it was looked at last
        self._link: _Link | None = None  # proven and not broken
        self._ending: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._pause_s, self._tries = 0.0, 0
        self._cause = ""  # why there is no connection
        self._watch = Watch(self._sweep)
        self._closed = False

    async def request(
        self,
        message: Request[Answer],
        payload: Sequence[memoryview] = (),
        *,
        into: memoryview | None = None,
        deadline_s: float,
        retry: bool = True,
    ) -> Answer:
        """Ask, and return the answer; see ``requests.Requests.request``.

        The frame is written before this first waits, if there is a connection. A request that is cancelled, or overdue,
        while its payload is not with the kernel yet takes the connection with it.

        Raises:
            RequestFailed: it was not done, or this node is refused (code ``refused``).
            PeerLost: no answer in time.
            RemoteProtocolError: who listens there is no node of this cluster, or the answer does not fit ``into``.
        """
        if self._closed:
            raise PeerLost(self.address, "closed by this node")
        id = self._asked.new_id()
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()  # once: it asks the kernel for the process id every time
        now = loop.time()
        future: asyncio.Future[Answer] = loop.create_future()
        asked = Asked(message, payload, into, now, deadline_s, retry, future)
        self._asked[id] = asked
        try:
            if self._link is not None:
                self._send(self._link, id, asked)
            else:
                self._connect()
            self._watch.by(min(asked.deadline, now + self._sweep_s))
            return await future  # the sweep sees to its deadline
        finally:
            if self._asked.pop(id, None) is not None:
                self._withdraw(id, asked)

    async def close(self) -> None:
        """Close the connection; what is unanswered raises PeerLost."""
        self._closed = True
        self._watch.stop()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task  # no deadline: it ends where it is cancelled
        self._break(ConnectionAbortedError("closed by this node"))
        self._asked.fail_all(partial(PeerLost, self.address), "closed by this node")
        if self._ending:
            await asyncio.wait(self._ending)  # no deadline: what is aborted is gone in the next turn of the event loop

    # What a link tells.

    def _ready(self, link: _Link) -> None:
        """Send what waits, in the order of the calls."""
        self._link, self._cause, self._moved = link, "", 0
        for id, asked in list(self._asked.items()):
            self._send(link, id, asked)

    def _arrived(self, id: int, message: Message, payload: memoryview | None) -> None:
        """Hand an answer to who asked."""
        asked = self._asked.get(id)  # None: nobody waits any more
        if asked is not None and asked.unsent:
            self._break(RemoteProtocolError(f"answered {type(asked.message).__name__} before it was sent"))
        elif asked is not None:
            self._pause_s = 0.0
            self._asked.answer(id, message, payload)

    def _lost(self, link: _Link, error: Exception) -> None:
        """Connect again if somebody waits for an answer."""
        if link is not self._link:
            return
        self._link = None
        self._cause = reason_of(error)
        self._asked.disconnected(self._cause)
        self._connect()

    def _break(self, error: Exception) -> None:
        """Close the connection at once."""
        link = self._link
        if link is not None:
            self._end(link, error)
            self._lost(link, error)

    def _end(self, link: _Link, error: Exception) -> None:
        if link.transport.abort(error):
            self._ending.add(link.gone)
            link.gone.add_done_callback(self._ending.discard)

    # Sending.

    def _send(self, link: _Link, id: int, asked: Asked[Any]) -> None:
        if link.said is not self.identity is not None:
            link.said = self.identity
            link.transport.write(link.connection.send(self.identity, self._asked.new_id()))  # its answer says nothing
        asked.moves_to = 0
        if asked.n_bytes:
            # Of what was written before some may not have moved yet: to know how much asks the kernel, at each request.
            written = link.transport.bytes_in + link.transport.bytes_out
            asked.moves_to = written + TURNS * sum([other.n_bytes for other in self._asked.values()])
        try:
            frame = link.connection.send(asked.message, id, asked.n_payload)
        except LocalProtocolError as error:  # a bug of whoever asks this, and no matter of the others
            self._asked.pop(id).fail(error)
            return
        if not link.transport.write(frame, asked.payload, asked.n_payload) and asked.n_payload:
            asked.unsent = True
            link.transport.after(asked.wholly_sent)

    def _withdraw(self, id: int, asked: Asked[Any]) -> None:
        """Let nothing touch the memory of a request that nobody waits for any more."""
        if asked.unsent:
            self._break(ConnectionAbortedError(f"{type(asked.message).__name__} was given up while it was being sent"))
        elif self._link is not None:
            self._link.connection.divert(id)

    # Connecting.

    def _connect(self) -> None:
        if self._task is None and self._asked and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._try_to_connect())
            self._task.add_done_callback(self._tried)

    def _tried(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.result()  # a bug of ours is heard
        if self._link is None:
            self._connect()

    async def _try_to_connect(self) -> None:
        """Try until there is a proven connection, or nobody waits for one."""
        loop = asyncio.get_running_loop()
        while self._asked:
            if self._pause_s:
                await asyncio.sleep(self._pause_s)
            self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            link = _Link(self)
            error: Exception | None
            slow = f"no connection within {self._connect_s:g} s"
            try:
                host = await look_up(self._host, self._port, self._tries)  # no deadline: resolvers may be slow
                self._tries += 1
                async with asyncio.timeout(self._connect_s) as limit:
                    await loop.create_connection(lambda link=link: link.transport, host, self._port)  # type: ignore[misc]
                    slow = f"connected, and no proof of the token within {2 * self._connect_s:g} s"
                    limit.reschedule(loop.time() + 2 * self._connect_s)
                    error = await link.proven
            except TimeoutError:  # the proof may have come in the same turn, where this process stood still
                error = None if link is self._link else TimeoutError(slow)
            except OSError as caught:
                error = caught
            finally:
                if link is not self._link:
                    self._end(link, ConnectionAbortedError("no connection"))
            if error is None:
                return
            self._cause = reason_of(error)
            if isinstance(error, RequestFailed):
                self._asked.fail_all(partial(RequestFailed, error.code), f"{self.address}: {error}")
            elif isinstance(error, ProtocolError) and not isinstance(error, Ended):
                self._asked.fail_all(RemoteProtocolError, f"{self.address}: {error}")
            self._asked.disconnected(self._cause)

    # What is overdue.

    def _sweep(self, now: float, slept: float) -> None:
        """Find what is overdue, and a connection that does not move."""
        if slept:
            for asked in self._asked.values():
                asked.deadline += slept
        if self._link is not None and (text := self._link.transport.overdue(now, slept)) is not None:
            self._break(TimeoutError(text))
        before, self._moved = self._moved, moved(self._link.transport) if self._link is not None else 0
        for asked in self._asked.values():
            if before < min(self._moved, asked.moves_to):
                asked.deadline = max(asked.deadline, now + asked.deadline_s)
        for id, asked in list(self._asked.items()):
            if asked.deadline <= now and id in self._asked:
                del self._asked[id]
                self._withdraw(id, asked)
                why = f": {self._cause}" if self._link is None and self._cause else ""
                text = f"no answer to {asked} within {asked.deadline_s:g} s{why}"
                asked.fail(PeerLost(self.address, text, unheard=asked.moves_to < 0))
        if self._asked and not self._closed:
            self._watch.by(min(now + self._sweep_s, min([asked.deadline for asked in self._asked.values()])))
