"""AdamW: Adam whose weight decay stays out of the moments.

    w          -= lr · weight_decay · w
    mean        = beta1 · mean + (1 - beta1) · g
    mean_square = beta2 · mean_square + (1 - beta2) · g²
    w          -= lr · (mean / (1 - beta1^t)) / (√(mean_square / (1 - beta2^t)) + epsilon)

Loshchilov and Hutter 2019, Algorithm 2, in the form of PyTorch: the decay is multiplied by the learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, ClassVar

import numpy as np

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Nonnegative, Positive, Range

__all__ = ["AdamW"]


@dataclass(frozen=True, slots=True)
class AdamW(Optimiser):
    """Adam with decoupled weight decay. Moments are shared by the replicas of a machine, as ``Adam`` says why."""

    state: ClassVar[tuple[Row, ...]] = (Row("mean", per="node"), Row("mean_square", per="node"))

    lr: Positive = 0.001
    """Learning rate; about the length of a step in every coordinate."""
    beta1: Annotated[float, Range(0, 1 - 1e-9)] = 0.9
    """What remains of the mean after a step, 0 up to (not including) 1."""
    beta2: Annotated[float, Range(0, 1 - 1e-9)] = 0.999
    """What remains of the mean square after a step, 0 up to (not including) 1."""
    epsilon: Positive = 1e-8
    """Added to the root; above 0, so that a coordinate without history stays where it is."""
    weight_decay: Nonnegative = 0.0
    """Each step takes this times lr of every parameter away, whatever its gradients were. Also a step by the sum of
    several, which is about as long as one by a single gradient."""

    def of_sum(self, gradients: float) -> AdamW:
        return self  # the length of a step does not grow with the sum: nor may what is taken away

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type
        lr = self.lr * lr_scale
        decays = real(self.beta1), real(1 - self.beta1), real(self.beta2), real(1 - self.beta2)
        adamw_apply(params, grad, state[0], state[1], real(lr / (1 - self.beta1**t)), *decays,
                    real(1 / sqrt(1 - self.beta2**t)), real(self.epsilon), real(lr * self.weight_decay))  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is a number, no exception
def adamw_apply(
    params: Array, grad: Array, mean: Array, mean_square: Array,
    lr: float, beta1: float, fresh1: float, beta2: float, fresh2: float,
    root_scale: float, epsilon: float, decay: float,
) -> None:
    """params, mean and mean_square may be live shared memory: each element is loaded once and stored once."""
    for k in range(params.size):
        w = params[k]
        g = grad[k]
        m = beta1 * mean[k] + fresh1 * g
        s = beta2 * mean_square[k] + fresh2 * (g * g)
        mean[k] = m
        mean_square[k] = s
        params[k] = (w - decay * w) - lr * (m / (np.sqrt(s) * root_scale + epsilon))
