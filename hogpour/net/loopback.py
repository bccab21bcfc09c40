"""Requests of a node to itself: the handlers are called, and no byte touches a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from hogpour.core.errors import LocalProtocolError, PeerLost, Refusal, RequestFailed
from hogpour.net.requests import Handler, Reply
from hogpour.net.watch import Watch
from hogpour.net.wire.base import Answer, Failed, Message, Request

__all__ = ["Loopback"]


class Loopback:
    """Answers requests with the handlers that the node's listener has.

    Args:
        handlers: what is called for each request.
    """

    def __init__(self, handlers: Mapping[type[Message], Handler]) -> None:
        self._handlers = handlers

    async def request(
        self,
        message: Request[Answer],
        payload: Sequence[memoryview] = (),
        *,
        into: memoryview | None = None,
        deadline_s: float,
        retry: bool = True,
    ) -> Answer:
        """Ask this node itself, see ``requests.Requests.request``.

        One payload is handed to the handler as it is; several are joined. An error of the handler that is neither
        RequestFailed nor ours is a bug and passes.
        """
        name = type(message).__name__
        handler = self._handlers.get(type(message))
        if handler is None:
            raise RequestFailed(Refusal.WRONG, f"this node does not answer {name}")
        views = [view.cast("B") for view in payload if view.nbytes]
        joined = views[0] if len(views) == 1 else memoryview(bytearray().join(views))
        given = handler(message, joined) if message.PAYLOAD else handler(message)
        if isinstance(given, Reply):
            reply: Reply[Answer | Failed] = given
        else:
            limit = asyncio.timeout(None)
            watch = Watch(lambda now, slept: watch.by(now + slept) if slept else limit.reschedule(now))
            watch.by(asyncio.get_running_loop().time() + deadline_s)
            try:
                async with limit:
                    reply = await given
            except TimeoutError:
                raise PeerLost("this node", f"no answer to {name} within {deadline_s:g} s") from None
            finally:
                watch.stop()
        try:
            if isinstance(reply.message, Failed):
                raise RequestFailed(reply.message.code, reply.message.text)
            _copy(reply, into, name)
        finally:
            if reply.sent is not None:
                reply.sent()
        return reply.message


def _copy(reply: Reply[Any], into: memoryview | None, name: str) -> None:
    """Do what the wire does with the payload of an answer."""
    n_payload, n_into = sum(view.nbytes for view in reply.payload), 0 if into is None else into.nbytes
    if n_payload != n_into and not (reply.message.SHORTER and n_payload < n_into):
        raise LocalProtocolError(f"{n_payload} bytes with the answer to {name}; {n_into} are wanted")
    if into is not None:
        target, begin = into.cast("B"), 0
        for view in reply.payload:
            target[begin : begin + view.nbytes] = view.cast("B")
            begin += view.nbytes
