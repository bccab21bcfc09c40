"""Operations on the vectors that shards keep, by number: what a batch method asks for is what travels to servers.

An operation is declared here: its fields, which of them are vectors, and a place in ``Operation``. Its kernel is in
``algos/lbfgs``. ``server/vector_ops`` rehearses the kernel and has an arm for each operation, whose result, if there is
one, is a list of ints, an accumulator that is added up over shards word by word (``algos/lbfgs/exact_sums``), or a
float, of which the largest counts.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Align", "Combine", "Dot", "Largest", "Magnitude", "OpenSums", "Operation", "Orthant", "Pseudo", "Ranges",
           "Result", "SettleSums"]  # fmt: skip

Ranges = tuple[tuple[int, int], ...]
"""Elements of the model's vector, from and to."""

Result = list[int] | float


class _Operation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    @property
    def vectors(self) -> tuple[int, ...]:
        """Numbers of the vectors that it is about."""
        return ()


class Combine(_Operation, frozen=True):
    """out = sum of factor · vector, in this order."""

    out: int
    terms: Annotated[tuple[tuple[float, int], ...], msgspec.Meta(min_length=1)]

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.out, *(vector for _, vector in self.terms)


class Dot(_Operation, frozen=True):
    """The inner product of two vectors, in ranges of the model's vector; None: of all of it."""

    a: int
    b: int
    ranges: Ranges | None = None

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.a, self.b


class Largest(_Operation, frozen=True):
    """The largest magnitude of a vector."""

    of: int

    @property
    def vectors(self) -> tuple[int, ...]:
        return (self.of,)


class Magnitude(_Operation, frozen=True):
    """The sum of magnitudes of a vector."""

    of: int
    ranges: Ranges

    @property
    def vectors(self) -> tuple[int, ...]:
        return (self.of,)


class Pseudo(_Operation, frozen=True):
    """out = the pseudo-gradient at ``point``, where ``gradient`` is that of the smooth part and L1 has ``factor``
    (``algos/lbfgs/orthant``)."""

    out: int
    point: int
    gradient: int
    factor: float
    ranges: Ranges

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.out, self.point, self.gradient


class Align(_Operation, frozen=True):
    """Set to 0 what in a direction does not lead down by its own pseudo-gradient."""

    direction: int
    pseudo: int
    ranges: Ranges

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.direction, self.pseudo


class Orthant(_Operation, frozen=True):
    """Set to 0 what in a trial has left the orthant of the point."""

    trial: int
    point: int
    pseudo: int
    ranges: Ranges

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.trial, self.point, self.pseudo


class OpenSums(_Operation, frozen=True):
    """Sum the gradients of an evaluation from now on, in multiples of ``grid``; none larger than ``limit``."""

    evaluation: int
    grid: float
    limit: float


class SettleSums(_Operation, frozen=True):
    """out = what was summed in an evaluation, and in ranges factor · ``point``. Results in the largest magnitude of all
    addends."""

    evaluation: int
    out: int
    point: int
    factor: float
    ranges: Ranges

    @property
    def vectors(self) -> tuple[int, ...]:
        return self.out, self.point


Operation = Combine | Dot | Largest | Magnitude | Pseudo | Align | Orthant | OpenSums | SettleSums
"""Every shard carries it out on its own range."""
