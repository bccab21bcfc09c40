"""Dump: everything a shard consists of, for snapshots and for handing it over to another node."""

from __future__ import annotations

from hogpour.net.wire.base import Before, Message, Ok, Request, Speaker
from hogpour.net.wire.numbers import Count, Incarnation, Index
from hogpour.net.wire.window import PushWindow

__all__ = ["Adopt", "Dump", "Dumped"]


class Dumped(Message, frozen=True):
    """The shard; the payload is its parameters, then each optimiser row, float32 in little-endian order."""

    KIND = 25
    PAYLOAD = True
    BODY_LIMIT = 1 << 20

    shard: Index
    clock: Count
    windows: list[PushWindow]
    held: Index = 0
    """Gradients that wait there for their step; ask for each of them with ``Held``."""


class Dump(Request[Dumped], frozen=True):
    """Ask a parameter server for a shard with its optimiser rows."""

    KIND = 24
    SPEAKER = Speaker.WARRANTED

    shard: Index
    give_up: bool
    """The asker takes the shard over: the server applies what is queued, answers, and from then on says ``moved``."""
    node: Incarnation = 0
    """Incarnation of the asker, who may be declared dead meanwhile; 0: the coordinator's node, for a snapshot."""
    epoch: Count = 0
    warrant: bytes = b""
    """Where it gives up: of its ``Adopt``."""


class Adopt(Request[Ok], frozen=True):
    """Tell a parameter server to take a shard over from another one; answered with ``Ok`` when it has it."""

    KIND = 27
    BEFORE = Before.UNKNOWN
    SPEAKER = Speaker.COORDINATOR

    shard: Index
    source: str
    """host:port of the node that serves it now; empty: the coordinator's. The asked node's own: go on serving it."""
    epoch: Count = 0
    """Of the shard map before this move."""
    warrant: bytes = b""
    """That the source gives the shard to the asked node; see ``net.credentials``."""
