"""Where: the shard map."""

from __future__ import annotations

import msgspec

from hogpour.net.wire.base import Before, Message, Request, Speaker
from hogpour.net.wire.numbers import Count, Incarnation

__all__ = ["Map", "Where"]


class Map(Message, frozen=True):
    """The shard map; see ``core.shard_map.ShardMap``."""

    KIND = 39
    BODY_LIMIT = 4 << 20

    epoch: Count
    bounds: list[Count]
    owners: list[Incarnation]
    addresses: list[str]
    servers: list[str] = msgspec.field(default_factory=list)
    credentials: list[bytes] = msgspec.field(default_factory=list)
    """Of the asker, as in ``Joined``."""


class Where(Request[Map], frozen=True):
    """Ask the coordinator which node serves which shard."""

    KIND = 38
    BEFORE = Before.NO_MEMBERS
    SPEAKER = Speaker.NAMED

    node: Incarnation = 0
    """Incarnation of the asker; 0: of nobody, who gets no credentials."""
