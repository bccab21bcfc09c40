"""What is asked of a node and how it answers, whoever it is: another one over the wire, or this one itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol

from hogpour.net.wire.base import Answer, Request

__all__ = ["Handler", "Reply", "Requests"]


class Reply(NamedTuple, Generic[Answer]):
    """What a handler answers."""

    message: Answer
    payload: Sequence[memoryview] = ()
    """Contiguous bytes that follow the message; frozen until ``sent`` is called."""
    sent: Callable[[], None] | None = None
    """Called exactly once: the payload is with the kernel, or the connection is gone."""


Handler = Callable[..., Reply[Any] | Awaitable[Reply[Any]]]
"""Called on the event loop with a request and, where its class may have one (``PAYLOAD``), its payload, perhaps of no
bytes. That is valid, and read only, until the reply is there. A handler that answers at once returns the reply; one
that must wait returns an awaitable, which is run as a task. Other requests go on meanwhile. A cancelled handler must
not end while anything still reads the payload.

It raises RequestFailed to answer ``Failed``, and RemoteProtocolError to close the connection that asked."""


class Requests(Protocol):
    """Somebody who answers requests: a ``peer.Peer``, or ``loopback.Loopback`` for the node itself."""

    async def request(
        self,
        message: Request[Answer],
        payload: Sequence[memoryview] = (),
        *,
        into: memoryview | None = None,
        deadline_s: float,
        retry: bool = True,
    ) -> Answer:
        """Ask, and return the answer.

        Args:
            message: a request.
            payload: contiguous bytes that go with it. Frozen until this has returned or raised.
            into: where the payload of the answer goes, exactly as long as that is, or longer where its class says so
                (``SHORTER``). Written until this has returned; undefined when it raises.
            deadline_s: seconds until the answer must be there.
            retry: ask again when the connection breaks, or cannot be made. Without it what was asked happens at most
                once, and nobody waits longer than for one try to connect.

        Raises:
            RequestFailed: the answer is that it was not done.
            PeerLost: no answer in time; it may have been done or not, see ``unheard``.
        """
