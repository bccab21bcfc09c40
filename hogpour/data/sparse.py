"""A table's x as a sparse layer takes it: features called by their frequency, values scaled and rounded to float32.

Frequent features get low numbers: the rows of weights that every example touches then lie side by side, where a cache
keeps them, replicas hold a copy (``shm/head.py``), and the gaps between a gradient's rows are small on the wire. The
encoding keeps the order; files, and whoever predicts, speak the file's own numbers.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import ConfigError, DataError
from hogpour.data.scaling import Kind, Scaling, is_finite

__all__ = ["by_frequency", "encoded_rows", "fit_scaling", "rows_of"]


def rows_of(x: npt.NDArray[Any] | Csr, which: npt.NDArray[np.int64], divide: bool) -> Csr:
    """Return some examples of a table as sparse rows, under the file's numbers; new.

    Args:
        x: sparse, or (n, ...) numbers, of which each example is made flat.
        divide: whether they are bytes, which become 0..1.
    """
    if isinstance(x, Csr):
        rows = x.take(which)
    else:
        rows = Csr.from_dense(_floats(x[which]).reshape(len(which), prod(x.shape[1:])))  # -1 is unknown of nothing
    if divide:
        values = rows.values / 255 if rows.values.size else np.full(rows.nnz, 1 / 255)
        return Csr(rows.indptr, rows.indices, values, rows.n_features)
    return rows


def fit_scaling(source: str, kind: Kind, rows: Csr) -> Scaling:
    """Take the statistics of a training set, whose zeros must stay what they are.

    Raises:
        ConfigError: zeros would become another number.
    """
    if kind == "none":
        return Scaling.none()
    if kind == "standard":
        raise ConfigError(f'{source}: data.scale = "standard" moves zeros to another value, and sparse examples would '
                          'be sparse no longer; use "unit" or "none"')  # fmt: skip
    highest = np.zeros(rows.n_features)
    values = rows.values if rows.values.size else np.ones(rows.nnz)
    if values.min(initial=0) < 0:
        feature = int(rows.indices[int(values.argmin())])
        raise ConfigError(f'{source}: data.scale = "unit" moves zeros to another value where a feature has values '
                          f'below 0, as feature {feature}, counted from 0, has ({values.min():g}); use "none"'
                          )  # fmt: skip
    np.maximum.at(highest, rows.indices, values)
    return Scaling(kind, np.zeros(rows.n_features), np.where(highest > 0, 1 / np.where(highest > 0, highest, 1), 0.0))


def by_frequency(rows: Csr) -> npt.NDArray[np.uint32]:
    """Return the features of a training set, those with most non-zeros first: (n_features,) uint32, a permutation."""
    counts = np.bincount(rows.indices, minlength=rows.n_features)
    held = np.flatnonzero(counts)  # sorted alone: of 2^24 numbers of hashed names few occur
    by_count = held[np.argsort(-counts[held], kind="stable")]
    return np.concatenate([by_count, np.flatnonzero(counts == 0)]).astype(np.uint32)


def encoded_rows(source: str, rows: Csr, scaling: Scaling, order: npt.NDArray[np.uint32]) -> Csr:
    """Return the rows that a network takes, float32 and finite; without values where all are 1. Each keeps the order
    of the file's numbers: where an example has a feature of each field, its fields stay in their order.

    Args:
        rows: under the file's numbers.
        scaling: from ``fit_scaling``.
        order: from ``by_frequency``.

    Raises:
        DataError: a value is not finite when it is scaled.
    """
    values = rows.values
    if scaling.kind != "none":
        values = (values if values.size else 1.0) * scaling.factor[rows.indices]
    if values.size and (values == 1).all():
        values = values[:0]
    if values.size and not is_finite(values):
        raise DataError(f"{source}: values lie so far from those of the training set that scaling makes them infinite")
    place = np.empty(len(order), np.uint32)
    place[order] = np.arange(len(order), dtype=np.uint32)
    return Csr(rows.indptr, place[rows.indices], values.astype(np.float32), rows.n_features)


def _floats(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return x if x.dtype.kind == "f" else x.astype(np.float64)
