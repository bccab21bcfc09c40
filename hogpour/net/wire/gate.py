"""Gate: which gradients count in a step, and who waits. Asked of the coordinator by nodes, told to servers by it.

A gradient that a gate holds goes to all shards first (``wire.push``) and is told to the coordinator when each of them
has it: from then on its origin may die, and nobody has to wait for it.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from hogpour.net.wire.base import Before, Message, Ok, Request, Speaker
from hogpour.net.wire.numbers import Count, Fraction, Incarnation, Index, Ordinal

__all__ = ["COUNTED", "LATE", "UNDECIDED", "Arrive", "Arrived", "Attend", "Commit", "Committed", "Counted"]

UNDECIDED, COUNTED, LATE = 0, 1, 2


class Attend(Request[Ok], frozen=True):
    """Say that a replica takes part from now on, or does not any more; answered with ``Ok``. A replica that takes part
    has others wait for it."""

    KIND = 50
    BEFORE = Before.NO_MEMBERS

    node: Incarnation
    replica: Index
    present: bool


class Arrived(Message, frozen=True):
    """What the coordinator knows of it."""

    KIND = 52

    outcome: Annotated[int, msgspec.Meta(ge=UNDECIDED, le=LATE)]
    """``COUNTED``: every shard has applied it. ``LATE``: it is dropped. ``UNDECIDED``: the gate has it; ask again.
    Where nothing is held, ``COUNTED`` says that its origin may go on."""
    staleness: Count
    """Steps between the one that it was computed on and the one that it counted in; 0 where that is not known."""


class Arrive(Request[Arrived], frozen=True):
    """Say that every shard has a gradient, and ask what becomes of it. May be asked again at any time."""

    KIND = 51
    BEFORE = Before.NO_MEMBERS

    node: Incarnation
    replica: Index
    sequence: Ordinal
    """Of the push."""
    step: Count
    """Clock of the parameters that it was computed on, the least over the shards."""


class Counted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A gradient of a step."""

    node: Incarnation
    replica: Index
    sequence: Ordinal
    staleness: Count


class Committed(Message, frozen=True):
    """Which of these shards have the step; others are not served here any more."""

    KIND = 54
    BODY_LIMIT = 1 << 17

    shards: list[Index]
    lied: tuple[Incarnation, ...] = ()
    """Members who said of a gradient that every shard has it, where one of these did not: it counted as zeros."""


class Commit(Request[Committed], frozen=True):
    """Tell a server to apply a step: the mean of these gradients, summed in this order. Doing it twice is safe: a shard
    whose clock is beyond the step has it."""

    KIND = 53
    SPEAKER = Speaker.COORDINATOR
    BODY_LIMIT = 1 << 18

    step: Count
    """Clock of the shards before it."""
    shards: list[Index]
    """Those of them that this server is to apply it to."""
    counted: list[Counted]
    share: Fraction
    """Of the rate that the step is applied with, above 0, at most 1: as many as counted of as many as a step has while
    all who take part in the run still have data."""
