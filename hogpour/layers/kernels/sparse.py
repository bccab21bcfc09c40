"""Products of sparse rows with a matrix that has a row for each feature, and the gradient of that, by row.

A non-zero costs a read of one row of weights; nothing here is as long as the model. Whoever computes on one example at
a time, as ``layers/sweeps`` do, calls the same ``row_dot``: to the same bits.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import njit

__all__ = ["divide_by_weight", "embed", "embed_d_weight", "forget", "place_of", "row_dot", "sparse_d_weight",
           "sparse_product"]  # fmt: skip

_HASH = np.uint32(2654435769)
"""2³² divided by the golden ratio: neighbouring rows, which frequent features are, come far apart (Knuth, 6.4)."""


@njit(inline="always")
def row_dot(weights, features, values):
    """Return Σ weights[features[k]] · values[k] in four partial sums; values may be (0,): they are all 1."""
    a = b = c = d = weights.dtype.type(0)
    n = features.size
    whole = n - n % 4
    if values.size:
        for k in range(0, whole, 4):
            a += weights[features[k]] * values[k]
            b += weights[features[k + 1]] * values[k + 1]
            c += weights[features[k + 2]] * values[k + 2]
            d += weights[features[k + 3]] * values[k + 3]
        for k in range(whole, n):
            a += weights[features[k]] * values[k]
    else:
        for k in range(0, whole, 4):
            a += weights[features[k]]
            b += weights[features[k + 1]]
            c += weights[features[k + 2]]
            d += weights[features[k + 3]]
        for k in range(whole, n):
            a += weights[features[k]]
    return (a + b) + (c + d)


@njit(cache=True, nogil=True)
def sparse_product(turned, weight, indptr, indices, values, order, start):
    """turned[k, u] = Σ over the non-zeros of example order[start + k] of value · weight[feature, u].

    Args:
        weight: (n_features, units); may be live shared memory.
        indptr, indices, values: of a ``Csr``.
        order: (at least start + batch,) int64, numbers of examples.
        turned: (batch, units), all of it is written.
    """
    batch, units = turned.shape
    flat = weight.reshape(weight.size)
    for k in range(batch):
        row = order[start + k]
        features = indices[indptr[row] : indptr[row + 1]]
        own = values[indptr[row] : indptr[row + 1]] if values.size else values
        if units == 1:
            turned[k, 0] = row_dot(flat, features, own)
            continue
        out = turned[k]
        out[:] = 0
        for j in range(features.size):
            line = flat[np.intp(features[j]) * units : (np.intp(features[j]) + 1) * units]
            if own.size:
                for u in range(units):
                    out[u] += line[u] * own[j]
            else:
                for u in range(units):
                    out[u] += line[u]


@njit(cache=True, nogil=True)
def divide_by_weight(turned, indptr, indices, values, order, start):
    """Divide turned[k], (batch, units), by Σ |value| of example order[start + k]; without one it is left alone."""
    for k in range(turned.shape[0]):
        row = order[start + k]
        weight = turned.dtype.type(indptr[row + 1] - indptr[row])
        if values.size:
            weight = turned.dtype.type(0)
            for j in range(indptr[row], indptr[row + 1]):
                weight += abs(values[j])
        if weight != 0:
            for u in range(turned.shape[1]):
                turned[k, u] /= weight


@njit(inline="always")
def forget(count, slots, places):
    """Empty the table of a ``SparseGrad`` of what the last batch put there."""
    for s in range(count[0]):
        slots[places[s]] = -1


@njit(inline="always")
def place_of(feature, found, rows, grads, slots, places):
    """Return the place of a feature among the rows of a ``SparseGrad``; ``found``: it is new, and its gradient 0."""
    mask = np.uint32(slots.size - 1)
    place = np.uint32(feature * _HASH) & mask
    while slots[place] >= 0 and rows[slots[place]] != feature:
        place = np.uint32(place + np.uint32(1)) & mask
    s = np.intp(slots[place])
    if s < 0:
        s = found
        slots[place], places[s], rows[s] = s, place, feature
        for u in range(grads.shape[1]):
            grads[s, u] = 0
    return s


@njit(cache=True, nogil=True)
def sparse_d_weight(d_turned, indptr, indices, values, order, start, rows, grads, count, slots, places):
    """The gradient of ``sparse_product``: grads[s] of row rows[s] is the sum over the batch, in its order.

    Args:
        d_turned: (batch, units).
        rows, grads, count, slots, places: of a ``SparseGrad``.
    """
    batch, units = d_turned.shape
    forget(count, slots, places)
    found = 0
    for k in range(batch):
        row = order[start + k]
        for j in range(indptr[row], indptr[row + 1]):
            s = place_of(indices[j], found, rows, grads, slots, places)
            found = max(found, s + 1)
            if values.size:
                for u in range(units):
                    grads[s, u] += d_turned[k, u] * values[j]
            else:
                for u in range(units):
                    grads[s, u] += d_turned[k, u]
    count[0] = found


@njit(cache=True, nogil=True)
def embed(turned, weight, indptr, indices, values, order, start):
    """turned[k, j·units + u] = value · weight[feature, u] of the j-th non-zero of example order[start + k]; 0 where it
    has fewer, and those that it has more are left out.

    Args:
        weight: (n_features, units); may be live shared memory.
        turned: (batch, fields · units), all of it is written.
    """
    batch, width = turned.shape
    units = weight.shape[1]
    for k in range(batch):
        begin, end = indptr[order[start + k]], indptr[order[start + k] + 1]
        for j in range(min(width // units, end - begin)):
            value = values[begin + j] if values.size else turned.dtype.type(1)
            for u in range(units):
                turned[k, j * units + u] = weight[indices[begin + j], u] * value
        turned[k, (end - begin) * units :] = 0


@njit(cache=True, nogil=True)
def embed_d_weight(d_turned, indptr, indices, values, order, start, rows, grads, count, slots, places):
    """The gradient of ``embed``, from (batch, fields · units), as that of ``sparse_d_weight``."""
    batch, width = d_turned.shape
    units = grads.shape[1]
    forget(count, slots, places)
    found = 0
    for k in range(batch):
        begin, end = indptr[order[start + k]], indptr[order[start + k] + 1]
        for j in range(min(width // units, end - begin)):
            value = values[begin + j] if values.size else d_turned.dtype.type(1)
            s = place_of(indices[begin + j], found, rows, grads, slots, places)
            found = max(found, s + 1)
            for u in range(units):
                grads[s, u] += d_turned[k, j * units + u] * value
    count[0] = found
