"""How a replica hands a gradient with tensors by row to its exchange: in parts, so that a step costs what it touches.

An accrual buffer (``shm/accrual.py``) is as long as the model. What of it a window touched is remembered here, and made
0 again when the buffer's next window begins: so that rows can be added to it, and nothing else of it is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Exchange, ReplicaView
from hogpour.core.sparse_grad import SparseGrad
from hogpour.core.spec import Spec, Tensor

__all__ = ["RowGradients"]

Rows = npt.NDArray[np.uint32]


class RowGradients:
    """The views of a network's parts.

    Args:
        exchange: takes gradients by row.
        view: of the whole network; kept up to date by its owner, before each call.
        spec: has tensors by row.

    Attributes:
        dense: view of the tensors that are not by row.
        parts: of those by row, each of two axes.
    """

    def __init__(self, exchange: Exchange, view: ReplicaView, spec: Spec) -> None:
        self._exchange, self._whole, self._n_dense, self._tensors = exchange, view, spec.n_dense, spec.by_row
        own, rule = slice(spec.n_dense), view.optimiser
        self.dense = ReplicaView(view.params[own], tuple(row[own] for row in view.state), rule)
        self.parts = [
            ReplicaView(tensor.view(view.params), tuple(map(tensor.view, view.state)), rule) for tensor in spec.by_row
        ]
        # Of each buffer, by its identity: what the newest window touched of each tensor. A buffer that is not here
        # holds what a predecessor touched, nobody knows where.
        self._touched: dict[int, list[tuple[Tensor, Rows]]] = {}

    def on_gradient(self, grad: npt.NDArray[Any], by_row: Iterable[tuple[Tensor, SparseGrad]]) -> None:
        """Hand a gradient over.

        Args:
            grad: (n,) of which the part of dense tensors is read.
            by_row: of the tensors by row.
        """
        whole = self._whole
        if whole.accrued is not None and not whole.n_accrued:
            self._begin_window(whole.accrued)
        self._follow(self.dense, None if whole.accrued is None else whole.accrued[: self._n_dense])
        self._exchange.on_gradient(self.dense, grad[: self._n_dense])
        touched = self._touched.get(id(whole.accrued))
        for part, (tensor, sparse) in zip(self.parts, by_row):
            rows, values = sparse.touched
            self._follow(part, None if whole.accrued is None else tensor.view(whole.accrued))
            self._exchange.on_rows(part, rows, values)
            if touched is not None:
                touched.append((tensor, rows.copy()))

    def _follow(self, part: ReplicaView, accrued: npt.NDArray[Any] | None) -> None:
        whole = self._whole
        part.t, part.lr_scale, part.share = whole.t, whole.lr_scale, whole.share
        part.accrued, part.n_accrued = accrued, whole.n_accrued

    def _begin_window(self, buffer: npt.NDArray[Any]) -> None:
        touched = self._touched.get(id(buffer))
        if touched is None:
            buffer[self._n_dense :] = 0
        else:
            for tensor, rows in touched:
                tensor.view(buffer)[rows] = 0
        self._touched[id(buffer)] = []
