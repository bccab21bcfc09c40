"""One connection as a state machine without I/O: it says where the next bytes go, and what they meant.

The shell around it reads into ``target()``, reports with ``received(n)``, takes what arrived from ``events()`` and
writes what ``data_to_send()`` and ``send()`` return. Inside a payload the target is the rest of the payload's own
memory, so that a gradient lands where it is needed without a copy; everything else goes through a small scratch.

    acceptor    Hello → Challenge, Proof → Welcome, then any requests, answered in any order
    connector   Hello, Challenge → Proof, Welcome, then requests; an answer has the number of its request

The handshake is a machine of its own, ``handshake``; before its end nothing else is legal. Bytes that break a rule
raise RemoteProtocolError; the shell then hands on what ``events()`` still holds, writes what ``data_to_send()`` still
holds, and closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NoReturn

from hogpour.core.errors import LocalProtocolError, RemoteProtocolError
from hogpour.net.frame import HEADER_BYTES, check_beginning, decode, encode, read_header
from hogpour.net.handshake import Handshake
from hogpour.net.wire import answers
from hogpour.net.wire.base import Failed, Message

__all__ = ["SKIP", "Arrived", "Connection", "Ended", "Place"]

SKIP = memoryview(bytearray())
"""What a ``Place`` returns when nobody wants the payload any more: it is read and dropped."""

Place = Callable[[int, Message, int], memoryview | None]
"""Called with id, message and length of a payload that is about to arrive; returns writable bytes of that length,
``SKIP``, or None when there is no room yet. May raise RemoteProtocolError."""

SCRATCH_BYTES = 16 * 1024
"""For headers, bodies and small frames. 512 connections take 8 MB; the start of a large payload that arrives with its
header and is copied out of it stays below half a percent of 4 MB."""

_ANSWERS = answers()

Arrived = tuple[int, Message, memoryview | None]
"""A whole frame: id, message and payload; a request at the acceptor, an answer at the connector. The payload is what
``Place`` returned, filled; None without one or where it was skipped."""


class Ended(RemoteProtocolError):
    """The other end sends no more, in the midst of something. Nobody need have broken a rule: a node that goes, or
    turns strangers away, closes connections at any byte."""


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
        "_body", "_connects", "_end", "_events", "_handshake", "_id", "_kind", "_limit", "_message", "_n_body",
        "_n_payload", "_outstanding", "_payload", "_place", "_rest", "_skip", "_start", "_view", "blocked", "ready",
    )  # fmt: skip

    def __init__(
        self, role: Literal["connector", "acceptor"], token: bytes, *, nonce: bytes, payload_limit: int, place: Place
    ) -> None:
        self.ready = self.blocked = False
        self._connects, self._limit, self._place = role == "connector", payload_limit, place
        self._handshake = Handshake(self._connects, token, nonce)
        self._view = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0  # what is in the scratch and not understood yet
        self._kind: type[Message] | None = None  # of the frame under way, once its header is known; then also:
        self._id = self._n_body = self._n_payload = 0
        self._message: Message | None = None  # of the frame under way, while its payload is
        self._body: bytearray | None = None  # a body that is larger than the scratch
        self._payload: memoryview | None = None
        self._rest: memoryview | None = None  # of that body or payload: where the next bytes go
        self._skip = 0  # bytes of a payload that nobody wants
        self._events: list[Arrived] = []
        # Connector: the answer that each unanswered request must get. Acceptor: that each must be given.
        self._outstanding: dict[int, type[Message]] = {}

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return self._kind is not None or self._end > self._start

    def target(self, sizehint: int = -1) -> memoryview:
        """Return where the next bytes go; never empty. An event loop's hint of how many there are changes nothing."""
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
                self._end_body(body)
            else:
                self._end_frame()
        elif self._skip:
            self._skip -= n
            if not self._skip:
                self._end_frame()
        else:
            self._end += n
            if not self.blocked:
                self._parse()

    def retry_place(self) -> None:
        """Ask ``place`` again for the payload that has none; what had arrived behind it is then understood too."""
        if self.blocked:
            assert self._message is not None
            self.blocked = False
            self._begin_payload(self._place(self._id, self._message, self._n_payload))
            if self._message is None:
                self._parse()
            elif not self.blocked:
                self._start = self._end = 0  # all of it went into the payload

    def divert(self, id: int) -> None:
        """Let nothing more of frame ``id`` reach the memory of its payload: the rest is read and dropped."""
        if self._payload is not None and self._id == id:
            assert self._rest is not None
            self._skip, self._rest, self._payload = len(self._rest), None, None

    def events(self) -> list[Arrived]:
        """Return what has arrived since the last call."""
        events = self._events
        if events:
            self._events = []
        return events

    def data_to_send(self) -> list[bytes]:
        """Return frames that the connection itself has to send."""
        outgoing, self._handshake.outgoing = self._handshake.outgoing, []
        return outgoing

    def send(self, message: Message, id: int, n_payload: int = 0) -> bytes:
        """Return the frame of a request with a new ``id``, or of the answer to request ``id``.

        Raises:
            LocalProtocolError: not now, not this, or not to that.
        """
        if not self.ready:
            raise LocalProtocolError(f"{type(message).__name__} before the end of the handshake")
        if self._connects:
            if id in self._outstanding or not 0 < id < 1 << 32:
                raise LocalProtocolError(f"request {id} is used or out of range")
            answer = _ANSWERS.get(type(message))
            if answer is None:
                raise LocalProtocolError(f"{type(message).__name__} is no request")
            frame = encode(message, id, n_payload)
            self._outstanding[id] = answer
        else:
            answer = self._outstanding.get(id)
            if answer is None:
                raise LocalProtocolError(f"answer to request {id}, which was not asked or is answered")
            if answer is not type(message) and type(message) is not Failed:
                text = f"{type(message).__name__} for request {id}, which is answered with {answer.__name__}"
                raise LocalProtocolError(text)
            frame = encode(message, id, n_payload)
            del self._outstanding[id]
        return frame

    def eof(self) -> None:
        """Say that the other end sends no more.

        Raises:
            Ended: inside a frame or before the end of the handshake.
        """
        if self.inside:
            name = "a header" if self._kind is None else self._kind.__name__
            raise Ended(f"ended inside {name}")
        if not self.ready:
            raise Ended(f"ended before {self._handshake.expects.__name__}")

    # What is in the scratch.

    def _parse(self) -> None:
        """Understand what is in the scratch, as far as it goes; keep the rest at its front."""
        view, start, end = self._view, self._start, self._end
        kind = self._kind
        if kind is not None:
            id, n_body, n_payload = self._id, self._n_body, self._n_payload
        while True:
            if kind is None:
                if end - start < HEADER_BYTES:
                    if end > start:
                        check_beginning(view[start:end])
                    break
                kind, id, n_body, n_payload = read_header(view, start, self._limit)
                if not self.ready:
                    self._handshake.check(kind, id)
                elif self._connects:
                    if self._outstanding.get(id) is not kind:
                        self._check_answer(kind, id)
                elif kind not in _ANSWERS or id in self._outstanding or not id:
                    self._refuse_request(kind, id)
                start += HEADER_BYTES
            if end - start < n_body:
                self._id, self._n_body, self._n_payload = id, n_body, n_payload
                if n_body > SCRATCH_BYTES:
                    self._body = bytearray(n_body)
                    rest = memoryview(self._body)
                    rest[: end - start] = view[start:end]
                    self._rest, start = rest[end - start :], end
                break
            message = decode(kind, view[start : start + n_body])
            start += n_body
            if n_payload:
                place = self._place(id, message, n_payload)
                if place and end - start >= n_payload:  # a small one, all of it here: no detour over the state
                    place[:] = view[start : start + n_payload]  # a ValueError is a bug of the place's
                    start += n_payload
                    self._complete(kind, id, message, place)
                else:
                    self._kind, self._id, self._n_payload, self._message = kind, id, n_payload, message
                    self._start = start
                    self._begin_payload(place)
                    start = self._start
                    if self._message is not None:
                        break
            elif self.ready:
                self._complete(kind, id, message, None)
            else:
                self.ready = self._handshake.take(message)
            kind = None
        if self._message is None:
            self._kind = kind
        if start:
            if end > start:
                view[: end - start] = view[start:end]
            self._start, self._end = 0, end - start

    def _begin_payload(self, place: memoryview | None) -> None:
        """Put into its place what has come of the payload whose message is there."""
        if place is None:
            self.blocked = True
            return
        n = self._n_payload
        here = min(self._end - self._start, n)
        if place is SKIP:
            self._skip = n - here
        else:
            if len(place) != n:
                raise LocalProtocolError(f"a place of {len(place)} bytes for a payload of {n}")
            place[:here] = self._view[self._start : self._start + here]
            self._payload, self._rest = place, place[here:] or None
        self._start += here
        if here == n:
            self._end_frame()

    def _end_frame(self) -> None:
        """The frame under way is whole."""
        kind, message, payload = self._kind, self._message, self._payload
        assert kind is not None
        assert message is not None
        self._kind = self._message = self._payload = None
        self._complete(kind, self._id, message, payload)

    def _end_body(self, body: bytearray) -> None:
        """A body that did not fit into the scratch is whole. There are none in the handshake."""
        assert self._kind is not None
        self._message = decode(self._kind, body)
        if self._n_payload:
            self._begin_payload(self._place(self._id, self._message, self._n_payload))
        else:
            self._end_frame()

    def _complete(self, kind: type[Message], id: int, message: Message, payload: memoryview | None) -> None:
        if self._connects:
            del self._outstanding[id]
        else:
            self._outstanding[id] = _ANSWERS[kind]
        self._events.append((id, message, payload))

    # What may come, and when.

    def _check_answer(self, kind: type[Message], id: int) -> None:
        answer = self._outstanding.get(id)
        if answer is None:
            raise RemoteProtocolError(f"sent {kind.__name__} for request {id}, which is not outstanding")
        if kind is not Failed:
            raise RemoteProtocolError(f"sent {kind.__name__} where {answer.__name__} was expected")

    def _refuse_request(self, kind: type[Message], id: int) -> NoReturn:
        if kind not in _ANSWERS:
            raise RemoteProtocolError(f"sent {kind.__name__}, which is no request")
        raise RemoteProtocolError(f"sent {kind.__name__} with id {id}, which is not free")
