"""What a peer is given to train: one class for those of ``bench hogwild`` and ``bench downpour``, one for those of
``bench sparse``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rows", "SparseTask", "Task", "log_loss"]


@dataclass(frozen=True, slots=True)
class Task:
    """A network, data, and the settings of plain SGD."""

    network: str
    """See ``networks.units_of``."""
    x: npt.NDArray[Any]
    """(n, ...) float32, examples first; a peer gives them the shape that its network wants."""
    y: npt.NDArray[Any]
    """(n,) labels."""
    test_x: npt.NDArray[Any]
    test_y: npt.NDArray[Any]
    batch: int
    """Examples in a batch of one process."""
    lr: float
    momentum: float
    epochs: int
    """Passes over the data by all processes together."""
    seed: int
    """Of initial parameters, of the order of examples and of dropout."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Sparse examples (CSR) under the numbers that features have in the file, and their labels."""

    indptr: npt.NDArray[np.int64]
    """(n + 1,) where each row begins."""
    indices: npt.NDArray[np.int32]
    """(nnz,) features from 0 on, ascending in each row."""
    values: npt.NDArray[np.float32]
    """(nnz,), or (0,): all are 1."""
    y: npt.NDArray[np.int64]
    """(n,) 0 or 1."""


@dataclass(frozen=True, slots=True)
class SparseTask:
    """Logistic regression on two labels, an example at a time."""

    train: Rows
    test: Rows
    n_features: int
    lr: float
    epochs: int
    """Passes over the data after which the loss counts."""
    many: int
    """Passes over which time is taken: most of a second."""
    seed: int
    """Of the order of examples."""
    folder: Path
    """For files that a peer keeps from one round to the next."""


def log_loss(scores: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> float:
    """Return the mean logistic loss of (n,) scores, in float64."""
    return float(np.logaddexp(0, np.where(y == 1, -1.0, 1.0) * scores.astype(np.float64)).mean())
