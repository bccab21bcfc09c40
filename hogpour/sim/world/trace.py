"""The trace of a simulation: one hash over everything that happened, in its order. Equal seeds, equal traces."""

from __future__ import annotations

import hashlib
import struct

__all__ = ["Trace"]

_PIECE = 1 << 16
"""Bytes that are gathered before they are hashed: hashing each event alone took half of its time."""


class Trace:
    """A hash that grows.

    Attributes:
        pack: of one event: virtual time, host, number of the event.
    """

    pack = struct.Struct("<dIQ").pack

    def __init__(self) -> None:
        self.pending = bytearray()
        """What is not hashed yet; whoever appends to it calls ``flush`` now and then."""
        self._hash = hashlib.blake2b(digest_size=16)

    def note(self, *words: object) -> None:
        """Add something that happened, by what it is called and by its numbers."""
        self.pending += repr(words).encode()

    def flush(self) -> None:
        """Hash what is pending, if that is worth it."""
        if len(self.pending) >= _PIECE:
            self._hash.update(self.pending)
            self.pending.clear()

    def hexdigest(self) -> str:
        """Return the hash of everything so far."""
        self._hash.update(self.pending)
        self.pending.clear()
        return self._hash.hexdigest()
