"""Hinge: one linear support vector machine per label against all others (one-vs-all).

    loss = Σ_u max(0, 1 - t_u s_u),  t_u = 1 for the unit of the label, -1 for the others
    gradient of s_u: -t_u where t_u s_u < 1, else 0

At the kink, t_u s_u = 1, we take the subgradient 0: an example that reaches its margin is left alone. Two labels need
one unit only: t = 1 for label 1, -1 for label 0. An example's loss is summed over units; the gradient is that of the
mean over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Loss
from hogpour.layers.kernels.one_vs_all import count_right, label_of_scores, own_unit, unit_counts

__all__ = ["Hinge"]


@dataclass(frozen=True, slots=True)
class Hinge(Loss):
    """One-vs-all hinge loss; a score beyond 1 on the right side costs nothing."""

    targets: ClassVar = "labels"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return unit_counts(n_targets)

    def apply(self, scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
        return hinge(scores, target, d_scores)

    def predict(self, scores: Array) -> Array:
        return label_of_scores(scores)


@njit(inline="always")
def hinge_slope(score, own, one):
    """Return the slope of a unit's loss, and the loss. ``one`` is 1 in the type of the score."""
    short = one - (score if own else -score)
    slope = one if short > 0 else one - one
    return (-slope if own else slope), (short if short > 0 else short * 0)  # keeps NaN


@njit(cache=True, nogil=True)
def hinge(scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
    n_out, batch = scores.shape
    one, share = scores.dtype.type(1), scores.dtype.type(1 / batch)
    loss = 0.0
    for k in range(batch):
        own = own_unit(target[k], n_out)
        for u in range(n_out):
            slope, short = hinge_slope(scores[u, k], u == own, one)
            d_scores[u, k] = slope * share
            loss += short
    return loss, count_right(scores, target)
