"""RMSProp: the gradient divided by a running root mean square of itself.

    mean_square = decay · mean_square + (1 - decay) · g²          g includes weight_decay · w
    w          -= lr · g / (√mean_square + epsilon)

Tieleman and Hinton 2012, Coursera lecture 6e; with epsilon outside of the root, as in PyTorch (the lecture has none).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Fraction, Nonnegative, Positive

__all__ = ["RmsProp"]


@dataclass(frozen=True, slots=True)
class RmsProp(Optimiser):
    """RMSProp without momentum. All replicas of a machine write one mean square."""

    state: ClassVar[tuple[Row, ...]] = (Row("mean_square", per="node"),)

    lr: Positive = 0.001
    """Learning rate; about the length of a step in every coordinate."""
    decay: Fraction = 0.9
    """What remains of the mean square after a step; the lecture's 0.9 (PyTorch: 0.99)."""
    epsilon: Positive = 1e-8
    """Added to the root; above 0, so that a coordinate without history stays where it is."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum, and so enters
    the mean square."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type
        rmsprop_apply(params, grad, state[0], real(self.lr * lr_scale), real(self.decay), real(1 - self.decay),
                      real(self.epsilon), real(self.weight_decay))  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is a number, no exception
def rmsprop_apply(
    params: Array, grad: Array, mean_square: Array,
    lr: float, decay: float, fresh: float, epsilon: float, weight_decay: float,
) -> None:
    """params and mean_square may be live shared memory: each element is loaded once and stored once."""
    for k in range(params.size):
        w = params[k]
        g = grad[k] + weight_decay * w
        s = decay * mean_square[k] + fresh * (g * g)
        mean_square[k] = s
        params[k] = w - lr * (g / (np.sqrt(s) + epsilon))
