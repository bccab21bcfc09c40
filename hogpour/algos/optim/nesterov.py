"""Nesterov's momentum: as ``momentum``, but the step looks one velocity ahead.

    g  = g + weight_decay · w
    v  = momentum · v + g
    w -= lr · (g + momentum · v)

Sutskever et al. 2013 (eq. 3 and 4) evaluate the gradient at the place ahead; this is the form of PyTorch and of
Bengio et al. 2012 (eq. 7), where w itself is the place ahead, so the gradient is evaluated at w as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Fraction, Nonnegative, Positive

__all__ = ["Nesterov"]


@dataclass(frozen=True, slots=True)
class Nesterov(Optimiser):
    """SGD with Nesterov's momentum. Each replica follows its own velocity."""

    state: ClassVar[tuple[Row, ...]] = (Row("velocity", per="replica"),)

    lr: Positive
    """Learning rate; a constant gradient is followed with lr / (1 - momentum) in the end."""
    momentum: Fraction = 0.9
    """What remains of the velocity after a step."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type
        nesterov_apply(params, grad, state[0], real(self.lr * lr_scale), real(self.momentum), real(self.weight_decay))

    def ahead(self, lr_scale: float) -> tuple[str, float]:
        return "velocity", self.lr * lr_scale * self.momentum


@njit(cache=True, nogil=True)
def nesterov_apply(
    params: Array, grad: Array, velocity: Array, lr: float, momentum: float, weight_decay: float
) -> None:
    """params may be live shared memory: each element is loaded once and stored once."""
    for k in range(params.size):
        w = params[k]
        g = grad[k] + weight_decay * w
        v = momentum * velocity[k] + g
        velocity[k] = v
        params[k] = w - lr * (g + momentum * v)
