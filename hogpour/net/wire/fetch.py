"""Fetch: the parameters of one shard, as they are, without waiting for other shards."""

from __future__ import annotations

from hogpour.net.wire.base import Message, Request, Speaker
from hogpour.net.wire.numbers import Count, Incarnation, Index

__all__ = ["Fetch", "Fetched"]


class Fetched(Message, frozen=True):
    """The shard; the payload is its parameters, float32 in little-endian order."""

    KIND = 21
    PAYLOAD = True

    shard: Index
    clock: Count
    """Updates that are in these parameters."""


class Fetch(Request[Fetched], frozen=True):
    """Ask a parameter server for a shard."""

    KIND = 20
    SPEAKER = Speaker.NAMED

    shard: Index
    node: Incarnation
    """Incarnation of the asking node; 0: of nobody, for whom nothing is remembered."""
