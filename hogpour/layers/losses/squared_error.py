"""Squared error: regression. loss = ½ Σ_u (s_u - t_u)², gradient s - t."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Loss

__all__ = ["SquaredError"]


@dataclass(frozen=True, slots=True)
class SquaredError(Loss):
    """Half the squared distance of an example's scores to its values, summed over outputs (not their mean)."""

    targets: ClassVar = "values"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return (n_targets,)

    def apply(self, scores: Array, target: Array, d_scores: Array) -> tuple[float, int]:
        return squared_error(scores, target, d_scores), 0

    def predict(self, scores: Array) -> Array:
        return scores


@njit(cache=True, nogil=True)
def squared_error(scores: Array, target: Array, d_scores: Array) -> float:
    n_out, batch = scores.shape
    share = scores.dtype.type(1 / batch)
    loss = 0.0
    for u in range(n_out):
        for k in range(batch):
            error = scores[u, k] - target[u, k]
            d_scores[u, k] = error * share
            loss += 0.5 * error * error
    return loss
