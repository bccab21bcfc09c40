"""A request that a peer has not answered yet: what is asked, who waits for it, until when, and its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic

from hogpour.net.wire.base import Answer, Request

__all__ = ["Asked"]


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
        self.into = into.cast("B") if into is not None else None
        self.n_payload = 0
        for view in payload:
            self.n_payload += view.nbytes
        self.n_bytes = self.n_payload + (self.into.nbytes if self.into is not None else 0)
        self.deadline_s, self.deadline = deadline_s, now + deadline_s
        self.moves_to = -1  # unheard; else, while fewer bytes have moved on the connection, they are for this one, too
        self.unsent = False  # a part of the payload is not with the kernel yet

    def __str__(self) -> str:
        name = type(self.message).__name__
        return name if self.n_bytes < 1e6 else f"{name} of {self.n_bytes / 1e6:.1f} MB"

    def wholly_sent(self) -> None:
        self.unsent = False
