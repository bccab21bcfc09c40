"""The open port of a node: connections are accepted, proven, and their requests handed to handlers.

Whatever somebody sends here, or does not send, ends at most the connection that it came by, with one logged reason, and
takes bounded memory: connections, a scratch for each, requests under way on each, and staging buffers have bounds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hogpour.core.errors import (
    HogpourError,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    RequestFailed,
)
from hogpour.net.authority import Authority, Caller
from hogpour.net.connection import Connection
from hogpour.net.door import Door, source_of
from hogpour.net.handshake import NONCE_BYTES
from hogpour.net.log_lines import LogLines
from hogpour.net.port import open_port
from hogpour.net.requests import Handler, Reply
from hogpour.net.staging import Staging
from hogpour.net.tasks import TaskSet
from hogpour.net.transport import Transport, unsent
from hogpour.net.watch import Watch
from hogpour.net.wire.base import Failed, Message

__all__ = ["Handler", "Listener", "Reply"]

SWEEP_S = 1.0
"""While there are connections, they are looked at this often."""

IN_FLIGHT = 32
"""Requests of one connection without an answer that was read; then it is read no further than its scratch is full."""

BACKLOG = 512

TEXT = 1000
"""Characters of an error that the other end is told: four bytes each fit into ``Failed``."""


class Listener:
    """Accepts connections and answers what comes by them.

    Args:
        handlers: what is called for each request.
        token: the cluster's.
        authority: knows who may say what; None: whoever has proven the token may say everything.
        staging: memory for the payloads of requests.
        payload_limit: largest payload of a request.
        log: called with a line when a connection ends in another way than by being closed between two frames.
        max_connections: at once. Who comes when there are so many is turned away.
        max_unproven: connections that have not proven the token. Who comes when there are so many takes the place of
            one of them, see ``Door``: strangers do not keep a node out.
        handshake_s: seconds for the proof; an attribute as well, of connections that are to come.
        write_s, arrive_s: see ``Transport``.
        nonce: source of random bytes.

    Attributes:
        address: host:port, once started.
    """

    def __init__(
        self,
        handlers: Mapping[type[Message], Handler],
        token: bytes,
        *,
        authority: Authority | None = None,
        staging: Staging,
        payload_limit: int,
        log: Callable[[str], None],
        max_connections: int = 512,
        max_unproven: int = 64,
        handshake_s: float = 5.0,
        write_s: float = 10.0,
        arrive_s: float = 10.0,
        nonce: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.address = ""
        self.handlers, self.staging, self._authority = handlers, staging, authority
        self._token, self._payload_limit, self._nonce = token, payload_limit, nonce
        self._max_connections, self._max_unproven, self.handshake_s = max_connections, max_unproven, handshake_s
        self._write_s, self._arrive_s = write_s, arrive_s
        self._sweep_s = min(SWEEP_S, handshake_s, write_s, arrive_s)
        self._lines = LogLines(log)
        self._server: asyncio.Server | None = None
        self._sessions: dict[_Session, None] = {}  # in the order of their coming
        self._unproven = Door[_Session](nonce)
        self._tasks = TaskSet()  # handlers that wait
        self._watch = Watch(self._sweep)
        self._draining = False
        self._empty: asyncio.Future[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Open the port; 0 takes a free one, and the host "*" all addresses of this machine.

        Raises:
            ResourceError: it cannot be opened.
        """
        self._server, self.address = await open_port(self._accept, host, port, BACKLOG)

    @property
    def transferring(self) -> bool:
        """Whether something is on its way from or to somebody; what stands still there is ended, see ``Transport``."""
        return any([session.connection.inside or unsent(session.transport) > 0 for session in self._sessions])

    async def drain(self, timeout_s: float) -> None:
        """Accept nothing more, finish what is in flight, close."""
        if self._server is not None:
            self._server.close()
        self._draining = True
        for session in list(self._sessions):
            session.finish()
        if self._sessions:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._empty], timeout=timeout_s)
        await self.close()

    async def close(self) -> None:
        """Close the port and all connections; handlers that run are cancelled."""
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.transport.abort(None)
        await self._tasks.cancel()  # no deadline: a handler that does not end when cancelled uses its payload
        if self._sessions:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty  # no deadline: what is aborted is gone in the next turn of the event loop
        if self._server is not None:
            await self._server.wait_closed()  # no deadline: no connection is left
            self._server = None
        self._watch.stop()
        self._lines.end()

    # What sessions tell.

    def _accept(self) -> Transport:
        session = _Session(self)
        place: Callable[[int, Message, int], memoryview | None] = session.place
        connection = Connection(
            "acceptor", self._token, nonce=self._nonce(NONCE_BYTES), payload_limit=self._payload_limit, place=place
        )
        session.begin(connection, _Accepted(connection, session, write_s=self._write_s, arrive_s=self._arrive_s))
        return session.transport

    def _made(self, session: _Session) -> None:
        """Let a new connection in, or not."""
        loop = asyncio.get_running_loop()
        session.until = loop.time() + self.handshake_s
        full = len(self._sessions) >= self._max_connections
        self._sessions[session] = None
        if self._draining or (full and not self._unproven):
            why = "this node is going" if self._draining else f"{self._max_connections} connections are there already"
            session.transport.abort(_Turned(why))
            return
        if full or len(self._unproven) >= self._max_unproven:
            self._unproven.drop().transport.abort(_Turned("had not proven the token when others came"))
        self._unproven.enter(session, source_of(session.name.rpartition(":")[0]))
        self._watch.by(loop.time() + self._sweep_s)

    def _proven(self, session: _Session) -> None:
        self._unproven.leave(session)

    def _gone(self, session: _Session, error: Exception | None) -> None:
        self._sessions.pop(session, None)
        self._unproven.leave(session)
        if error is not None:
            self._lines.say(f"{session.name}: {error}", asyncio.get_running_loop().time())
        if self._empty is not None and not self._sessions and not self._empty.done():
            self._empty.set_result(None)

    def _run(self, session: _Session, id: int, reply: Awaitable[Reply[Any]], payload: memoryview | None) -> None:
        """Run a handler that must wait."""
        self._tasks.start(session.answer_later(id, reply, payload))

    def _sweep(self, now: float, slept: float) -> None:
        """Find those that are silent, stuck or do not read."""
        for session in list(self._sessions):
            session.until += slept
            if session in self._unproven and now >= session.until:
                session.transport.abort(_Turned(f"did not prove the token within {self.handshake_s:g} s"))
            elif (text := session.transport.overdue(now, slept)) is not None:
                session.transport.abort(_Turned(text))
        self._lines.flush(now)
        if self._sessions or self._lines.unsaid:
            self._watch.by(now + self._sweep_s)


