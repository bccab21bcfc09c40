"""Kernels of the pooling layers. An iteration of each prange owns one channel; overlapping windows add their gradients
in the order of their places. The one kernel for means serves norms as well, where it is given no share."""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import njit, prange
from hogpour.layers.kernels.threaded import Threaded, own_code

__all__ = ["divide_by_norm", "max_pool_backward", "max_pool_forward", "sum_pool_backward", "sum_pool_forward"]


@njit(cache=True, nogil=True)
def _term(x, share):
    return x * x if share is None else x * share  # decided when the kernel is compiled


@Threaded
def sum_pool_forward(x, y, share, size, stride):
    """y = Σ x · share over each window; √Σ x² where the share is None."""
    for i in prange(x.shape[0]):
        _sum_pool_forward_channel(x, y, share, size, stride, np.int64(i))


@njit(cache=True, nogil=True)
def _sum_pool_forward_channel(x, y, share, size, stride, i):
    own_code()
    _, out_r, out_c, batch = y.shape
    for r in range(out_r):
        for c in range(out_c):
            y_ = y[i, r, c]
            for p in range(size):
                for q in range(size):
                    x_ = x[i, r * stride + p, c * stride + q]
                    if p + q == 0:
                        for k in range(batch):
                            y_[k] = _term(x_[k], share)
                    else:
                        for k in range(batch):
                            y_[k] += _term(x_[k], share)
            if share is None:
                for k in range(batch):
                    y_[k] = np.sqrt(y_[k])


@njit(cache=True, nogil=True)
def _slope(x, share, k):
    return x[k] if share is None else share  # decided when the kernel is compiled


@Threaded
def sum_pool_backward(x, d_y, share, d_x, size, stride, tiles):
    """d_x = Σ d_y · share over the windows that read x; Σ d_y · x where the share is None.

    Args:
        tiles: the windows cover every input once, so that d_x need not be zeroed.
    """
    for i in prange(d_y.shape[0]):
        _sum_pool_backward_channel(x, d_y, share, d_x, size, stride, tiles, np.int64(i))


@njit(cache=True, nogil=True)
def _sum_pool_backward_channel(x, d_y, share, d_x, size, stride, tiles, i):
    own_code()
    _, out_r, out_c, batch = d_y.shape
    zero = d_x.dtype.type(0)
    if not tiles:
        d_x[i] = zero
    for r in range(out_r):
        for c in range(out_c):
            d_y_ = d_y[i, r, c]
            for p in range(size):
                for q in range(size):
                    x_, d_x_ = x[i, r * stride + p, c * stride + q], d_x[i, r * stride + p, c * stride + q]
                    if stride >= size:
                        for k in range(batch):
                            d_x_[k] = _slope(x_, share, k) * d_y_[k]
                    else:
                        for k in range(batch):
                            d_x_[k] += _slope(x_, share, k) * d_y_[k]


@njit(cache=True, nogil=True, error_model="numpy")
def divide_by_norm(d_y, y, ratio):
    """ratio = d_y / y, 0 where y is 0; all flat. Divides by 1 there, so that the loop has no branch."""
    one, zero = y.dtype.type(1), y.dtype.type(0)
    for k in range(y.size):
        quotient = d_y[k] / (one if y[k] == zero else y[k])
        ratio[k] = zero if y[k] == zero else quotient


@Threaded
def max_pool_forward(x, y, winner, size, stride):
    """y = the largest of each window, of equal ones the first, NaN before numbers; winner = the number of its tap."""
    for i in prange(x.shape[0]):
        _max_pool_forward_channel(x, y, winner, size, stride, np.int64(i))


@njit(cache=True, nogil=True)
def _max_pool_forward_channel(x, y, winner, size, stride, i):
    own_code()
    _, out_r, out_c, batch = y.shape
    for r in range(out_r):
        for c in range(out_c):
            best, won = y[i, r, c], winner[i, r, c]
            for p in range(size):
                for q in range(size):
                    x_ = x[i, r * stride + p, c * stride + q]
                    tap = winner.dtype.type(p * size + q)
                    if tap == 0:
                        for k in range(batch):
                            best[k] = x_[k]
                            won[k] = tap
                    else:
                        for k in range(batch):
                            stays = (best[k] >= x_[k]) | (best[k] != best[k])
                            best[k] = best[k] if stays else x_[k]
                            won[k] = won[k] if stays else tap


@Threaded
def max_pool_backward(d_y, winner, d_x, size, stride, tiles):
    """d_x = Σ d_y of the windows that x has won."""
    for i in prange(d_y.shape[0]):
        _max_pool_backward_channel(d_y, winner, d_x, size, stride, tiles, np.int64(i))


@njit(cache=True, nogil=True)
def _max_pool_backward_channel(d_y, winner, d_x, size, stride, tiles, i):
    own_code()
    _, out_r, out_c, batch = d_y.shape
    zero = d_x.dtype.type(0)
    if not tiles:
        d_x[i] = zero
    for r in range(out_r):
        for c in range(out_c):
            d_y_, won = d_y[i, r, c], winner[i, r, c]
            for p in range(size):
                for q in range(size):
                    d_x_ = d_x[i, r * stride + p, c * stride + q]
                    tap = winner.dtype.type(p * size + q)
                    if stride >= size:
                        for k in range(batch):
                            d_x_[k] = d_y_[k] if won[k] == tap else zero
                    else:
                        for k in range(batch):
                            d_x_[k] += d_y_[k] if won[k] == tap else zero
