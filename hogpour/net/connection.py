"""One connection as a state machine without I/O: it says where the next bytes go, and what they meant.

The shell around it reads into ``target()``, reports with ``received(n)``, takes what arrived from ``events()`` and
writes what ``data_to_send()`` and ``send()`` return. Inside a payload the target is the rest of the payload's own
memory, so that a gradient lands where it is needed without a copy; everything else goes through a small scratch.

    acceptor    Hello → Challenge, Proof → Welcome, then any requests, answered in any order
    connector   Hello, Challenge → Proof, Welcome, then requests; an answer has the number of its request

The handshake is that of ``wire.handshake``; before its end nothing else is legal. Bytes that break a rule raise
RemoteProtocolError; the shell then hands on what ``events()`` still holds, writes what ``data_to_send()`` still
holds, and closes.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Literal, NamedTuple, NoReturn

from hogpour.errors import LocalProtocolError, RemoteProtocolError, RequestFailed
from hogpour.net.frame import HEADER_BYTES, VERSION, Header, check_beginning, decode, encode
from hogpour.net.wire import answers
from hogpour.net.wire.base import Failed, Message
from hogpour.net.wire.handshake import Challenge, Hello, Proof, Welcome

__all__ = ["SKIP", "Arrived", "Connection", "Place"]

NONCE_BYTES = 32

SKIP = memoryview(bytearray())
"""What a ``Place`` returns when nobody wants the payload any more: it is read and dropped."""

Place = Callable[[int, Message, int], memoryview | None]
"""Called with id, message and length of a payload that is about to arrive; returns writable bytes of that length,
``SKIP``, or None when there is no room yet. May raise RemoteProtocolError."""

SCRATCH_BYTES = 16 * 1024
"""For headers, bodies and small frames. 512 connections take 8 MB; the start of a large payload that arrives with its
header and is copied out of it stays below half a percent of 4 MB."""

_ANSWERS = answers()


class Arrived(NamedTuple):
    """A whole frame: a request at the acceptor, an answer at the connector."""

    id: int
    message: Message
    payload: memoryview | None
    """What ``Place`` returned, filled; None without a payload or where it was skipped."""


class Connection:
    """One end of a connection.

    Args:
        role: the connector sends requests, the acceptor answers them.
        token: what both ends must know.
        nonce: 32 random bytes, never used before.
        payload_limit: largest payload that the other end may send.
        place: see ``Place``.

    Attributes:
        ready: both ends have proven that they know the token.
        blocked: a payload has no place: stop reading, and call ``retry_place`` when there may be room.
    """

    __slots__ = (
        "_body", "_end", "_events", "_expects", "_header", "_limit", "_message", "_nonce", "_outgoing", "_outstanding",
        "_payload", "_place", "_rest", "_role", "_skip", "_start", "_theirs", "_token", "_view", "blocked", "ready",
    )  # fmt: skip

    def __init__(
        self, role: Literal["connector", "acceptor"], token: bytes, *, nonce: bytes, payload_limit: int, place: Place
    ) -> None:
        assert len(nonce) == NONCE_BYTES
        self.ready = self.blocked = False
        self._role, self._token, self._nonce, self._limit, self._place = role, token, nonce, payload_limit, place
        self._theirs = b""  # the other end's nonce
        self._view = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0  # what is in the scratch and not understood yet
        self._header: Header | None = None  # of the frame under way, once it is known
        self._message: Message | None = None  # of the frame under way, once it is known
        self._body: bytearray | None = None  # a body that is larger than the scratch
        self._payload: memoryview | None = None
        self._rest: memoryview | None = None  # of that body or payload: where the next bytes go
        self._skip = 0  # bytes of a payload that nobody wants
        self._events: list[Arrived] = []
        # Connector: the answer that each unanswered request must get. Acceptor: that each must be given.
        self._outstanding: dict[int, type[Message]] = {}
        self._outgoing: list[bytes] = []
        self._expects: type[Message] = Hello
        if role == "connector":
            self._expects = Challenge
            self._outgoing.append(encode(Hello(VERSION, nonce), 0))

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._header is not None or self._end > self._start

    def target(self) -> memoryview:
        """Return where the next bytes go; never empty."""
        if self._rest is not None:
            return self._rest
        if self._skip:
            return self._view[: self._skip]
        if self._end == 0:
            return self._view
        if self._end == SCRATCH_BYTES:
            raise LocalProtocolError("read on while a payload has no place")
        return self._view[self._end :]

    def received(self, n: int) -> None:
        """Say that ``n`` bytes lie in what ``target`` returned last.

        Raises:
            RemoteProtocolError: they break a rule.
            RequestFailed: the acceptor refuses this connector.
        """
        rest = self._rest
        if rest is not None:
            if n < len(rest):
                self._rest = rest[n:]
                return
            self._rest = None
            if self._body is not None:
                body, self._body = self._body, None
                self._decoded(body)
            else:
                self._complete()
        elif self._skip:
            self._skip -= n
            if not self._skip:
                self._complete()
        else:
            self._end += n
            if not self.blocked:
                self._parse()

    def retry_place(self) -> None:
        """Ask ``place`` again for the payload that has none; what had arrived behind it is then understood too."""
        if self.blocked:
            self.blocked = False
            self._begin_payload()
            self._parse()

    def divert(self, id: int) -> None:
        """Let nothing more of frame ``id`` reach the memory of its payload: the rest is read and dropped."""
        if self._payload is not None and self._header is not None and self._header.id == id:
            assert self._rest is not None
            self._skip, self._rest, self._payload = len(self._rest), None, None

    def events(self) -> list[Arrived]:
        """Return what has arrived since the last call."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> list[bytes]:
        """Return frames that the connection itself has to send."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def send(self, message: Message, id: int, n_payload: int = 0) -> bytes:
        """Return the frame of a request with a new ``id``, or of the answer to request ``id``.

        Raises:
            LocalProtocolError: not now, not this, or not to that.
        """
        if not self.ready:
            raise LocalProtocolError(f"{type(message).__name__} before the end of the handshake")
        frame = encode(message, id, n_payload)
        if self._role == "connector":
            if id in self._outstanding or not 0 < id < 1 << 32:
                raise LocalProtocolError(f"request {id} is used or out of range")
            answer = _ANSWERS.get(type(message))
            if answer is None:
                raise LocalProtocolError(f"{type(message).__name__} is no request")
            self._outstanding[id] = answer
        else:
            answer = self._outstanding.get(id)
            if answer is None:
                raise LocalProtocolError(f"answer to request {id}, which was not asked or is answered")
            if answer is not type(message) and type(message) is not Failed:
                text = f"{type(message).__name__} for request {id}, which is answered with {answer.__name__}"
                raise LocalProtocolError(text)
            del self._outstanding[id]
        return frame

    def eof(self) -> None:
        """Say that the other end sends no more.

        Raises:
            RemoteProtocolError: it ended inside a frame or before the end of the handshake.
        """
        if self.inside:
            name = "a header" if self._header is None else self._header.kind.__name__
            raise RemoteProtocolError(f"ended inside {name}")
        if not self.ready:
            raise RemoteProtocolError(f"ended before {self._expects.__name__}")

    # What is in the scratch.

    def _parse(self) -> None:
        """Understand what is in the scratch, as far as it goes; keep the rest at its front."""
        view = self._view
        while self._message is None and self._rest is None:
            have = self._end - self._start
            header = self._header
            if header is None:
                if have < HEADER_BYTES:
                    if have:
                        check_beginning(view[self._start : self._end])
                    break
                header = Header.parse(view, self._start, self._limit)
                self._check(header)
                self._header = header
                self._start += HEADER_BYTES
                have -= HEADER_BYTES
            if have < header.n_body:
                if header.n_body > SCRATCH_BYTES:
                    self._body = bytearray(header.n_body)
                    rest = memoryview(self._body)
                    rest[:have] = view[self._start : self._end]
                    self._start, self._rest = self._end, rest[have:]
                break
            start = self._start
            self._start += header.n_body
            self._decoded(view[start : self._start])
        if self._start:
            have = self._end - self._start
            if have:
                view[:have] = view[self._start : self._end]
            self._start, self._end = 0, have

    def _decoded(self, body: bytearray | memoryview) -> None:
        """Go on behind a whole body."""
        header = self._header
        assert header is not None
        message = decode(header.kind, body)
        if not self.ready:
            self._header = None
            self._shake(message)
        elif header.n_payload:
            self._message = message
            self._begin_payload()
        else:
            self._message = message
            self._complete()

    def _begin_payload(self) -> None:
        header = self._header
        assert header is not None
        assert self._message is not None
        n = header.n_payload
        place = self._place(header.id, self._message, n)
        if place is None:
            self.blocked = True
            return
        here = min(self._end - self._start, n)
        if place is SKIP:
            self._skip = n - here
        else:
            if len(place) != n:
                raise LocalProtocolError(f"a place of {len(place)} bytes for a payload of {n}")
            self._payload = place
            if here:
                place[:here] = self._view[self._start : self._start + here]
            self._rest = place[here:] if here < n else None
        self._start += here
        if here == n:
            self._complete()

    def _complete(self) -> None:
        header, message = self._header, self._message
        assert header is not None
        assert message is not None
        if self._role == "connector":
            del self._outstanding[header.id]
        else:
            self._outstanding[header.id] = _ANSWERS[header.kind]
        self._events.append(Arrived(header.id, message, self._payload))
        self._header = self._message = self._payload = None

    # What may come, and when.

    def _check(self, header: Header) -> None:
        """Raise RemoteProtocolError if a frame of this header may not come now."""
        kind = header.kind
        if not self.ready:
            if kind is not self._expects and not (kind is Failed and self._role == "connector"):
                raise RemoteProtocolError(f"sent {kind.__name__} where {self._expects.__name__} was expected")
            if header.id:
                raise RemoteProtocolError(f"sent {kind.__name__} with id {header.id}; expected 0")
        elif self._role == "connector":
            answer = self._outstanding.get(header.id)
            if answer is None:
                raise RemoteProtocolError(f"sent {kind.__name__} for request {header.id}, which is not outstanding")
            if kind is not answer and kind is not Failed:
                raise RemoteProtocolError(f"sent {kind.__name__} where {answer.__name__} was expected")
        else:
            if kind not in _ANSWERS:
                raise RemoteProtocolError(f"sent {kind.__name__}, which is no request")
            if header.id in self._outstanding or not header.id:
                raise RemoteProtocolError(f"sent {kind.__name__} with id {header.id}, which is not free")

    def _shake(self, message: Message) -> None:
        """Do the next step of the handshake."""
        if isinstance(message, Failed):
            raise RequestFailed(message.code, message.text)
        if isinstance(message, Hello):
            if message.version != VERSION:
                text = f"the connector speaks version {message.version}, this node {VERSION}"
                self._refuse(text)
            self._theirs = self._checked_nonce(message.nonce)
            self._outgoing.append(encode(Challenge(self._nonce), 0))
            self._expects = Proof
        elif isinstance(message, Challenge):
            self._theirs = self._checked_nonce(message.nonce)
            self._outgoing.append(encode(Proof(self._mac("connector")), 0))
            self._expects = Welcome
        elif isinstance(message, Proof):
            if not hmac.compare_digest(message.mac, self._mac("connector")):
                self._refuse("wrong token")
            self._outgoing.append(encode(Welcome(self._mac("acceptor")), 0))
            self.ready = True
        else:
            assert isinstance(message, Welcome)
            if not hmac.compare_digest(message.mac, self._mac("acceptor")):
                raise RemoteProtocolError("does not know the token that it asks for")
            self.ready = True

    def _refuse(self, text: str) -> NoReturn:
        self._outgoing.append(encode(Failed("refused", text), 0))
        raise RemoteProtocolError(text)

    def _checked_nonce(self, nonce: bytes) -> bytes:
        if len(nonce) != NONCE_BYTES:
            raise RemoteProtocolError(f"sent a nonce of {len(nonce)} bytes; expected {NONCE_BYTES}")
        return nonce

    def _mac(self, role: str) -> bytes:
        ours, theirs = self._nonce, self._theirs
        both = ours + theirs if self._role == "connector" else theirs + ours
        return hmac.digest(self._token, role.encode() + both, "sha256")
