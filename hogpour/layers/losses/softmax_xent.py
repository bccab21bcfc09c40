"""Softmax cross-entropy: one class of many. loss = log Σ_u exp(s_u) - s_label, gradient softmax(s) - one-hot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Loss

__all__ = ["SoftmaxXent"]


@dataclass(frozen=True, slots=True)
class SoftmaxXent(Loss):
    """Multinomial logistic loss; scores are unnormalised log-probabilities."""

    targets: ClassVar = "labels"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return (n_targets,)

    def apply(self, scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
        return softmax_xent(scores, target, d_scores)

    def predict(self, scores: Array) -> Array:
        return scores.argmax(axis=0)


@njit(cache=True, nogil=True)
def softmax_xent(scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
    """The largest score is subtracted before exp, so that no finite score overflows."""
    n_out, batch = scores.shape
    loss, right = 0.0, 0
    for k in range(batch):
        best = 0
        for u in range(1, n_out):
            if scores[u, k] > scores[best, k]:
                best = u
        top = scores[best, k]
        total = scores[0, k] * 0
        for u in range(n_out):
            d_scores[u, k] = np.exp(scores[u, k] - top)
            total += d_scores[u, k]
        for u in range(n_out):
            d_scores[u, k] /= total * batch
        label = target[k]
        d_scores[label, k] -= 1 / scores.dtype.type(batch)
        loss += np.log(total) + (top - scores[label, k])  # of two large scores only the difference counts
        right += best == label
    return loss, right
