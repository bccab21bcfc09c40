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

__all__ = ["Logistic", "one_vs_all_outputs", "one_vs_all_predict"]


@dataclass(frozen=True, slots=True)
class Logistic(Loss):
    """One-vs-all logistic loss; a score is the log-odds of its label."""

    targets: ClassVar = "labels"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return one_vs_all_outputs(n_targets)

    def apply(self, scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
        return logistic(scores, target, d_scores)

    def predict(self, scores: Array) -> Array:
        return one_vs_all_predict(scores)


def one_vs_all_outputs(n_targets: int) -> tuple[int, ...]:
    """Return the numbers of units that fit: one for two labels, else one per label."""
    return (1, 2) if n_targets == 2 else (n_targets,)


def one_vs_all_predict(scores: Array) -> Array:
    """Return the label of the largest score; of a single unit, label 1 where its score is positive."""
    return (scores[0] > 0).astype(np.int64) if scores.shape[0] == 1 else scores.argmax(axis=0)


@njit(cache=True, nogil=True)
def logistic(scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
    """exp is taken of -|s| only, so that no finite score overflows."""
    n_out, batch = scores.shape
    one, share = scores.dtype.type(1), scores.dtype.type(1 / batch)
    loss, right = 0.0, 0
    for k in range(batch):
        own = target[k] if n_out > 1 else target[k] - 1  # with one unit: 0, the unit itself, for label 1
        best = 0
        for u in range(n_out):
            if scores[u, k] > scores[best, k]:
                best = u
            margin = scores[u, k] if u == own else -scores[u, k]
            e = np.exp(-abs(margin))
            slope = (e if margin >= 0 else one) / (one + e)
            d_scores[u, k] = (-slope if u == own else slope) * share
            loss += max(-margin, 0.0) + np.log1p(e)
        right += best == own if n_out > 1 else (scores[0, k] > 0) == (own == 0)
    return loss, right
