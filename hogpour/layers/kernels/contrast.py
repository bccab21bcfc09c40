"""Kernels of local contrast normalisation, on planes (rows, columns, batch) and on channels as (channels, n)."""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import njit

__all__ = ["average_channels", "average_products", "differentiate_quotient", "divide_by_deviation", "divide_by_square",
           "smooth_columns", "smooth_rows", "subtract_plane"]  # fmt: skip

LEAST = float(np.finfo(np.float32).tiny)


@njit(cache=True, nogil=True)
def smooth_rows(plane, weights, reach, out):
    """out[r] = Σ_p weights[r, p] plane[p] over |p - r| <= reach."""
    rows, columns, batch = plane.shape
    plane_, out_ = plane.reshape(rows, columns * batch), out.reshape(rows, columns * batch)
    for r in range(rows):
        out_[r] = 0
        for p in range(max(0, r - reach), min(rows, r + reach + 1)):
            weight = weights[r, p]
            for k in range(columns * batch):
                out_[r, k] += weight * plane_[p, k]


@njit(cache=True, nogil=True)
def smooth_columns(plane, weights, reach, out):
    """out[r, c] = Σ_q weights[c, q] plane[r, q] over |q - c| <= reach."""
    rows, columns, batch = plane.shape
    for r in range(rows):
        for c in range(columns):
            out[r, c] = 0
            for q in range(max(0, c - reach), min(columns, c + reach + 1)):
                weight = weights[c, q]
                for k in range(batch):
                    out[r, c, k] += weight * plane[r, q, k]


@njit(cache=True, nogil=True)
def average_channels(x, plane):
    """plane = Σ_i x[i] / channels."""
    channels, n = x.shape
    share = x.dtype.type(1 / channels)
    for k in range(n):
        plane[k] = x[0, k] * share
    for i in range(1, channels):
        for k in range(n):
            plane[k] += x[i, k] * share


@njit(cache=True, nogil=True)
def average_products(a, b, plane):
    """plane = Σ_i a[i] b[i] / channels."""
    channels, n = a.shape
    share = a.dtype.type(1 / channels)
    for k in range(n):
        plane[k] = a[0, k] * b[0, k] * share
    for i in range(1, channels):
        for k in range(n):
            plane[k] += a[i, k] * b[i, k] * share


@njit(cache=True, nogil=True)
def subtract_plane(x, plane, y):
    """y = x - plane; y may be x."""
    for i in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[i, k] = x[i, k] - plane[k]


@njit(cache=True, nogil=True, error_model="numpy")
def divide_by_deviation(y, variance, floor, deviation):
    """deviation = √(floor² + variance), y = y / deviation.

    Here and below numpy's division: a check whether it is by 0 for each element kept the loop scalar, at 6 times the
    time. None is by 0: where floor² is no float32, it is the least normal one.
    """
    square = y.dtype.type(max(floor * floor, LEAST))
    for k in range(variance.size):
        deviation[k] = np.sqrt(square + variance[k])
    for i in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[i, k] /= deviation[k]


@njit(cache=True, nogil=True, error_model="numpy")
def divide_by_square(plane, deviation):
    """plane = -plane / deviation²: with v = y · deviation this is -Σ_i d_y v / (channels · t³)."""
    for k in range(plane.size):
        plane[k] = -plane[k] / (deviation[k] * deviation[k])


@njit(cache=True, nogil=True, error_model="numpy")
def differentiate_quotient(d_y, y, plane, deviation, d_v):
    """d_v = d_y / t + v · plane, where v = y · t."""
    for i in range(y.shape[0]):
        for k in range(y.shape[1]):
            d_v[i, k] = d_y[i, k] / deviation[k] + y[i, k] * deviation[k] * plane[k]
