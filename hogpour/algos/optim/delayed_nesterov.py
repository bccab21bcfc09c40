"""Delayed Nesterov: plain steps at each push, and momentum only once for several of them.

    each push           w  -= lr · g / every;   sum += g
    every-th push       m   = momentum · m + sum / every;   w -= lr · momentum · m;   sum = 0

So ``every`` pushes together are one step of Nesterov's momentum (``nesterov.py``) on their mean, wherever they come
from. Liu et al. 2024, "Asynchronous Local-SGD Training for Language Modeling", Algorithm 3 with c = 0: applied to every
late pseudo-gradient alone, momentum makes asynchronous training unstable. g includes weight_decay · w.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Fraction, Nonnegative, Positive, Range

__all__ = ["DelayedNesterov"]


@dataclass(frozen=True, slots=True)
class DelayedNesterov(Optimiser):
    """Nesterov's momentum on means of several pushes. The outer rule of asynchronous local steps."""

    state: ClassVar[tuple[Row, ...]] = (Row("velocity", per="node"), Row("sum", per="node"))  # t counts for the node

    lr: Positive
    """Learning rate of a step on a mean of ``every`` gradients."""
    momentum: Fraction = 0.9
    """What remains of the velocity from one mean to the next."""
    every: Annotated[int, Range(1, 1e9)] = 2
    """Gradients to a mean: as many as replicas push, in the paper."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type
        place = (t - 1) % self.every
        delayed_nesterov_apply(params, grad, state[0], state[1], real(self.lr * lr_scale), real(self.momentum),
                               real(self.weight_decay), real(self.every), place == 0,
                               place == self.every - 1)  # fmt: skip


@njit(cache=True, nogil=True)
def delayed_nesterov_apply(
    params: Array, grad: Array, velocity: Array, sums: Array,
    lr: float, momentum: float, weight_decay: float, every: int, first: int, last: int,
) -> None:
    """params and the rows may be live shared memory: each element is loaded once and stored once.

    The sum is begun anew by the first gradient of a mean and not zeroed by the last one of the mean before.
    """
    step = lr / every
    for k in range(params.size):
        w = params[k]
        g = grad[k] + weight_decay * w
        total = g if first else sums[k] + g
        sums[k] = total
        w = w - step * g
        if last:
            v = momentum * velocity[k] + total / every
            velocity[k] = v
            w = w - lr * (momentum * v)
        params[k] = w
