"""Logistic: one classifier per label against all others (one-vs-all), each a logistic regression.

    loss = Σ_u log(1 + exp(-t_u s_u)),  t_u = 1 for the unit of the label, -1 for the others
    gradient of s_u: -t_u / (1 + exp(t_u s_u))

Two labels need one unit only: t = 1 for label 1, -1 for label 0. With two units or more there is one for each label.
An example's loss is summed over units; the gradient is that of the mean over the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Loss
from hogpour.layers.kernels.one_vs_all import count_right, label_of_scores, own_unit, unit_counts

__all__ = ["Logistic"]


@dataclass(frozen=True, slots=True)
class Logistic(Loss):
    """One-vs-all logistic loss; a score is the log-odds of its label."""

    targets: ClassVar = "labels"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return unit_counts(n_targets)

    def apply(self, scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
        return logistic(scores, target, d_scores)

    def predict(self, scores: Array) -> Array:
        return label_of_scores(scores)


@njit(inline="always")
def logistic_slope(score, own, one):
    """Return the slope of a unit's loss, and the loss as (a, e): a + log(1 + e). exp is taken of -|score| only, so that
    no finite score overflows. ``one`` is 1 in the type of the score."""
    margin = score if own else -score
    e = np.exp(-abs(margin))
    slope = (e if margin >= 0 else one) / (one + e)
    return (-slope if own else slope), max(-margin, one - one), e


@njit(cache=True, nogil=True)
def logistic(scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
    n_out, batch = scores.shape
    one, share = scores.dtype.type(1), scores.dtype.type(1 / batch)
    loss = 0.0
    for k in range(batch):
        own = own_unit(target[k], n_out)
        for u in range(n_out):
            slope, least, e = logistic_slope(scores[u, k], u == own, one)
            d_scores[u, k] = slope * share
            loss += least + np.log1p(e)
    return loss, count_right(scores, target)
