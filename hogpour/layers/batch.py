"""From examples, one a row, to a batch with the examples last: the transposing copy at the door of a network."""

from __future__ import annotations

from numba import njit

__all__ = ["gather_labels", "gather_rows"]

_STRIP = 16  # elements of a row read at a time: one cache line of float32, so that each line is fetched once


@njit(cache=True, nogil=True)
def gather_rows(rows, order, start, out):  # type: ignore[no-untyped-def]
    """out[i, k] = rows[order[start + k], i].

    Args:
        rows: (n, features) float32, C-contiguous, read only.
        order: (at least start + batch,) int64, numbers of rows.
        out: (features, batch), all of it is written.
    """
    features, batch = out.shape
    for first in range(0, features, _STRIP):
        last = min(first + _STRIP, features)
        for k in range(batch):
            row = rows[order[start + k]]
            for i in range(first, last):
                out[i, k] = row[i]


@njit(cache=True, nogil=True)
def gather_labels(labels, order, start, out):  # type: ignore[no-untyped-def]
    """out[k] = labels[order[start + k]]; out is (batch,) int64."""
    for k in range(out.size):
        out[k] = labels[order[start + k]]
