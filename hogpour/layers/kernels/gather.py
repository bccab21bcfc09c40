"""From examples, one a row, to a batch with the examples last: the transposing copy at the door of a network."""

from __future__ import annotations

from hogpour.core.kernels.jit import njit
from hogpour.layers.kernels.tile import LANES, tile_transpose

__all__ = ["gather_labels", "gather_rows"]

@njit(cache=True, nogil=True)
def gather_rows(rows, order, start, out):
    """out[i, k] = rows[order[start + k], i].

    Args:
        rows: (n, features) float32, C-contiguous, read only.
        order: (at least start + batch,) int64, numbers of rows.
        out: (features, batch), all of it is written.
    """
    features, batch = out.shape
    rows_, out_, k = rows.reshape(rows.size), out.reshape(out.size), 0
    whole = features - features % LANES
    while k + LANES <= batch:
        for i in range(0, whole, LANES):
            tile_transpose(rows_, order, start + k, features, i, out_, i * batch + k, batch)
        for i in range(whole, features):
            for b in range(k, k + LANES):
                out[i, b] = rows[order[start + b], i]
        k += LANES
    for b in range(k, batch):
        row = rows[order[start + b]]
        for i in range(features):
            out[i, b] = row[i]


@njit(cache=True, nogil=True)
def gather_labels(labels, order, start, out):
    """out[k] = labels[order[start + k]]; out is (batch,) int64."""
    for k in range(out.size):
        out[k] = labels[order[start + k]]
