"""A table's x as a network takes it: finite, bytes as 0..1, scaled in float64, rounded to float32 at the end.

float32 has 24 bits: rounded before it is scaled, a column of timestamps would be one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from warnings import warn

import numpy as np
import numpy.typing as npt

from hogpour.core.csr import Csr
from hogpour.core.errors import DataError, DataWarning
from hogpour.data.formats.base import Table, need_memory
from hogpour.data.scaling import LARGEST, Scaling, extent, is_finite

__all__ = ["Rows", "are_bytes", "check_finite", "warn_of_rounding"]

_PIECE_ELEMENTS = 1 << 20
"""Rows are taken in pieces of about so many elements: the float64 temporary stays at 8 MB however large the set."""
_FEWEST_STEPS = 256
"""A feature of which float32 can tell fewer values apart deserves a word."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some examples of a table, in pieces; as often as somebody walks through them."""

    source: str
    """For messages."""
    table: Table
    which: npt.NDArray[np.int64]
    """The rows, in this order."""
    divide: bool
    """Whether the numbers are bytes, and are divided by 255."""
    exact: bool
    """Whether that is done in float64, as they will be scaled."""

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        x = self.table.x
        step = max(1, _PIECE_ELEMENTS // prod(x.shape[1:]))
        for start in range(0, len(self.which), step):
            which = self.which[start : start + step]
            piece = x.take(which).toarray() if isinstance(x, Csr) else x[which]
            # Rounded once or twice, a quotient of such small integers is the same float32.
            yield np.divide(piece, 255, dtype=np.float64 if self.exact else np.float32) if self.divide else piece

    def scaled(self, scaling: Scaling) -> npt.NDArray[np.float32]:
        """Return them as new (n, *shape) float32, C-contiguous, finite."""
        shape = (len(self.which), *self.table.x.shape[1:])
        need_memory(Path(self.source), f"{' x '.join(map(str, shape))} float32 values", 4 * prod(shape))
        x, start = np.empty(shape, np.float32), 0
        for piece in self:
            scaling.apply(piece, out=x[start : start + len(piece)])
            start += len(piece)
        if scaling.kind != "none" and x.size and not is_finite(x):
            raise DataError(
                f"{self.source}: values lie so far from those of the training set that scaling makes them infinite"
            )
        return x


def are_bytes(source: str, x: Any, trained_on_bytes: bool | None) -> bool:
    """Return whether examples for a training set's model are bytes, which become 0..1.

    Args:
        x: an array, or sparse rows.
        trained_on_bytes: None: not known, as the model file is an older one.

    Raises:
        DataError: they are on another scale than the training set.
    """
    values = x.values if isinstance(x, Csr) else x
    if trained_on_bytes is None:
        return bool(values.dtype == np.uint8)
    if not trained_on_bytes:
        if values.dtype == np.uint8:
            raise DataError(f"{source}: x holds bytes (uint8), which would become 0..1; the training set did not: "
                            "give numbers as they were there, such as x.astype(float) or x / 255")  # fmt: skip
        return False
    if values.dtype == np.uint8 or not values.size:
        return True
    low, high = values.min(initial=0), values.max(initial=0)
    if values.dtype.kind in "iu" and low >= 0 and high <= 255:
        warn(f"{source}: x holds {values.dtype.name}; the training set held bytes, so it is divided by 255 as those "
             "were", DataWarning, stacklevel=2)  # fmt: skip
        return True
    if low < 0 or high > 1:
        raise DataError(f"{source}: x holds {values.dtype.name} of {low:g} to {high:g}; the training set held bytes, "
                        "which became 0..1: give bytes (uint8), or divide by 255")  # fmt: skip
    return False


def check_finite(source: str, table: Table) -> None:
    """Refuse NaN, infinity and what is infinite as float32."""
    values = table.x.values if isinstance(table.x, Csr) else table.x
    if values.dtype.kind != "f" or not values.size or is_finite(values):
        return
    bad = ~(np.abs(values) <= LARGEST)
    first = int(np.flatnonzero(bad)[0])
    if isinstance(table.x, Csr):
        row, place = int(np.searchsorted(table.x.indptr, first, side="right")) - 1, [int(table.x.indices[first])]
    else:
        row, *place = (int(i) for i in np.unravel_index(first, values.shape))
    if table.columns:
        where = table.where(row, table.columns[place[0]])
    elif table.line is not None:
        where = f"{table.where(row)}, index {place[0] + (table.first_index or 0)}"
    else:
        where = f"row {row}, column {', '.join(map(str, place))}, counted from 0"
    n_bad = int(bad.sum())
    raise DataError(
        f"{source}: x holds {n_bad} {'value' if n_bad == 1 else 'values'} not finite in float32, "
        f"the first is {values.flat[first]} at {where}"
    )


def warn_of_rounding(
    source: str, x: Any, pieces: Iterable[npt.NDArray[Any]], names: Sequence[str], what: str, todo: str
) -> None:
    """Warn of a column so far from 0 that its values fall together in float32.

    Args:
        x: the array in question; of types that float32 holds there is nothing to say, nor of sparse ones.
        pieces: the same, row by row.
        names, what: names of the columns, if they have any; and what stands before a name or a number.
        todo: what to do about it.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "iuf" or x.dtype.itemsize < 4 or x.dtype == np.float32:
        return
    low, high = (end.ravel() for end in extent(pieces))
    step = np.spacing(np.maximum(np.abs(low), np.abs(high)).astype(np.float32))
    coarse = np.flatnonzero((high > low) & (high - low < _FEWEST_STEPS * step))
    if coarse.size:
        k = int(coarse[0])
        name = repr(names[k]) if names else f"{k}, counted from 0,"
        more = f"; as do {coarse.size - 1} others" if coarse.size > 1 else ""
        warn(f"{source}: {what} {name} lies between {low[k]:.17g} and {high[k]:.17g}, where float32 has steps "
             f"of {step[k]:g}: {todo}{more}", DataWarning, stacklevel=2)  # fmt: skip
