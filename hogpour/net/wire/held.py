"""Held: gradients that wait at a shard for their step to be decided, and move with the shard to its next server."""

from __future__ import annotations

from hogpour.net.wire.base import Message, Request, Speaker
from hogpour.net.wire.numbers import Count, Incarnation, Index
from hogpour.net.wire.push import Push

__all__ = ["Held", "HeldPush"]


class HeldPush(Message, frozen=True):
    """It, with its gradient as the payload."""

    KIND = 56
    PAYLOAD = True

    push: Push


class Held(Request[HeldPush], frozen=True):
    """Ask the server that has given a shard up for one of the gradients that wait there."""

    KIND = 55
    SPEAKER = Speaker.WARRANTED

    shard: Index
    node: Incarnation
    """Incarnation of the asker."""
    number: Index
    """0, 1, 2 ..., below ``Dumped.held``."""
    epoch: Count = 0
    warrant: bytes = b""
    """As of ``Dump``."""
