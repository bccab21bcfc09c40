"""Operate: what Sandblaster's coordinator has servers do with the vectors of their shards; and a block's gradient.

Only scalars travel between coordinator and servers: factors there, accumulators of fixed size back. Doing a program
twice is safe (``lbfgs/minimise.py``); one that comes late, behind a newer one, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hogpour.net.wire.base import Message, Request
from hogpour.net.wire.push import Pushed

__all__ = ["ALIGN", "COMBINE", "DOT", "LARGEST", "MAGNITUDE", "OPEN", "ORTHANT", "PSEUDO", "SETTLE", "Operate",
           "Operated", "Sum", "Work", "together"]  # fmt: skip

COMBINE, DOT, LARGEST, OPEN, SETTLE, MAGNITUDE, PSEUDO, ALIGN, ORTHANT = range(9)


class Work(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One operation."""

    kind: int
    """``COMBINE``: vectors[0] = sum of factors · vectors[1:]. ``DOT``: the inner product of two vectors. ``LARGEST``:
    the largest magnitude of a vector. ``OPEN``: sums of evaluation ``number`` from now on, in multiples of factors[0].
    ``SETTLE``: vectors[0] = what was summed, and factors[0] times vectors[1] in ``ranges``. ``MAGNITUDE``: the sum of
    magnitudes of a vector. ``PSEUDO``: vectors[0] = the pseudo-gradient at vectors[1], where vectors[2] is the gradient
    of the smooth part and L1 has factors[0] in ``ranges``. ``ALIGN``: the direction vectors[0] is kept to what leads
    down by the pseudo-gradient vectors[1]. ``ORTHANT``: the trial vectors[0] is kept to the orthant of the point
    vectors[1], by the pseudo-gradient vectors[2]."""
    vectors: list[int]
    factors: list[float]
    ranges: list[tuple[int, int]] | None
    """Elements of the model's vector that it is about; None: all."""
    number: int


class Operated(Message, frozen=True):
    """What came of it, for these shards together; others are not served here any more."""

    KIND = 59
    BODY_LIMIT = 1 << 20

    shards: list[int]
    words: list[list[int]]
    """An accumulator for each ``DOT`` and each ``MAGNITUDE`` (``lbfgs/exact_sums.py``)."""
    largest: list[float]
    """One for each ``LARGEST`` and each ``SETTLE``: there, of all addends."""


class Operate(Request[Operated], frozen=True):
    """Carry out a program on some shards."""

    KIND = 58
    BODY_LIMIT = 1 << 18

    node: int
    """Incarnation of the coordinator's node."""
    sequence: int
    """1, 2, 3 ... of the programs of a run."""
    shards: list[int]
    program: list[Work]


def together(answers: Sequence[Operated]) -> Operated:
    """Return what a program came to on the shards of several answers: accumulators are added word by word."""
    if len(answers) == 1:
        return answers[0]
    shards = [shard for answer in answers for shard in answer.shards]
    words = [[sum(word) for word in zip(*of_one)] for of_one in zip(*(a.words for a in answers), strict=True)]
    return Operated(shards, words, [max(one) for one in zip(*(a.largest for a in answers), strict=True)])


class Sum(Request[Pushed], frozen=True):
    """Add the gradient of a block to the evaluation that it is of; the payload is float32 in little-endian order.
    Answered as a push is: a block that is there already is ``REPEATED``."""

    KIND = 60
    PAYLOAD = True

    shard: int
    node: int
    evaluation: int
    block: int
