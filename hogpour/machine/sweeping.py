"""Where a replica's steps are done by one compiled loop, and what of the live vectors is its own meanwhile."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.algos.exchange.base import Traffic
from hogpour.algos.sweeps.base import Sweep, find
from hogpour.core.csr import Csr
from hogpour.core.job import Job
from hogpour.layers.sequential import Network
from hogpour.shm.head import MOST_BYTES, Head
from hogpour.shm.segment import Segment

__all__ = ["MERGE_EVERY", "head_of", "hot_features", "sweep_of"]

MERGE_EVERY = 64
"""Examples between two merges of a head. Steps that were summed meanwhile are a higher rate: with 256 the loss of SGD
on IMDB was 0.41 in a spike, where it is 0.24."""

_HOT = 100
"""A feature of one example in so many is worth a place in the head."""

_PART = 1 << 16


def sweep_of(job: Job, network: Network) -> Sweep | None:
    """Return the loop that does a job's steps; None: they are done one by one."""
    alone = job.algorithm.choices().exchange.traffic is Traffic.NONE
    return find(network, job.loss, job.algorithm.replica_rule) if alone and job.batch == 1 else None


def head_of(
    job: Job, network: Network, x: npt.NDArray[Any] | Csr, live: Segment, replicas: int
) -> Head | None:
    """Map a replica's own beginning of the live vectors, where it sweeps and is not alone: as long as there are hot
    features, which are numbered by their frequency."""
    if replicas == 1 or not isinstance(x, Csr) or sweep_of(job, network) is None:
        return None
    hot = hot_features(x)
    if not hot:
        return None
    (tensor,) = network.spec.by_row
    names = ["params", *(f"{row.name}.node" for row in job.algorithm.replica_rule.state)]
    return Head(live, names, min(4 * (tensor.offset + hot * tensor.shape[1]), MOST_BYTES))


def hot_features(x: Csr) -> int:
    """Return how many features are worth a place in the head, of those that it has room for. Each replica counts them,
    so a part of the examples at a time: numpy makes int64 of what it counts."""
    counts = np.zeros(MOST_BYTES // 4, np.int64)
    for start in range(0, x.nnz, _PART):
        features = x.indices[start : start + _PART]
        counts += np.bincount(features[features < len(counts)], minlength=len(counts))
    return int((counts * _HOT > len(x)).sum())
