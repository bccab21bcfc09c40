"""SGD: w -= lr · (g + weight_decay · w). The rule of Hogwild! (Niu et al. 2011, Algorithm 1) on dense gradients."""

from __future__ import annotations

from dataclasses import dataclass

from numba import njit

from hogpour.algos.optim.base import Optimiser, check_range

__all__ = ["Sgd"]


@dataclass(frozen=True, slots=True)
class Sgd(Optimiser):
    """Plain stochastic gradient descent; remembers nothing."""

    lr: float
    """Learning rate, above 0."""
    weight_decay: float = 0.0
    """L2 regularisation: this times w is added to the gradient."""

    def __post_init__(self) -> None:
        check_range(self, lr=(1e-30, 1e30), weight_decay=(0, 1e30))

    def apply(self, params, grad, state, *, lr_scale, t):  # type: ignore[no-untyped-def]
        real = params.dtype.type  # a float64 scalar would make the kernel compute in float64
        sgd_apply(params, grad, real(self.lr * lr_scale), real(self.weight_decay))


@njit(cache=True, nogil=True)
def sgd_apply(params, grad, lr, weight_decay):  # type: ignore[no-untyped-def]
    """params may be live shared memory: each element is loaded once and stored once."""
    for k in range(params.size):
        w = params[k]
        params[k] = w - lr * (grad[k] + weight_decay * w)
