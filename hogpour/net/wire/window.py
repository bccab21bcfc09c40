"""PushWindow: what a shard remembers of an origin. Part of ``Dumped``, no message of its own."""

from __future__ import annotations

from hogpour.net.wire.base import Message

__all__ = ["PushWindow"]

class PushWindow(Message, frozen=True):
    """What a shard remembers of one origin, so that no push is applied twice. Travels inside ``Dumped`` only."""

    KIND = 26

    node: int
    replica: int
    highest: int
    """Highest sequence number applied."""
    bits: int
    """Bit k: sequence number ``highest - k`` was applied."""
