"""Elastic: nodes train on their own, each tied to a centre on the servers that they pull as it pulls them.

Zhang, Choromanska, LeCun, "Deep Learning with Elastic Averaging SGD", NIPS 2015, Algorithms 1 and 2, at every τ-th step
of a worker, with x of the worker and x~ of the servers:

    d = α (x - x~);   x -= d;   x~ += d;   then the step, whose gradient was taken at x before the pull

Our decisions:

- *A worker is a node.* All its replicas step on the live vector, which the client pulls, shard by shard as they land.
  Each replica asks every τ-th step of its own, so R replicas have their node pulled up to R times as often; the
  papers' setting is one.
- *The gradient at x before the pull* is computed while x~ is on its way, and used when the pull is done. The simulator
  does that exactly; a real replica reads some elements after the pull, as it reads those of other replicas' steps.
- *Momentum* (EAMSGD) is ``optim/nesterov.py``, whose parameters are the place ahead, y = x + δv: the pull is at x, from
  which y is lr · momentum · velocity away. Of several replicas, each with a velocity, the sum of these is: each step
  moves y by its own share, so x is where y would be without any of them.
- *A stale x~* does no harm to what is kept: what a node loses the servers are added, whenever that arrives. Each pull
  leaves x + x~ as it was, up to rounding; a node that is declared dead takes its part with it.
- *The model* is x~. A node that joins begins there.
- *The schedule* is that of the local steps; α is constant, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from hogpour.algos.correction.base import Correction
from hogpour.algos.exchange.base import Exchange, ReplicaView, Traffic
from hogpour.algos.optim.base import Optimiser
from hogpour.algos.optim.sgd import Sgd
from hogpour.core.kernels.jit import Array, njit
from hogpour.core.kernels.vector import vector_add, vector_copy
from hogpour.core.limits import Count, Fraction

__all__ = ["Elastic"]


@dataclass(frozen=True, slots=True)
class Elastic(Exchange):
    """The elastic pull. The job's optimiser is the rule of the local steps; servers add what they are pushed."""

    traffic: ClassVar[Traffic] = Traffic.PULLED
    waits: ClassVar[bool] = True

    alpha: Fraction = 0.225
    """How much of the way to the centre a pull goes: 0.9 / p for p nodes in the paper. With plain SGD at rate η
    on a curvature of 1 one node is stable below (4 - 2η) / (4 - η)."""
    tau: Count = 1
    """Steps of a replica between two pulls; τ in the paper."""

    @property
    def n_push(self) -> int:
        """Steps of a round."""
        return self.tau

    @property
    def n_fetch(self) -> int:
        """Steps of a round."""
        return self.tau

    def server_rule(self, optimiser: Optimiser) -> Optimiser:
        return Sgd(lr=1.0)

    def refusal(self, correction: Correction) -> str:
        return ("amends gradients, and what Elastic pushes is what a node has given away: applied in another measure "
                "it would be lost on the way; set no correction")  # fmt: skip

    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        view.optimiser.apply(view.params, grad, view.state, lr_scale=view.lr_scale, t=view.t)

    def on_params(self, params: npt.NDArray[Any], fetched: npt.NDArray[Any]) -> None:
        vector_copy(params, fetched)

    def pull(
        self,
        params: npt.NDArray[Any],
        fetched: npt.NDArray[Any],
        push: npt.NDArray[Any],
        velocities: Sequence[npt.NDArray[Any]],
        ahead: float,
    ) -> None:
        alpha = params.dtype.type(self.alpha)
        vector_copy(push, params)
        for velocity in velocities:
            vector_add(push, velocity, params.dtype.type(ahead))
        elastic_pull(params, fetched, push, alpha)


@njit(cache=True, nogil=True)
def elastic_pull(params: Array, fetched: Array, push: Array, alpha: float) -> None:
    """Move params, by aligned element stores, and say what servers subtract: what one side loses the other is given.

    Args:
        push: the place that the pull is at; then -d, as of a gradient that is applied at rate 1.
    """
    for k in range(params.size):
        d = alpha * (push[k] - fetched[k])
        push[k] = -d
        params[k] = params[k] - d
