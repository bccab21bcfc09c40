"""Adagrad as DistBelief states it: every coordinate has a rate of its own that falls with what it has seen.

    history += g²                          g includes weight_decay · w
    w       -= lr · g / √history           where history is not 0; else w is left alone

Dean et al. 2012, section "Downpour SGD": η_i,K = γ / √(Σ_j≤K Δw_i,j²), γ being lr. There is **no epsilon**: the first
gradient of a coordinate moves it by exactly lr, whatever its size. The paper does not say what happens to a coordinate
that has seen only zeros (0 / 0); we leave it alone. A gradient whose square underflows to 0 (below 1e-23 in float32)
counts as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Nonnegative, Positive
from hogpour.layers.kernels.simd import WIDTH, choose, root, simd_load, simd_store

__all__ = ["Adagrad", "adagrad_step"]


@dataclass(frozen=True, slots=True)
class Adagrad(Optimiser):
    """Adagrad without epsilon. All replicas of a machine write one history, as each shard of DistBelief has one."""

    state: ClassVar[tuple[Row, ...]] = (Row("history", per="node"),)

    lr: Positive
    """γ of the paper: "generally larger, perhaps by an order of magnitude" than the best fixed rate."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum, and so enters
    the history."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        real = params.dtype.type
        adagrad_apply(params, grad, state[0], real(self.lr * lr_scale), real(self.weight_decay))

    @property
    def by_rows(self) -> bool:
        return not self.weight_decay

    def apply_rows(
        self, params: Array, rows: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float
    ) -> None:
        adagrad_apply_rows(params, rows, grad, state[0], params.dtype.type(self.lr * lr_scale))


@njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is a number, no exception
def adagrad_apply(params: Array, grad: Array, history: Array, lr: float, weight_decay: float) -> None:
    """params and history may be live shared memory: each element is loaded once and stored once.

    g / √g² is exactly ±1, so it is divided before lr is multiplied. The square of NaN is not 0 and reaches w. Without
    branches, so that it vectorises: 0 / 0 is computed and then not chosen.
    """
    for k in range(params.size):
        w = params[k]
        g = grad[k] + weight_decay * w
        h = history[k] + g * g
        history[k] = h
        stepped = w - lr * (g / np.sqrt(h))
        params[k] = stepped if h != 0 else w


@njit(inline="always", error_model="numpy")
def adagrad_step(w: float, g: float, history: float, lr: float) -> tuple[float, float]:
    """Return w and history after a gradient; all three may be vectors."""
    seen = history + g * g
    return choose(seen, w - lr * (g / root(seen)), w), seen


@njit(cache=True, nogil=True, error_model="numpy")
def adagrad_apply_rows(params: Array, rows: Array, grad: Array, history: Array, lr: float) -> None:
    """As ``adagrad_apply`` for (n_rows, width) params and history, of which the gradient of rows[s] is grad[s]."""
    width, w, g, h = params.shape[1], params.reshape(params.size), grad.reshape(grad.size), history.reshape(params.size)
    whole = width - width % WIDTH
    for s in range(rows.size):
        at, of = np.intp(rows[s]) * width, s * width
        for u in range(0, whole, WIDTH):
            some, seen = adagrad_step(simd_load(w, at + u), simd_load(g, of + u), simd_load(h, at + u), lr)
            simd_store(seen, h, at + u)
            simd_store(some, w, at + u)
        for u in range(whole, width):
            w[at + u], h[at + u] = adagrad_step(w[at + u], g[of + u], h[at + u], lr)
