"""The live segment of a node: what its replicas share, and where in it each array lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.optim.base import Optimiser
from hogpour.layers.sequential import Network
from hogpour.machine.replica_link import link_arrays
from hogpour.shm.clocks import COUNTERS, SUMS
from hogpour.shm.control import WORDS
from hogpour.shm.layout import Layout

__all__ = ["live_layout", "optimiser_rows"]


def live_layout(
    network: Network, optimiser: Optimiser, replicas: int, pending: int, federated: bool = False
) -> Layout:
    """Lay out the live segment of a node.

    Args:
        pending: number of unfinished blocks that a resumed run begins with.
        federated: whether replicas push what they accrue.
    """
    n = network.spec.n
    rows = [
        (f"{row.name}.{replica}", (n,), np.float32)
        for row in optimiser.state
        for replica in (range(replicas) if row.per == "replica" else ["node"])
    ]
    return Layout.pack(
        [
            ("control", WORDS, np.int64),
            ("counters", (replicas, COUNTERS), np.int64),
            ("sums", (replicas, SUMS), np.float64),
            ("pending", (pending, 2), np.int64),
            ("params", (n,), np.float32),
            *rows,
            *(link_arrays(n, replicas) if federated else ()),
        ]
    )


def optimiser_rows(
    arrays: Mapping[str, npt.NDArray[Any]], optimiser: Optimiser, replica: int
) -> tuple[npt.NDArray[Any], ...]:
    """Return the optimiser rows that a replica uses, in the order of ``optimiser.state``."""
    return tuple(arrays[f"{row.name}.{replica if row.per == 'replica' else 'node'}"] for row in optimiser.state)
