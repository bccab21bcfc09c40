"""Kernels of a fully connected layer: register tiles over the packed rows of x, BLAS products, and the bias."""

from __future__ import annotations

import numpy as np
from numba.np.numpy_support import carray

from hogpour.core.kernels.jit import njit, prange
from hogpour.layers.kernels.threaded import Threaded, own_code
from hogpour.layers.kernels.tile import (
    LANES,
    WIDE,
    prefetch,
    stack_memory,
    tile_add,
    tile_load,
    tile_outer,
    tile_scatter,
    tile_store,
    tile_sum,
    tile_zeros,
)

__all__ = ["TILED_BATCH", "add_bias", "linear_clear", "linear_d_weight", "linear_forward", "linear_forward_copied",
           "linear_pack", "product", "put_batch_last", "sum_over_batch"]  # fmt: skip

_DEEP, _COLS = (8, 2) if WIDE else (4, 1)
"""Examples, or inputs, and vectors of output units of a tile."""
_STRIP = _COLS * LANES
"""Output units of a tile."""
_CHUNK = 128
"""Rows of a strip that are copied at a time: with their x they stay in the nearest cache."""
TILED_BATCH = 64
"""Largest batch on tiles: beyond it the rows of W no longer come from the cache and BLAS is faster."""
_STRIP_ELEMENTS, _SUMS_ELEMENTS = _CHUNK * LANES, TILED_BATCH * LANES


def product(a, b, out):
    """out = a b, by BLAS; transposed views of C-contiguous arrays are passed as they are.

    numpy's own, not a kernel's: numba takes scipy's, which is imported for it alone, 0.25 s in every process.
    """
    np.dot(a, b, out)


@njit(cache=True, nogil=True)
def put_batch_last(turned, y):
    """y[u, k] = turned[k, u], for 16 u at a time, which are one line of ``turned``."""
    units, batch = y.shape
    for start in range(0, units, 16):
        for k in range(batch):
            for u in range(start, min(start + 16, units)):
                y[u, k] = turned[k, u]


@njit(cache=True, nogil=True)
def add_bias(y, bias):
    for u in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[u, k] += bias[u]


@njit(cache=True, nogil=True)
def sum_over_batch(d_y, d_bias):
    """d_bias[u] = Σ_k d_y[u, k], ``LANES`` partial sums at a time: 12 times a plain loop, which may not reorder."""
    units, batch = d_y.shape
    y_, u = d_y.reshape(d_y.size), 0
    while u + 4 <= units:
        acc = tile_zeros(y_, 4, 1, 1)
        for k in range(0, batch, LANES):
            acc = tile_add(acc, y_, u * batch + k, batch, batch - k)
        tile_sum(acc, d_bias, u, 1)
        u += 4
    while u < units:
        acc_1 = tile_zeros(y_, 1, 1, 1)
        for k in range(0, batch, LANES):
            acc_1 = tile_add(acc_1, y_, u * batch + k, batch, batch - k)
        tile_sum(acc_1, d_bias, u, 1)
        u += 1


@njit(cache=True, nogil=True)
def linear_pack(x, rows, count, packed):
    """Find the rows of x that are not 0, write their numbers and copy them, one behind the other."""
    rows_, found = rows.reshape(rows.size), 0
    for i in range(x.shape[0]):
        some = 0
        for k in range(x.shape[1]):
            some |= x[i, k] != 0
        if some:
            rows_[found] = i
            for k in range(x.shape[1]):
                packed[found, k] = x[i, k]
            found += 1
    count[0] = found


@njit(cache=True, nogil=True)
def linear_clear(d_y, d_w, rows, count, turned):
    """Write 0 as the gradient of the rows that were not packed, and d_y with the batch first."""
    units, batch = d_y.shape
    rows_, turned_, at = rows.reshape(rows.size), turned.reshape(turned.size), 0
    for i in range(d_w.shape[0]):
        if at < count[0] and rows_[at] == i:
            at += 1
        else:
            d_w[i] = 0
    for unit in range(units):
        for k in range(batch):
            turned_[k * units + unit] = d_y[unit, k]


@njit(inline="always")
def _forward_tile(w, x, out, rows, found, units, batch, u, k, n_k, cols, masked):
    """out[k : k+n_k, u : u + cols*LANES] = Σ over the rows found."""
    acc = tile_zeros(w, n_k, cols, masked)
    for r in range(found):
        acc = tile_outer(acc, w, rows[r] * units + u, x, r * batch + k, 1, units - u)
    tile_store(acc, out, k * units + u, units, units - u)


@njit(inline="always")
def _prefetch_rows(w, rows, found, units):
    """Ask for all weights of a product.

    Lines that another replica wrote come from its cache. Asked for all at once they come side by side; met one by one
    in the product, whose rows lie far apart for a strip, each is waited for.
    """
    for r in range(found):
        for line in range(0, units, 16):
            prefetch(w, rows[r] * units + line)


