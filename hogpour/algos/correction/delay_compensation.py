"""Delay compensation: a first-order guess of what a late gradient would be at the parameters of now.

Zheng et al., "Asynchronous Stochastic Gradient Descent with Delay Compensation", ICML 2017, equation 10:

    w ← w - η (g + λ · g ⊙ g ⊙ (w - w_bak))

w_bak are the parameters that the gradient was computed on; g ⊙ g stands for the diagonal of the Hessian, to which it
is equal in expectation where the model is as likely as the data. This is DC-ASGD-c, whose λ is constant;
``adaptive_compensation.py`` has DC-ASGD-a.

What the paper leaves open, and what we do:

- *w_bak* is that of the fetch whose clock the push names, not of the node's newest fetch: a node may fetch while
  another of its replicas still computes.
- *An unknown w_bak* leaves the gradient as it is: the shard has moved to another server meanwhile, or the node, which
  has many replicas, has fetched too often since (``server/fetch_history.py``).
- *Other optimisers.* The amended gradient is given to any of them; the paper has plain SGD only.
- *Accrued gradients* are refused (``schemes/base.py``): they are of several parameters, local steps among them.
- *Overflow.* Above |g| = 1.8e19 the square is infinite in float32, and the step with it: such a run has diverged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hogpour.algos.correction.base import Correction, Late
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Nonnegative

__all__ = ["DelayCompensation"]


@dataclass(frozen=True, slots=True)
class DelayCompensation(Correction):
    """DC-ASGD-c. λ = 0, or no delay, is plain asynchronous SGD, bit for bit."""

    amends: ClassVar[bool] = True

    strength: Nonnegative = 0.04
    """λ; 0.04 for CIFAR-10 in the paper."""

    def apply(self, optimiser: Optimiser, late: Late) -> None:
        if late.fetched is None or not self.strength:
            Correction.apply(self, optimiser, late)
            return
        real = late.params.dtype.type
        strength = real(self.strength)
        if type(optimiser) is Sgd and not optimiser.weight_decay:  # in one pass: 4 vectors of traffic instead of 7
            compensated_sgd(late.params, late.grad, late.fetched, strength, real(optimiser.lr * late.lr_scale))
            return
        assert late.scratch is not None
        compensate(late.params, late.grad, late.fetched, strength, late.scratch)
        optimiser.apply(late.params, late.scratch, late.state, lr_scale=late.lr_scale, t=late.t)


@njit(cache=True, nogil=True)
def compensate(params: Array, grad: Array, fetched: Array, strength: float, amended: Array) -> None:
    """amended = g + λ g² (w - w_bak)."""
    for k in range(params.size):
        g = grad[k]
        amended[k] = g + strength * g * g * (params[k] - fetched[k])


@njit(cache=True, nogil=True)
def compensated_sgd(params: Array, grad: Array, fetched: Array, strength: float, lr: float) -> None:
    """``compensate`` and ``sgd_apply``, to the same bits."""
    for k in range(params.size):
        w, g = params[k], grad[k]
        params[k] = w - lr * (g + strength * g * g * (w - fetched[k]))
