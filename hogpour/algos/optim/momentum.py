"""Momentum (heavy ball): velocity accumulates gradients, parameters follow velocity.

    v  = momentum · v + g + weight_decay · w
    w -= lr · v

The convention of PyTorch: lr is outside of v, so a schedule acts at once on what was accumulated. Polyak (1964) and
Sutskever et al. (2013, eq. 1) keep lr inside; with a constant lr the two give the same w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Fraction, Nonnegative, Positive

__all__ = ["Momentum"]


@dataclass(frozen=True, slots=True)
class Momentum(Optimiser):
    """SGD with momentum. Each replica follows its own velocity, as each process of PyTorch's Hogwild does."""

    state: ClassVar[tuple[Row, ...]] = (Row("velocity", per="replica"),)

    lr: Positive
    """Learning rate; a constant gradient is followed with lr / (1 - momentum) in the end."""
    momentum: Fraction = 0.9
    """What remains of the velocity after a step. N lock-free replicas already act like a momentum of 1 - 1/N
    (Mitliagkas et al. 2016), so many replicas want less of it."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type
        momentum_apply(params, grad, state[0], real(self.lr * lr_scale), real(self.momentum), real(self.weight_decay))


@njit(cache=True, nogil=True)
def momentum_apply(
    params: Array, grad: Array, velocity: Array, lr: float, momentum: float, weight_decay: float
) -> None:
    """params may be live shared memory: each element is loaded once and stored once."""
    for k in range(params.size):
        w = params[k]
        v = momentum * velocity[k] + (grad[k] + weight_decay * w)
        velocity[k] = v
        params[k] = w - lr * v
