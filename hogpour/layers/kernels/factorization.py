"""A factorisation machine on sparse examples: the score of one, by way of the sums of its factors, and its gradient.

A feature's row is its weight and then its factors, side by side: one run of memory for each non-zero. All arrays are
flat. Whoever computes on one example at a time, as ``algos/sweeps`` do, calls the same functions: to the same bits.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import njit
from hogpour.layers.kernels.simd import WIDTH, simd_load, simd_store, simd_sum, simd_zeros
from hogpour.layers.kernels.sparse import forget, place_of
from hogpour.layers.kernels.tile import LANES, prefetch

__all__ = ["ask_for_row", "factor_slope", "fm_d_weight", "fm_forward", "fm_score"]

_AHEAD = 2
"""Examples ahead whose rows are asked for: their features are known, which only then are no misses themselves."""


@njit(inline="always")
def ask_for_row(weight, at, width):
    """Ask for the row that begins at element ``at``."""
    for c in range(at, at + width, LANES):
        prefetch(weight, c)
    prefetch(weight, at + width - 1)


@njit(inline="always")
def fm_score(weight, width, features, values, sums, begin):
    """Return Σ_i w_i x_i + ½ Σ_f ((Σ_i v_if x_i)² - Σ_i v_if² x_i²), and leave the sum of each factor in ``sums``.

    Args:
        weight: (n_features · width,), width = 1 + factors; may be live.
        features, values: of one example; values may be (0,): they are all 1.
        sums: the factors of this example from element ``begin`` on, all of which are written.
    """
    one = weight.dtype.type(1)
    score = pairs = weight.dtype.type(0)
    for k in range(features.size):
        score += weight[np.intp(features[k]) * width] * (values[k] if values.size else one)
    whole = width - (width - 1) % WIDTH
    together = simd_zeros(weight)
    for f in range(1, whole, WIDTH):
        s = squares = simd_zeros(weight)
        for k in range(features.size):
            t = simd_load(weight, np.intp(features[k]) * width + f) * (values[k] if values.size else one)
            s = s + t
            squares = squares + t * t
        simd_store(s, sums, begin + f - 1)
        together = together + (s * s - squares)
    for f in range(whole, width):
        a = b = weight.dtype.type(0)
        for k in range(features.size):
            t_1 = weight[np.intp(features[k]) * width + f] * (values[k] if values.size else one)
            a += t_1
            b += t_1 * t_1
        sums[begin + f - 1] = a
        pairs += a * a - b
    return score + weight.dtype.type(0.5) * (simd_sum(together) + pairs)


@njit(inline="always")
def factor_slope(g, x, v, s):
    """Return the gradient of a factor v, or of some: g is that of the weight beside it, s the sum in the example."""
    return (s - v * x) * g


@njit(cache=True, nogil=True)
def fm_forward(y, sums, weight, indptr, indices, values, order, start):
    """y[k] = the score of example order[start + k], without a bias.

    Args:
        y: (batch,), and sums: (batch · factors,); all of both is written.
        weight: (n_features, 1 + factors); may be live shared memory.
    """
    width, flat = weight.shape[1], weight.reshape(weight.size)
    for k in range(y.size):
        row = order[start + k]
        if k + _AHEAD < y.size:
            soon = order[start + k + _AHEAD]
            for j in range(indptr[soon], indptr[soon + 1]):
                ask_for_row(flat, np.intp(indices[j]) * width, width)
        features = indices[indptr[row] : indptr[row + 1]]
        own = values[indptr[row] : indptr[row + 1]] if values.size else values
        y[k] = fm_score(flat, width, features, own, sums, k * (width - 1))


@njit(cache=True, nogil=True)
def fm_d_weight(d_y, sums, weight, indptr, indices, values, order, start, rows, grads, count, slots, places):
    """The gradient of ``fm_forward`` from (batch,) ``d_y``, by row: of a ``SparseGrad``."""
    width, flat, out = weight.shape[1], weight.reshape(weight.size), grads.reshape(grads.size)
    whole = width - (width - 1) % WIDTH
    forget(count, slots, places)
    found = 0
    for k in range(d_y.size):
        row, begin = order[start + k], k * (width - 1) - 1
        for j in range(indptr[row], indptr[row + 1]):
            x = values[j] if values.size else d_y.dtype.type(1)
            g = d_y[k] * x
            s = place_of(indices[j], found, rows, grads, slots, places)
            found = max(found, s + 1)
            at, to = np.intp(indices[j]) * width, s * width
            out[to] += g
            for f in range(1, whole, WIDTH):
                d = factor_slope(g, x, simd_load(flat, at + f), simd_load(sums, begin + f))
                simd_store(simd_load(out, to + f) + d, out, to + f)
            for f in range(whole, width):
                out[to + f] += factor_slope(g, x, flat[at + f], sums[begin + f])
    count[0] = found
