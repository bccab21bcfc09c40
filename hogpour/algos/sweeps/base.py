"""The contract of sweeps: one compiled loop that steps on the live vector after each example of a block.

At batch 1 a step on a sparse example takes less time than one call of Python. A network that is a single sparse layer,
with a loss and a rule that are known here, is trained by such a loop: to the bits of the steps that it replaces
(``Replica.compute`` and ``use``, one replica), which the tests compare.

A file of this folder is named as its layer is, and its ``sweep`` returns the loop for a loss and a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import ReplicaView
from hogpour.algos.optim.base import Optimiser
from hogpour.core import registry
from hogpour.core.csr import Csr
from hogpour.layers.base import Layer, Loss
from hogpour.layers.sequential import Network

__all__ = ["Parts", "Sweep", "find", "no_heads"]

Parts = tuple[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], ...]
"""Of each live vector: a replica's own copy of its beginning, what that was when it was last merged, and the shared
one; see ``shm/head.py``. All of size 0 where there is no such copy."""

Kernel = Callable[..., tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A loop, bound to a rule."""

    kernel: Kernel
    rates: Callable[[float], tuple[float, ...]]
    """Factor of the schedule → the numbers of the rule."""

    def run(
        self, examples: Csr, targets: npt.NDArray[Any], order: npt.NDArray[np.int64], dense: ReplicaView,
        by_row: ReplicaView, heads: Parts, merge_every: int,
    ) -> tuple[float, int]:  # fmt: skip
        """Step once for each example of ``order``, in that order.

        Args:
            examples: read only.
            targets: (n,) labels or (n, 1) values, read only.
            order: numbers of examples.
            dense, by_row: views of the network's dense tensors, and of its tensor by row.
            heads: one for each live vector: the parameters, and each row of the optimiser.
            merge_every: examples between two merges of them; 0: there are none.

        Returns:
            Sum of the losses, each before its own step, and number of examples predicted right.
        """
        rates = tuple(map(np.float32, self.rates(by_row.lr_scale)))
        data = examples.indptr, examples.indices, examples.values, targets, order
        row_states = tuple(state.reshape(-1) for state in by_row.state)
        live = by_row.params.reshape(-1), by_row.params.shape[1], dense.params, row_states, dense.state
        return self.kernel(data, live, rates, heads, merge_every)



def no_heads(vectors: int) -> Parts:
    """Return what stands for heads where there are none: the compiled loop is one for both."""
    nothing = np.empty(0, np.float32)
    return ((nothing, nothing, nothing),) * vectors


def find(network: Network, loss: Loss, rule: Optimiser) -> Sweep | None:
    """Return the sweep for a network, where there is one."""
    if len(network.stages) != 1 or not network.sparse_input or not rule.by_rows:
        return None
    layer: Layer = network.stages[0].layer
    module = f"{__package__}.{registry.describe(layer)['name']}"
    if not module.isascii() or find_spec(module) is None:
        return None
    found: Sweep | None = import_module(module).sweep(layer, loss, rule)
    return found
