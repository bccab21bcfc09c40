"""Operate: what Sandblaster's coordinator has servers do with the vectors of their shards; and a block's gradient.

Only scalars travel between coordinator and servers: factors there, accumulators of fixed size back. Doing a program
twice is safe (``lbfgs/minimise.py``); one that comes late, behind a newer one, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from hogpour.core.vector_operations import Operation, Result
from hogpour.net.wire.base import Message, Request, Speaker
from hogpour.net.wire.numbers import Count, Incarnation, Index, Ordinal
from hogpour.net.wire.push import Pushed

__all__ = ["Operate", "Operated", "Sum", "together"]


class Operated(Message, frozen=True):
    """What came of it, for these shards together; others are not served here any more."""

    KIND = 59
    BODY_LIMIT = 1 << 20

    shards: list[Index]
    results: list[Result]
    """Of the operations that have one, in their order."""


class Operate(Request[Operated], frozen=True):
    """Carry out a program on some shards."""

    KIND = 58
    SPEAKER = Speaker.COORDINATOR
    BODY_LIMIT = 1 << 18

    node: Incarnation
    """Incarnation of the coordinator's node."""
    sequence: Ordinal
    """1, 2, 3 ... of the programs of a run."""
    shards: list[Index]
    program: list[Operation]


def together(answers: Sequence[Operated]) -> Operated:
    """Return what a program came to on the shards of several answers: accumulators are added word by word, and of
    floats the largest counts."""
    if len(answers) == 1:
        return answers[0]
    shards = [shard for answer in answers for shard in answer.shards]
    return Operated(shards, [_together(of_one) for of_one in zip(*(a.results for a in answers), strict=True)])


def _together(results: tuple[Result, ...]) -> Result:
    words = [one for one in results if isinstance(one, list)]
    return [sum(word) for word in zip(*words)] if words else max(one for one in results if isinstance(one, float))


class Sum(Request[Pushed], frozen=True):
    """Add the gradient of a block to the evaluation that it is of; the payload is float32 in little-endian order.
    Answered as a push is: a block that is there already is ``REPEATED``."""

    KIND = 60
    PAYLOAD = True

    shard: Index
    node: Incarnation
    evaluation: Count
    block: Index
