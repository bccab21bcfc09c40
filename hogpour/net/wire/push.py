"""Push: an accrued gradient for one shard. Sending it again is always safe: it is applied at most once."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from msgspec import Meta

from hogpour.net.wire.base import Message, Request
from hogpour.net.wire.fetch_changes import WHOLE
from hogpour.net.wire.numbers import Count, Difference, Incarnation, Index, Ordinal

__all__ = ["MOST_SCALE", "Outcome", "Push", "Pushed"]

MOST_SCALE = 1e6
"""Factor of the rate that a push may ask for: above it, sums of several would leave float32."""


class Outcome(Enum):
    """It is applied; was so before; waits for its step to be decided (``wire.gate``); or came too late for its step."""

    APPLIED, REPEATED, HELD, DROPPED = range(4)


class Pushed(Message, frozen=True):
    """What became of a gradient."""

    KIND = 23

    shard: Index
    clock: Count
    """Shard clock after it was applied (a repeated push: as it is now)."""
    staleness: Difference = 0
    """Where it is applied now: shard clock then, minus that of its fetch."""
    outcome: Outcome = Outcome.APPLIED


class Push(Request[Pushed], frozen=True):
    """Ask a parameter server to apply a gradient; the payload is float32 in little-endian order, whole or sparse."""

    KIND = 22
    PAYLOAD = True

    shard: Index
    node: Incarnation
    """Incarnation of the pushing node; with ``replica`` the origin."""
    replica: Index
    sequence: Ordinal
    """1, 2, 3 ... for each origin and shard; a retry has the number of what it repeats."""
    clock: Count
    """Shard clock of the fetch that the first of these gradients was computed on."""
    steps: Ordinal
    """Gradients in the sum, at least 1; 1 for the displacement of a round of local steps (``Exchange.gradients``)."""
    scale: Annotated[float, Meta(ge=0, le=MOST_SCALE)]
    """Factor of the learning-rate schedule."""
    n_entries: Annotated[int, Meta(ge=WHOLE, lt=1 << 31)] = WHOLE
    """Elements in the payload, which is in ``net.sparse_form``, all others being 0; ``WHOLE``: all, without gaps."""
