"""Who may say what to a node. A proof of the token makes a member, not the coordinator, and not another member.

Whoever speaks on a connection says so by ``Identify``, and shows that it is so; each message says by its ``SPEAKER``
who is believed. What a node asks of itself goes by no connection, and is not asked after.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.core.node_id import coordinator_of, display_id
from hogpour.net.credentials import credential
from hogpour.net.requests import Handler, Reply
from hogpour.net.wire.base import Message, Ok, Speaker
from hogpour.net.wire.identify import Identify

__all__ = ["Authority", "Caller"]


class Authority:
    """What one node knows of those who speak to it. Until it has begun nothing is asked after: it does nothing that it
    is asked (``wire.base.Before``)."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []  # of all incarnations: who has not heard of the newest is not taken for a liar
        self._coordinator = 0

    def begin(self, node: int, key: bytes) -> None:
        """Say that this node has joined as an incarnation, with this key."""
        self._coordinator = coordinator_of(node)
        if key not in self._keys:
            self._keys.append(key)

    def proves(self, said: Identify) -> bool:
        """Return whether a credential is of the node that it is said to be of."""
        return any(hmac.compare_digest(said.credential, credential(key, said.node)) for key in self._keys)

    def admit(self, message: Message, caller: Caller) -> Message:
        """Return a request as it is to be answered.

        Raises:
            RequestFailed: whoever speaks may not say that.
        """
        speaker = message.SPEAKER
        shown = speaker is Speaker.WARRANTED and bool(getattr(message, "warrant", b""))
        if not self._keys or speaker is Speaker.ANYBODY or shown:
            return message
        name, named = type(message).__name__, getattr(message, "node", 0)
        proven = caller.proven(self)
        if speaker in (Speaker.COORDINATOR, Speaker.WARRANTED):
            if proven != self._coordinator:
                raise RequestFailed(Refusal.WRONG, f"{name} is the coordinator's to say")
        elif not proven or named != proven:
            if speaker is Speaker.NAMED:
                return msgspec.structs.replace(message, node=0)
            text = f"{name} of node {display_id(named)}: whoever says so has not shown to be that node"
            raise RequestFailed(Refusal.FENCED, text)
        return message


class Caller:
    """What answers the requests that come by one connection. It remembers who speaks there.

    Args:
        authority: of the node that is asked.
        handlers: what answers whoever may ask.
    """

    def __init__(self, authority: Authority, handlers: Mapping[type[Message], Handler]) -> None:
        self._authority, self._handlers = authority, handlers
        self._said: Identify | None = None
        self._proven = 0

    def get(self, kind: type[Message]) -> Handler | None:
        """Return what answers such a request; None: nothing does."""
        if kind is Identify:
            return self._identify
        handler = self._handlers.get(kind)
        return None if handler is None else partial(self._answer, handler)

    def proven(self, authority: Authority) -> int:
        """Return the node that has shown to speak here; 0: none. Looked at when it matters: whoever came before the
        node that is asked had joined is believed later."""
        if self._said is not None and not self._proven and authority.proves(self._said):
            self._proven = self._said.node
        return self._proven

    def _identify(self, said: Identify) -> Reply[Ok]:
        self._said, self._proven = said, 0
        return Reply(Ok())

    def _answer(self, handler: Handler, message: Message, *payload: memoryview) -> Any:
        return handler(self._authority.admit(message, self), *payload)
