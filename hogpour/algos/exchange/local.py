"""Local: train alone for a round of steps, push how far that led, go on from what all have made of it.

Local SGD, and DiLoCo (Douillard et al. 2023, Algorithm 1): from the parameters θ of a round's begin each worker takes H
steps by an inner rule, and what is pushed is Δ = θ - θ_H, to which servers apply an outer rule as to a gradient.

    for each of the steps of a round: before = parameters; step by the inner rule; accrued += before - parameters
    push accrued, fetch, and wait for the fetch

Our decisions:

- *Several replicas of a node* share the live vector, so each accrues the displacements of its own steps: their sums
  are all that happened to the vector, and nothing is in two of them. With one replica the sum is the paper's Δ. With R
  a node goes R times as far in a round as one of them, and a gate that averages over replicas keeps 1/R of that: one
  replica a node, the papers' setting, is what rates are known for.
- *State of the inner rule* stays on its node from round to round, as in DiLoCo, and is never sent.
- *The schedule* is the inner rule's. An outer rule sees displacements, which have shrunk with the inner rate already.
- *Weight decay* of the inner rule is that of each step; of the outer rule, that of each push, however many steps are in
  it: to that rule a displacement is one gradient.
- *A round that ends early*, because there are no blocks to go on with, is pushed and fetched as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy.typing as npt

from hogpour.algos.correction.base import Correction
from hogpour.algos.exchange.base import Exchange, ReplicaView, Traffic
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.kernels.vector import vector_copy
from hogpour.core.limits import Count
from hogpour.layers.kernels.tile import LANES, lanes_nonzero, lanes_subtract

__all__ = ["Local"]


@dataclass(frozen=True, slots=True)
class Local(Exchange):
    """Rounds of local steps. The job's optimiser is the outer rule; with ``steps = 1``, plain SGD inside and SGD at
    rate 1 outside it is plain SGD at the inner rate, bit for bit."""

    traffic: ClassVar[Traffic] = Traffic.ACCRUED
    waits: ClassVar[bool] = True
    scratch: ClassVar[bool] = True

    steps: Count = 1
    """Steps of a replica in a round; H in the papers."""
    inner: Optimiser = field(default_factory=lambda: Sgd(lr=0.1), metadata={"kind": "optimiser"})
    """The rule that replicas step by."""
    proportional: bool = False
    """Dynamic local updates (Liu et al. 2024): a node that is r times as slow as the fastest takes ``steps`` / r steps
    in a round, so that all rounds take about as long; at least ``steps`` / 8. Waiting counts as slowness."""

    @property
    def n_push(self) -> int:
        """Steps of a round."""
        return self.steps

    @property
    def n_fetch(self) -> int:
        """Steps of a round."""
        return self.steps

    def replica_rule(self, optimiser: Optimiser) -> Optimiser:
        return self.inner

    def push_scale(self, lr_scale: float) -> float:
        return 1.0

    def gradients(self, steps: int) -> int:
        return 1

    def refusal(self, correction: Correction) -> str:
        if not correction.amends:
            return ""
        return ("amends a gradient by the parameters that it was computed on, and what Local pushes is no gradient but "
                "the displacement of its local steps; set a correction of the rate, or none")  # fmt: skip

    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        assert view.accrued is not None
        if not view.n_accrued:
            view.accrued[...] = 0
        rule = view.optimiser
        if type(rule) is Sgd and not rule.weight_decay:
            local_step(view.params, view.accrued, grad, view.params.dtype.type(rule.lr * view.lr_scale))
            return
        assert view.scratch is not None
        before, after = view.scratch
        local_copy(view.params, before, after)
        rule.apply(after, grad, view.state, lr_scale=view.lr_scale, t=view.t)
        local_displace(view.params, view.accrued, before, after)

    def on_params(self, params: npt.NDArray[Any], fetched: npt.NDArray[Any]) -> None:
        vector_copy(params, fetched)


@njit(cache=True, nogil=True)
def local_step(params: Array, accrued: Array, grad: Array, lr: float) -> None:
    """``sgd_apply`` on params, which may be live, and accrued += lr · grad, rounded alike in both.

    Never contracted to a fused multiply-add: the product must be rounded as it is where it is pushed.
    """
    whole = grad.size - grad.size % LANES
    for line in range(0, whole, LANES):
        if lanes_nonzero(grad, line):
            lanes_subtract(params, grad, line, lr)
            lanes_subtract(accrued, grad, line, -lr)
    for k in range(whole, grad.size):
        step = lr * grad[k]
        params[k] = params[k] - step
        accrued[k] += step


@njit(cache=True, nogil=True)
def local_copy(params: Array, before: Array, after: Array) -> None:
    """Copy params, which may be live, to two places that agree: each element is loaded once."""
    for k in range(params.size):
        w = params[k]
        before[k] = w
        after[k] = w


@njit(cache=True, nogil=True)
def local_displace(params: Array, accrued: Array, before: Array, after: Array) -> None:
    """Make the same step on params, which others may have moved meanwhile, by aligned element stores; accrue it."""
    for k in range(params.size):
        step = before[k] - after[k]
        params[k] = params[k] - step
        accrued[k] += step
