"""What only the first node says. It says it to itself without a connection, so that whoever says it by one is believed
nothing: a proof of the token makes a member, not a master."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hogpour.core.errors import Refusal, RequestFailed
from hogpour.net.requests import Handler
from hogpour.net.wire.base import Message
from hogpour.net.wire.dump import Adopt, Dump
from hogpour.net.wire.gate import Commit
from hogpour.net.wire.operate import Operate
from hogpour.net.wire.status import Fence

__all__ = ["of_others"]

_COORDINATORS = (Adopt, Commit, Fence, Operate)


def of_others(handlers: Mapping[type[Message], Handler], home: int) -> dict[type[Message], Handler]:
    """Return what answers other nodes on the first node, where ``handlers`` answer itself.

    Args:
        home: incarnation of the first node.
    """
    return {kind: _guarded(handler, home) for kind, handler in handlers.items()}


def _guarded(handler: Handler, home: int) -> Handler:
    def answer(message: Message, *payload: memoryview) -> Any:
        name, node = type(message).__name__, getattr(message, "node", -1)
        if isinstance(message, _COORDINATORS) or (isinstance(message, Dump) and not node):
            raise RequestFailed(Refusal.WRONG, f"{name} is the coordinator's to say, which is this node")
        if node == home:
            raise RequestFailed(Refusal.WRONG, f"{name} in the name of the first node, which asks itself without one")
        return handler(message, *payload)

    return answer
