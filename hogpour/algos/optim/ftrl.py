"""FTRL-proximal: Adagrad's rates for each coordinate, with weights that are exactly 0 where they do not pay (L1).

    σ  = (√(n + g²) - √n) / lr                  n += g²          z += g - σ w
    w  = 0  where |z| ≤ l1,  else  -(z - sign(z) l1) / ((beta + √n) / lr + l2)

McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, Algorithm 1, α being lr. A coordinate whose
gradient is 0 is left alone, as there, where only the features of an example are looked at: so weights that do not begin
with 0 stay as they are until their first gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.algos.optim.base import Optimiser, Row
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Nonnegative, Positive

__all__ = ["Ftrl"]

_LEAST_RATE = 1e-30
"""Of a rate below it, as schedules come to, quotients would leave float32. In the limit, at 0, nothing moves."""


@dataclass(frozen=True, slots=True)
class Ftrl(Optimiser):
    """Follow the regularised leader, with proximal terms. All replicas of a machine write one z and one n."""

    state: ClassVar[tuple[Row, ...]] = (Row("z", per="node"), Row("n", per="node"))

    lr: Positive
    """α of the paper."""
    weight_decay: Nonnegative = 0.0
    """L2 regularisation: this times w is added to each gradient, also where several come as their sum."""
    beta: Nonnegative = 1.0
    """Added to √n: the paper found 1 "usually good enough"."""
    l1: Nonnegative = 0.0
    """What |z| must exceed for a weight that is not 0."""
    l2: Nonnegative = 0.0
    """Pull towards 0, of the sum of losses."""

    def apply(self, params: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float, t: int) -> None:
        every = np.broadcast_to(np.uint32(0), (1,))
        self.apply_rows(params[None], every, grad[None], tuple(row[None] for row in state), lr_scale=lr_scale)

    @property
    def by_rows(self) -> bool:
        return not self.weight_decay

    def apply_rows(
        self, params: Array, rows: Array, grad: Array, state: tuple[Array, ...], *, lr_scale: float
    ) -> None:
        real = params.dtype.type
        settings = (self.lr * lr_scale, self.weight_decay, self.beta, self.l1, self.l2)
        z, n = state
        lr, weight_decay, beta, l1, l2 = map(real, settings)
        ftrl_apply_rows(params, rows, grad, z, n, lr, weight_decay, beta, l1, l2)


@njit(inline="always")
def ftrl_step(
    w: float, g: float, z: float, n: float, lr: float, beta: float, l1: float, l2: float
) -> tuple[float, float, float]:
    """Return w, z and n after a gradient that is not 0."""
    if lr < _LEAST_RATE:
        return w, z, n
    grown = n + g * g
    root: float = np.sqrt(grown)
    z = z + (g - (root - np.sqrt(n)) / lr * w)
    far = abs(z) - l1
    pulled = (-far if z > 0 else far) / ((beta + root) / lr + l2)
    return (w * 0 if far <= 0 else pulled), z, grown


@njit(cache=True, nogil=True, error_model="numpy")
def ftrl_apply_rows(
    params: Array, rows: Array, grad: Array, z: Array, n: Array,
    lr: float, weight_decay: float, beta: float, l1: float, l2: float,
) -> None:  # fmt: skip
    """All (n_rows, width) but rows, (m,), and grad, (m, width). params, z and n may be live: each element is loaded
    once and stored once."""
    for s in range(rows.size):
        row = rows[s]
        for u in range(params.shape[1]):
            w = params[row, u]
            g = grad[s, u] + weight_decay * w
            if g != 0:
                params[row, u], z[row, u], n[row, u] = ftrl_step(w, g, z[row, u], n[row, u], lr, beta, l1, l2)
