"""What a batch method has the shards do, and what it says: operations on named vectors that they keep, evaluations,
iterations. Scalars alone come back.

Every program may be carried out twice: it writes nothing that an earlier operation of it, or its own second run, reads
otherwise. So a lost answer costs a repetition, and shards need not remember what they did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.vector_operations import Operation, Ranges

if TYPE_CHECKING:
    from hogpour.core.kernels.jit import Array

__all__ = ["DIRECTION", "GRADIENT", "MOVED", "POINT", "PSEUDO", "TRIAL", "TRIAL_GRADIENT", "Evaluate", "Evaluated",
           "Iteration", "Penalty", "ResumePoint", "Vectors", "first_of_history", "vector_names"]  # fmt: skip

TRIAL, POINT, GRADIENT, TRIAL_GRADIENT, DIRECTION, PSEUDO, MOVED = range(7)
"""Vectors of a shard by number: where the objective is evaluated (what nodes fetch), the point of the last iteration,
the gradients at the two, the direction; with L1 only, the pseudo-gradient at the point, and how far the trial is from
it. Behind them s and y of the pairs of the history, all s first."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Carry out ``before``, find the objective and its gradient at ``TRIAL``, put the gradient into ``TRIAL_GRADIENT``,
    carry out ``after`` and send ``Evaluated``."""

    before: tuple[Operation, ...]
    after: tuple[Operation, ...]
    subset: int | None = None
    """Of some of the examples only, as this number chooses them; None: of all. Value and gradient are then what those
    examples contribute to the whole, and so smaller."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The answer to ``Evaluate``."""

    value: float
    """The objective with L2 and without L1; not finite where it is not."""
    results: list[float]
    """Of ``after``."""


@dataclass(frozen=True, slots=True)
class Iteration:
    """Said after each iteration; answered with whether to go on."""

    number: int
    """1, 2, 3 ...; 0: the beginning."""
    value: float
    gradient: float
    """Largest magnitude in the gradient, with L1 in the pseudo-gradient."""
    step: float
    pairs: int
    """In the history."""
    state: ResumePoint
    """What a resumed run begins with, beside the vectors."""


@dataclass(frozen=True, slots=True)
class Penalty:
    """L2: factor / 2 times the sum of squares of some ranges of the model's vector. L1: factor times the sum of
    magnitudes."""

    factor: float = 0.0
    ranges: Ranges = ()


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a resumed run begins: behind which iteration."""

    iteration: int
    value: float
    slots: tuple[int, ...]
    """Pairs of the history, the oldest first."""
    evaluation: int = 0
    """Evaluations that were made; known to whoever drives."""
    addend: float = 1.0
    """The largest magnitude in what the last one's sums were made of; the same."""


@dataclass(frozen=True, slots=True)
class Vectors(Optimiser):
    """The rows of shards whose parameters are ``TRIAL``. No rule: nothing is pushed to them."""

    memory: int
    orthants: bool = False
    """Whether there is L1."""
    lr: float = 1.0

    @property
    def state(self) -> tuple[Row, ...]:  # type: ignore[override]
        """As many rows as the history has vectors, and a few more."""
        return tuple(Row(name, "node") for name in vector_names(self.memory, self.orthants)[1:])

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        """Do nothing, which the server's constructor rehearses."""


def first_of_history(orthants: bool) -> int:
    """Return the number of the first s."""
    return MOVED + 1 if orthants else PSEUDO


def vector_names(memory: int, orthants: bool = False) -> list[str]:
    """Return the names of all vectors of a shard, by number."""
    pairs = [f"{letter}{k}" for letter in "sy" for k in range(memory)]
    names = ["trial", "point", "gradient", "trial_gradient", "direction", "pseudo", "moved"]
    return [*names[: first_of_history(orthants)], *pairs]
