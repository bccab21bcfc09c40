"""Inverse staleness: the later a gradient comes, the smaller the step it is worth.

Zhang, Gupta, Lian, Liu, "Staleness-Aware Async-SGD for Distributed Deep Learning", IJCAI 2016, equation 6:
α(τ) = α₀ / τ where τ > 0, else α₀. Gradients of staleness τ on a curvature h are stable below
αh = 2 sin(π / (2(2τ+1))), so that α₀h < 1 is stable at every τ. Jiang, Cui, Zhang, Yu, "Heterogeneity-aware Distributed
Parameter Servers", SIGMOD 2017 (DynSGD), divide by τ + 1.

Where a push sums several gradients, its staleness is that of the first; with n_fetch above 1 it counts the node's own
pushes since its fetch too, so that even a node alone has some. The rate is scaled, not the gradient: to an
optimiser that divides by its history (Adagrad, Adam) a smaller gradient would be as large as any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from hogpour.algos.correction.base import Correction
from hogpour.core.limits import Range

__all__ = ["InverseStaleness"]


@dataclass(frozen=True, slots=True)
class InverseStaleness(Correction):
    """The rate is divided by the staleness."""

    offset: Annotated[int, Range(0, 1)] = 0
    """Added to the staleness; 0: α/τ of Zhang et al., 1: α/(τ+1) of DynSGD."""

    def scale(self, staleness: int) -> float:
        return 1.0 / max(1, staleness + self.offset)
