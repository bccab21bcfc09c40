"""Gradient: each gradient is pushed as it is, and the next one is computed on parameters fetched after that push.

The exchange of plain asynchronous SGD, where a worker pulls, computes and pushes, and takes no step of its own (Zheng
et al. 2017; Zhang et al. 2016: accruing "generally leads to a worse model"). ``accrue`` with n_push = n_fetch = 1 sends
the same, and also steps locally, which the fetch undoes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.accrue import accrue_add, accrue_rows
from hogpour.algos.exchange.base import Exchange, ReplicaView, Traffic
from hogpour.core.kernels.vector import vector_copy

__all__ = ["Gradient"]


@dataclass(frozen=True, slots=True)
class Gradient(Exchange):
    """One gradient, one push, one fetch."""

    traffic: ClassVar[Traffic] = Traffic.ACCRUED
    by_rows: ClassVar[bool] = True
    n_push = 1
    n_fetch = 1

    def on_gradient(self, view: ReplicaView, grad: npt.NDArray[Any]) -> None:
        assert view.accrued is not None
        if view.n_accrued:  # of a predecessor that was killed before it sealed
            accrue_add(view.accrued, grad)
        else:
            view.accrued[...] = grad

    def on_rows(self, view: ReplicaView, rows: npt.NDArray[np.uint32], grad: npt.NDArray[Any]) -> None:
        assert view.accrued is not None
        accrue_rows(view.accrued, rows, grad)

    def on_params(self, params: npt.NDArray[Any], fetched: npt.NDArray[Any]) -> None:
        vector_copy(params, fetched)
