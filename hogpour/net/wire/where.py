"""Where: the shard map."""

from __future__ import annotations

from hogpour.net.wire.base import Before, Message, Request
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


class Where(Request[Map], frozen=True):
    """Ask the coordinator which node serves which shard."""

    KIND = 38
    BEFORE = Before.NO_MEMBERS
