"""Portion: the gradients of a block's batches are summed, each as large as its part of all examples, and sent as one.

The exchange of Sandblaster's replicas (Dean et al. 2012, appendix, algorithm 1.2). Nothing is applied where it was
computed; parameters come with the evaluation that a block is of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange, ReplicaView, Traffic
from hogpour.core.kernels.vector import vector_add, vector_copy, vector_scale

__all__ = ["Portion"]

_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Portion(Exchange):
    """One sum for each block."""

    traffic: ClassVar[Traffic] = Traffic.SUMMED
    n_push = _NEVER
    n_fetch = _NEVER

    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        assert view.accrued is not None
        if view.n_accrued:
            vector_add(view.accrued, grad, np.float32(view.share))
        else:
            vector_scale(view.accrued, grad, np.float32(view.share))

    def on_params(self, params: npt.NDArray[Any], fetched: npt.NDArray[Any]) -> None:
        vector_copy(params, fetched)
