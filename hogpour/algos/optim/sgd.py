"""SGD: w -= lr · (g + weight_decay · w). The rule of Hogwild! (Niu et al. 2011, Algorithm 1) on dense gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hogpour.algos.optim.base import Optimiser
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Nonnegative, Positive
from hogpour.layers.kernels.simd import WIDTH, simd_load, simd_store
from hogpour.layers.kernels.tile import LANES, lanes_nonzero, lanes_subtract

__all__ = ["Sgd", "sgd_step"]


@dataclass(frozen=True, slots=True)
class Sgd(Optimiser):
    """Plain stochastic gradient descent; remembers nothing."""

    lr: Positive
    """Learning rate."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type  # a float64 scalar would make the kernel compute in float64
        if self.weight_decay:
            sgd_decay_apply(params, grad, real(self.lr * lr_scale), real(self.weight_decay))
        else:
            sgd_apply(params, grad, real(self.lr * lr_scale))

    @property
    def by_rows(self) -> bool:
        return not self.weight_decay

    def apply_rows(
        self, params: Array, rows: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float
    ) -> None:
        sgd_apply_rows(params, rows, grad, params.dtype.type(self.lr * lr_scale))


@njit(cache=True, nogil=True)
def sgd_apply(params: Array, grad: Array, lr: float) -> None:
    """params may be live shared memory: each element is loaded once and stored once, or left alone.

    A line of gradient that is all 0 would store what it loaded. It is left alone: that line of params then stays in the
    caches of all replicas, for which two replicas on one vector otherwise fight, and nobody's update of it is lost.
    """
    whole = params.size - params.size % LANES
    for line in range(0, whole, LANES):
        if lanes_nonzero(grad, line):
            lanes_subtract(params, grad, line, lr)
    for k in range(whole, params.size):
        params[k] = params[k] - lr * grad[k]


@njit(cache=True, nogil=True)
def sgd_decay_apply(params: Array, grad: Array, lr: float, weight_decay: float) -> None:
    """As ``sgd_apply``, but decay moves every element."""
    for k in range(params.size):
        w = params[k]
        params[k] = w - lr * (grad[k] + weight_decay * w)


@njit(inline="always")
def sgd_step(w: float, g: float, lr: float) -> float:
    """Return w after a gradient; both may be vectors."""
    return w - lr * g


@njit(cache=True, nogil=True)
def sgd_apply_rows(params: Array, rows: Array, grad: Array, lr: float) -> None:
    """As ``sgd_apply`` for (n_rows, width) params, of which the gradient of rows[s] is grad[s]."""
    width, w, g = params.shape[1], params.reshape(params.size), grad.reshape(grad.size)
    whole = width - width % WIDTH
    for s in range(rows.size):
        at, of = np.intp(rows[s]) * width, s * width
        for u in range(0, whole, WIDTH):
            simd_store(sgd_step(simd_load(w, at + u), simd_load(g, of + u), lr), w, at + u)
        for u in range(whole, width):
            w[at + u] = sgd_step(w[at + u], g[of + u], lr)