@njit(cache=True, nogil=True)
def _forward_strip(w, y, rows, count, packed, turned, u):
    """Output units u to u + _STRIP, for all examples; weights are read where they are."""
    own_code()
    (units, batch), found, k = y.shape, count[0], 0
    w_, x_, rows_, out = w.reshape(w.size), packed.reshape(packed.size), rows.reshape(rows.size), turned.reshape(y.size)
    last = min(u + _STRIP, units)
    if u == 0:
        _prefetch_rows(w_, rows_, found, units)
    if u + _STRIP <= units:
        while k + _DEEP <= batch:
            _forward_tile(w_, x_, out, rows_, found, units, batch, u, k, _DEEP, _COLS, 0)
            k += _DEEP
        while k < batch:
            _forward_tile(w_, x_, out, rows_, found, units, batch, u, k, 1, _COLS, 0)
            k += 1
    else:
        for at in range(u, units, LANES):
            for k in range(0, batch - _DEEP + 1, _DEEP):
                _forward_tile(w_, x_, out, rows_, found, units, batch, at, k, _DEEP, 1, 1)
            for k in range(batch - batch % _DEEP, batch):
                _forward_tile(w_, x_, out, rows_, found, units, batch, at, k, 1, 1, 1)
    for unit in range(u, last):
        for k in range(batch):
            y[unit, k] = out[k * units + unit]


@njit(inline="always")
def _forward_copied_tile(strip, x, sums, first, last, batch, k, n_k):
    """sums[k : k+n_k] += the terms of the packed rows from first to last."""
    acc = tile_load(sums, k * LANES, LANES, 0, n_k, 1, 0)
    for r in range(first, last):
        acc = tile_outer(acc, strip, (r - first) * LANES, x, r * batch + k, 1, 0)
    tile_store(acc, sums, k * LANES, LANES, 0)


@njit(cache=True, nogil=True)
def _forward_strip_copied(w, y, rows, count, packed, u):
    """Output units u to u + LANES, for all examples; weights are first copied side by side. To the same bits.

    Small tiles read a strip once for every few examples. Its rows lie a power of two apart, often, where the nearest
    caches hold few of them.
    """
    own_code()
    (units, batch), found = y.shape, count[0]
    live = min(LANES, units - u)
    w_, x_, rows_ = w.reshape(w.size), packed.reshape(packed.size), rows.reshape(rows.size)
    strip = carray(stack_memory(w_, _STRIP_ELEMENTS), (_STRIP_ELEMENTS,))
    sums = carray(stack_memory(w_, _SUMS_ELEMENTS), (_SUMS_ELEMENTS,))
    strip[:], sums[:] = 0, 0
    if u == 0:
        _prefetch_rows(w_, rows_, found, units)
    for first in range(0, found, _CHUNK):
        last, k = min(found, first + _CHUNK), 0
        for r in range(first, last):
            at, to = rows_[r] * units + u, (r - first) * LANES
            if live == LANES:
                tile_store(tile_load(w_, at, 0, 0, 1, 1, 0), strip, to, 0, 0)
            else:  # what lies behind the last unit stays 0
                for lane in range(live):
                    strip[to + lane] = w_[at + lane]
        while k + _DEEP <= batch:
            _forward_copied_tile(strip, x_, sums, first, last, batch, k, _DEEP)
            k += _DEEP
        while k < batch:
            _forward_copied_tile(strip, x_, sums, first, last, batch, k, 1)
            k += 1
    for lane in range(live):
        for k in range(batch):
            y[u + lane, k] = sums[k * LANES + lane]


@Threaded
def linear_forward(w, y, rows, count, packed, turned):
    """An iteration of the prange owns one strip of output units."""
    for strip in prange((y.shape[0] + _STRIP - 1) // _STRIP):
        _forward_strip(w, y, rows, count, packed, turned, strip * _STRIP)


@Threaded
def linear_forward_copied(w, y, rows, count, packed, turned):
    """``linear_forward``, to the same bits, from copies of strips of w; ``turned`` is left alone."""
    for strip in prange((y.shape[0] + LANES - 1) // LANES):
        _forward_strip_copied(w, y, rows, count, packed, strip * LANES)


@njit(inline="always")
def _d_weight_tile(d_y, x, d_w, rows, units, batch, u, r, n_r, cols, masked):
    """d_w[rows[r : r+n_r], u : u + cols*LANES] = Σ over the batch."""
    acc = tile_zeros(d_y, n_r, cols, masked)
    for k in range(batch):
        acc = tile_outer(acc, d_y, k * units + u, x, r * batch + k, batch, units - u)
    tile_scatter(acc, d_w, rows, r, units, u, units - u)


@njit(cache=True, nogil=True)
def _d_weight_rows(d_w, rows, count, packed, turned, units, r, stop):
    """The weights of the packed rows r to stop."""
    own_code()
    batch = packed.shape[1]
    x_, rows_, d_y = packed.reshape(packed.size), rows.reshape(rows.size), turned.reshape(turned.size)
    w_ = d_w.reshape(d_w.size)
    whole = units - units % _STRIP
    while r + _DEEP <= stop:
        for u in range(0, whole, _STRIP):
            _d_weight_tile(d_y, x_, w_, rows_, units, batch, u, r, _DEEP, _COLS, 0)
        for u in range(whole, units, LANES):
            _d_weight_tile(d_y, x_, w_, rows_, units, batch, u, r, _DEEP, 1, 1)
        r += _DEEP
    while r < stop:
        for u in range(0, units, LANES):
            _d_weight_tile(d_y, x_, w_, rows_, units, batch, u, r, 1, 1, 1)
        r += 1


@Threaded
def linear_d_weight(d_w, rows, count, packed, turned, units):
    """An iteration of the prange owns the weights of a block of packed rows."""
    found = count[0]
    for block in prange((found + 63) // 64):
        _d_weight_rows(d_w, rows, count, packed, turned, units, block * 64, min(found, block * 64 + 64))
