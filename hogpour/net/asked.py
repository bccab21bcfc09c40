"""The requests that a peer has not answered yet: of each what is asked, who waits, until when, and its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Generic

from hogpour.core.errors import HogpourError, PeerLost, RemoteProtocolError, RequestFailed
from hogpour.net.connection import SKIP
from hogpour.net.wire.base import Answer, Failed, Message, Request

__all__ = ["Asked", "Unanswered"]

LAST_ID = (1 << 32) - 1


class Asked(Generic[Answer]):
    """A request without an answer."""

    __slots__ = (
        "deadline", "deadline_s", "future", "into", "message", "moves_to", "n_bytes", "n_payload", "payload", "retry",
        "unsent",
    )  # fmt: skip

    def __init__(
        self,
        message: Request[Answer],
        payload: Sequence[memoryview],
        into: memoryview | None,
        now: float,
        deadline_s: float,
        retry: bool,
        future: asyncio.Future[Answer],
    ) -> None:
        self.message, self.payload, self.retry, self.future = message, payload, retry, future
        self.into = into.cast("B") if into is not None else SKIP
        self.n_payload = 0
        for view in payload:
            self.n_payload += view.nbytes
        self.n_bytes = self.n_payload + len(self.into)
        self.deadline_s, self.deadline = deadline_s, now + deadline_s
        self.moves_to = -1  # unheard; else, while fewer bytes have moved on the connection, they are for this one, too
        self.unsent = False  # a part of the payload is not with the kernel yet

    def __str__(self) -> str:
        name = type(self.message).__name__
        return name if self.n_bytes < 1e6 else f"{name} of {self.n_bytes / 1e6:.1f} MB"

    def wholly_sent(self) -> None:
        self.unsent = False

    def fail(self, error: HogpourError) -> None:
        """Tell whoever waits, unless it was cancelled in this turn of the event loop."""
        if not self.future.done():
            self.future.set_exception(error)


class Unanswered(dict[int, Asked[Any]]):
    """The requests by their ids, in the order of the calls. Whatever becomes of one, it is taken out.

    Args:
        address: of the peer, for what is said.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address, self._last_id = address, 0

    def new_id(self) -> int:
        """Return an id that no request has."""
        id = self._last_id % LAST_ID + 1
        while id in self:
            id = id % LAST_ID + 1
        self._last_id = id
        return id

    def place(self, id: int, message: Message, n_bytes: int) -> memoryview:
        """Say where the payload of an answer goes. One that does not fit fails its request, and no other."""
        asked = self.get(id)  # None: nobody waits any more
        if asked is not None and (len(asked.into) == n_bytes or (message.SHORTER and len(asked.into) > n_bytes)):
            return asked.into[:n_bytes]
        if asked is not None:
            self.pop(id).fail(self._misfit(asked, message, n_bytes))
        return SKIP

    def answer(self, id: int, message: Message, payload: memoryview | None) -> None:
        """Hand an answer to who asked."""
        asked = self.pop(id)
        if type(message) is Failed:
            asked.fail(RequestFailed(message.code, message.text))
        elif payload is None and asked.into and not message.SHORTER:
            asked.fail(self._misfit(asked, message, 0))
        elif not asked.future.done():
            asked.future.set_result(message)

    def fail_all(self, kind: Callable[[str], HogpourError], text: str) -> None:
        """Give up all of them."""
        for asked in self.values():
            asked.fail(kind(text))
        self.clear()

    def disconnected(self, cause: str) -> None:
        """Give up those that are not asked again: there is no connection."""
        for id, asked in list(self.items()):
            asked.unsent = False
            if not asked.retry:
                text = f"no answer to {asked}: {cause}"
                self.pop(id).fail(PeerLost(self._address, text, unheard=asked.moves_to < 0))

    def _misfit(self, asked: Asked[Any], message: Message, n_bytes: int) -> RemoteProtocolError:
        name = type(message).__name__
        return RemoteProtocolError(f"{self._address}: {n_bytes} bytes with {name}; {len(asked.into)} are wanted")
