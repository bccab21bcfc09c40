"""Softmax cross-entropy: one class of many. loss = log Σ_u exp(s_u) - s_label, gradient softmax(s) - one-hot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Loss
from hogpour.layers.kernels.exponential import exp

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


WIDTH = 128
"""Examples at a time, so that what is kept of them is small, whatever the batch is."""


@njit(cache=True, nogil=True, error_model="numpy")
def softmax_xent(scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
    """The largest score is subtracted before exp, so that no finite score overflows.

    All loops run along the batch, as memory does, so they vectorise whatever the number of outputs."""
    n_out, batch = scores.shape
    n = scores.dtype.type(batch)
    width = min(WIDTH, batch)
    top, total, best = np.empty(width, scores.dtype), np.empty(width, scores.dtype), np.empty(width, np.int32)
    loss, right = 0.0, 0
    for first in range(0, batch, WIDTH):
        some = slice(first, min(first + WIDTH, batch))
        row = scores[0, some]
        for k in range(row.size):
            top[k], total[k], best[k] = row[k], 0, 0
        for u in range(1, n_out):
            row = scores[u, some]
            for k in range(row.size):
                best[k] = u if row[k] > top[k] else best[k]
                top[k] = row[k] if row[k] > top[k] else top[k]
        for u in range(n_out):
            row, d_row = scores[u, some], d_scores[u, some]
            for k in range(row.size):
                d_row[k] = exp(row[k] - top[k])
            for k in range(row.size):
                total[k] += d_row[k]
        for k, label in enumerate(target[some]):
            loss += np.log(total[k]) + (top[k] - scores[label, first + k])  # of large ones only the difference counts
            right += best[k] == label
            total[k] *= n
        for u in range(n_out):
            d_row = d_scores[u, some]
            for k in range(d_row.size):
                d_row[k] /= total[k]
        for k, label in enumerate(target[some]):
            d_scores[label, first + k] -= 1 / n
    return loss, right
