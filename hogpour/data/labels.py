"""Labels: known by their names, the text of the file, where numbers are written as integers ("1" for 1.0)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import DataError
from hogpour.data.formats.base import Table, Targets
from hogpour.data.scaling import is_finite

__all__ = ["distinct", "encode"]


def encode(
    source: str, table: Table, targets: Targets, label_names: tuple[str, ...], known_by: str = ""
) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
    """Return y as labels (n,) int64 or as values (n, n_values) float32."""
    assert table.y is not None
    if targets == "values":
        return _encode_values(source, table.y)
    names, codes = distinct(source, table)
    labels = {name: label for label, name in enumerate(label_names)}
    if unknown := [name for name in names if name not in labels]:
        row = int(np.flatnonzero(codes == names.index(unknown[0]))[0])
        known = ", ".join(label_names[:20]) + (", ..." if len(label_names) > 20 else "")
        raise DataError(
            f"{source}: {_at(table, row)}: the label {unknown[0]} is not known to {known_by}; known: {known}"
        )
    return np.array([labels[name] for name in names], np.int64)[codes]


def distinct(source: str, table: Table) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the distinct names in y, sorted, and for each example its place among them."""
    y = table.y
    assert y is not None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(f"{source}: y has shape {y.shape}, expected one label for each example")
    found, codes = np.unique(y, return_inverse=True)
    try:
        numbers = found.astype(np.float64)
    except ValueError:
        return [str(name) for name in found], codes
    whole = np.isfinite(numbers) & (numbers == np.rint(numbers)) & (np.abs(numbers) < 2**53)
    if not whole.all():
        row = int(np.flatnonzero(~whole[codes])[0])
        raise DataError(
            f"{source}: {_at(table, row)}: the label is {y[row]}, expected an integer; "
            "to predict real values, use a loss for values"
        )
    # Text such as "1" and "1.0" is one label, and 10 comes after 9.
    distinct, again = np.unique(numbers.astype(np.int64), return_inverse=True)
    return [str(number) for number in distinct], again[codes]


def _encode_values(source: str, y: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if y.ndim > 2 or y.dtype.kind == "U":
        what = "text" if y.dtype.kind == "U" else f"shape {y.shape}"
        raise DataError(f"{source}: y has {what}, expected one or more numbers for each example")
    with np.errstate(over="ignore"):
        values = y.astype(np.float32).reshape(len(y), -1)
    if not is_finite(values):
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataError(f"{source}: y of row {row}, counted from 0, is not finite in float32")
    return values


def _at(table: Table, row: int) -> str:
    return f"line {table.lines[row]}" if table.lines is not None else f"row {row}, counted from 0"
