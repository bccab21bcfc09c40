"""Quorum: a step is made of the first c = ⌊λ/n⌋ gradients, whoever they are from and however late.

n-softsync (Zhang, Gupta, Lian, Liu 2016, section 3.1): with λ learners the server updates after c gradients, each of
them weighted by its own learning rate before they are averaged (``correction/inverse_staleness.py``: α/τ). n = 1 takes
as many as there are learners, n = λ every gradient by itself. Learners wait for their push to arrive and for the
parameters that they fetch, never for others.

What the paper leaves open: λ is how many origins are present, and changes with them. A learner that is faster than
others may have several gradients in a step. One that has no data left counts as in ``barrier``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.gate.base import Gate
from hogpour.core.limits import Count

__all__ = ["Quorum"]


@dataclass(frozen=True, slots=True)
class Quorum(Gate):
    """⌊present / n⌋ gradients, at least 1."""

    holds: ClassVar[bool] = True

    n: Count = 1
    """Steps in which each learner takes part once on average; about the mean staleness, too."""

    def needed(self, present: int) -> int:
        return max(1, present // self.n)