class _Turned(HogpourError):
    """Why this node closed a connection that broke no rule of the protocol."""


class _Accepted(Transport):
    """A transport that tells its session when it begins."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(self._owner, _Session)
        self._owner.made()


class _Session:
    """One accepted connection."""

    transport: Transport
    connection: Connection

    def __init__(self, listener: Listener) -> None:
        self.name, self.until = "?", 0.0
        self._listener, self._staging, asked = listener, listener.staging, listener._authority
        self._handlers = listener.handlers if asked is None else Caller(asked, listener.handlers)
        self._places: dict[int, memoryview] = {}  # staging of payloads that are not with a handler yet, by request
        self._waiting = False  # a payload has no staging
        self._granted: memoryview | None = None  # staging for it, that it does not know of yet
        self._unfinished = 0  # requests without an answer that is with the kernel
        self._finishing = self._lost = False

    def begin(self, connection: Connection, transport: Transport) -> None:
        """Take what the session is about."""
        self.connection, self.transport = connection, transport

    def made(self) -> None:
        """Ask to be let in."""
        self.name = self.transport.peername
        self._listener._made(self)

    def ready(self) -> None:
        """See ``Owner``."""
        self._listener._proven(self)

    def place(self, id: int, message: Message, n_bytes: int) -> memoryview | None:
        """Return staging for a payload, or None until there is some."""
        view, self._granted = self._granted, None
        if view is None:
            view = self._staging.take(n_bytes, self._grant)
        self._waiting = view is None
        if view is not None:
            self._places[id] = view
        return view

    def _grant(self, view: memoryview) -> None:
        """Read on, but not now: this is called while a request is answered, and answers would nest without end."""
        self._waiting, self._granted = False, view
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._lost:
            self.transport.retry_place()

    def arrived(self, id: int, message: Message, payload: memoryview | None) -> None:
        """Call the handler of a request."""
        self._places.pop(id, None)
        self._unfinished += 1
        if self._unfinished >= IN_FLIGHT:
            self.transport.hold(True)
        handler = self._handlers.get(type(message))
        if handler is None:
            failed = Failed(Refusal.WRONG, f"this node does not answer {type(message).__name__}")
            self._answer(id, Reply(failed), payload)
            return
        try:
            reply = handler(message, payload or memoryview(b"")) if message.PAYLOAD else handler(message)
        except Exception as error:
            self._failed(id, error, payload)
        else:
            if isinstance(reply, Reply):
                self._answer(id, reply, payload)
            else:
                self._listener._run(self, id, reply, payload)

    async def answer_later(self, id: int, awaited: Awaitable[Reply[Any]], payload: memoryview | None) -> None:
        """Answer when the handler has come to its reply. It goes on when the connection is gone."""
        try:
            reply = await awaited  # no deadline: the handler's matter
        except asyncio.CancelledError:
            if payload is not None:
                self._staging.give(payload)
            raise
        except Exception as error:
            self._failed(id, error, payload)
        else:
            self._answer(id, reply, payload)

    def lost(self, error: Exception | None) -> None:
        """Give back what a payload was arriving in."""
        self._lost = True
        if self._waiting:
            self._staging.forget(self._grant)
        unused = [*self._places.values(), *([] if self._granted is None else [self._granted])]
        self._places.clear()
        self._granted = None
        for view in unused:
            self._staging.give(view)
        self._listener._gone(self, error)

    def finish(self) -> None:
        """Close as soon as nothing is in flight."""
        self._finishing = True
        if not self.connection.inside:
            self.transport.hold(True)
            if not self._unfinished:
                self.transport.close(None)

    def _answer(self, id: int, reply: Reply[Any], payload: memoryview | None) -> None:
        if payload is not None:
            self._staging.give(payload)
        sent = reply.sent
        if self._lost:
            if sent is not None:
                sent()
            return
        views, n_payload = reply.payload, 0
        for view in views:
            n_payload += view.nbytes
        try:
            frame = self.connection.send(reply.message, id, n_payload)
        except LocalProtocolError as error:  # the handler's answer is none; a bug, and perhaps for this request only
            if sent is not None:
                sent()
            self._failed(id, error, None)
            return
        if self.transport.write(frame, views, n_payload):
            if sent is not None:
                sent()
            self._finished()
        else:
            if sent is not None:
                self.transport.after(sent)
            self.transport.after(self._finished)

    def _finished(self) -> None:
        self._unfinished -= 1
        if self._finishing:
            self.finish()
        elif self._unfinished == IN_FLIGHT - 1:
            self.transport.hold(False)

    def _failed(self, id: int, error: Exception, payload: memoryview | None) -> None:
        if isinstance(error, RequestFailed):
            self._answer(id, Reply(Failed(error.code, str(error)[:TEXT])), payload)
        elif isinstance(error, RemoteProtocolError):
            if payload is not None:
                self._staging.give(payload)
            self.transport.close(error)
        else:
            text = f"{type(error).__name__}: {error}"
            self._listener._lines.say(f"{self.name}: a handler failed: {text}", asyncio.get_running_loop().time())
            self._answer(id, Reply(Failed(Refusal.WRONG, text[:TEXT])), payload)
