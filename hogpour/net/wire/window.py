"""PushWindow: what a shard remembers of an origin. Part of ``Dumped``, no message of its own."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from hogpour.net.wire.base import Message
from hogpour.net.wire.numbers import Count, Incarnation, Index

__all__ = ["PushWindow"]

class PushWindow(Message, frozen=True):
    """What a shard remembers of one origin, so that no push is applied twice. Travels inside ``Dumped`` only."""

    KIND = 26

    node: Incarnation
    replica: Index
    highest: Count
    """Highest sequence number applied."""
    bits: Annotated[int, Meta(ge=0)]
    """Bit k: sequence number ``highest - k`` was applied."""
