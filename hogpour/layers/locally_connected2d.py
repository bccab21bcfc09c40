"""LocallyConnected2D: a window at every place of the output, each place with weights of its own.

    y[o, r, c]         = b[o, r, c] + Σ_i,p,q w[r, c, o, i, p, q] x[i, r·s + p - pad, c·s + q - pad]
    d_w[r,c,o,i,p,q]   = d_y[o, r, c] · x[i, r·s + p - pad, c·s + q - pad]                       (summed over the batch)
    d_x[i, r', c']     = Σ w[r, c, o, i, p, q] d_y[o, r, c]  over r·s + p - pad = r', c·s + q - pad = c'

The untied local receptive fields of DistBelief (Dean et al. 2012): most parameters of its large vision
models, and what makes cutting a model over machines cheap. A weight is used by one multiplication per example, so
weights lie in the order in which the kernels pass over them: all that one place reads is one run of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit, prange
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape, Window, uniform_fan_in
from hogpour.layers.conv2d import check_window, copy_into_frame, window_shape
from hogpour.layers.kernels.threaded import Threaded, own_code
from hogpour.layers.kernels.tile import (
    LANES,
    tile_dots,
    tile_load,
    tile_outer,
    tile_rows,
    tile_store,
    tile_sum,
    tile_zeros,
)
from hogpour.layers.linear import sum_over_batch

__all__ = ["LocallyConnected2D"]


@dataclass(frozen=True, slots=True)
class LocallyConnected2D(Layer):
    """Local receptive fields over (channels, rows, columns) that share no weights."""

    image_input: ClassVar[bool] = True

    channels: int
    """Output channels, at least 1."""
    kernel: int
    """Rows and columns of the window."""
    stride: int = 1
    """Rows and columns from a window to the next."""
    padding: int = 0
    """Zeros put around the image, less than kernel."""

    def __post_init__(self) -> None:
        check_window(self.channels, self.kernel, self.stride, self.padding)

    def output_shape(self, shape: Shape) -> Shape:
        return (self.channels, *window_shape(shape, self.kernel, self.stride, self.padding))

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        _, rows, columns = self.output_shape(shape)
        return {
            "weight": (rows, columns, self.channels, shape[0], self.kernel, self.kernel),
            "bias": (self.channels, rows, columns),
        }

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        for array in params:
            uniform_fan_in(array, shape[0] * self.kernel**2, rng)

    def scratch(self, shape: Shape) -> Scratch:
        if not self.padding:
            return {}
        return {"framed": ((shape[0], *[d + 2 * self.padding for d in shape[1:]]), None)}

    def reads(self, shape: Shape) -> Reads:
        return Window(*[(d, d) for d in (self.kernel, self.stride, self.padding)], all_channels=True)

    def forward(self, cell: Cell) -> None:
        x = cell.x
        if self.padding:
            x = cell.scratch[0]  # its frame was zero from the beginning and nothing writes there
            copy_into_frame(cell.x, x, self.padding)
        locally_connected_forward.on(cell.threads)(x, *cell.params, cell.y, self.stride)

    def backward(self, cell: Cell) -> None:
        x = cell.scratch[0] if self.padding else cell.x
        locally_connected_d_weight.on(cell.threads)(x, cell.d_y, cell.d_params[0], self.stride)
        sum_over_batch(cell.d_y.reshape(-1, cell.d_y.shape[-1]), cell.d_params[1].reshape(-1))
        if cell.d_x is not None:
            kernel = locally_connected_d_x.on(cell.threads)
            kernel(cell.params[0], cell.d_y, cell.d_x, self.stride, self.padding)


@njit(inline="always")
def _forward_tile(x, w, bias, y, shapes, stride, place, live, rows, cols, masked):
    """y[o : o+rows, r, c, k : k + cols*LANES] for one place (o, r, c, k)."""
    n_in, height, width, batch, kernel, n_out, out_r, out_c = shapes
    o, r, c, k = place
    taps = n_in * kernel * kernel
    acc = tile_rows(bias, (o * out_r + r) * out_c + c, out_r * out_c, rows, cols, masked)
    j = ((r * out_c + c) * n_out + o) * taps
    for i in range(n_in):
        for p in range(kernel):
            row = ((i * height + r * stride + p) * width + c * stride) * batch + k
            for q in range(kernel):
                acc = tile_outer(acc, x, row + q * batch, w, j, taps, live)
                j += 1
    tile_store(acc, y, ((o * out_r + r) * out_c + c) * batch + k, out_r * out_c * batch, live)


@njit(inline="always")
def _forward_channels(x, w, bias, y, shapes, stride, o, r, c, rows):
    """``rows`` output channels of one place, all examples."""
    batch, k = shapes[3], 0
    while k + 4 * LANES <= batch:
        _forward_tile(x, w, bias, y, shapes, stride, (o, r, c, k), LANES, rows, 4, 0)
        k += 4 * LANES
    while k < batch:
        _forward_tile(x, w, bias, y, shapes, stride, (o, r, c, k), min(LANES, batch - k), rows, 1, 1)
        k += LANES


def _forward(x, w, bias, y, stride):
    """An iteration of the prange owns one row of places."""
    for r in prange(y.shape[1]):
        _forward_row(x, w, bias, y, stride, r)


@njit(cache=True, nogil=True)
def _forward_row(x, w, bias, y, stride, r):
    own_code()
    n_in, height, width, batch = x.shape
    n_out, out_r, out_c = y.shape[:3]
    shapes = (n_in, height, width, batch, w.shape[4], n_out, out_r, out_c)
    x_, w_, b_, y_ = x.reshape(x.size), w.reshape(w.size), bias.reshape(bias.size), y.reshape(y.size)
    for c in range(out_c):
        o = 0
        while o + 5 <= n_out:
            _forward_channels(x_, w_, b_, y_, shapes, stride, o, r, c, 5)
            o += 5
        while o + 2 <= n_out:
            _forward_channels(x_, w_, b_, y_, shapes, stride, o, r, c, 2)
            o += 2
        if o < n_out:
            _forward_channels(x_, w_, b_, y_, shapes, stride, o, r, c, 1)


@njit(inline="always")
def _d_weight_tile(x, d_y, d_w, shapes, at_x, at_y, at_w, rows, cols):
    """The weights of ``rows`` output channels and ``cols`` neighbouring taps of one place."""
    n_in, batch, kernel, out_r, out_c = shapes
    acc = tile_zeros(x, rows, cols, 1)
    for k in range(0, batch, LANES):
        acc = tile_dots(acc, d_y, at_y + k, out_r * out_c * batch, x, at_x + k, batch, batch - k)
    tile_sum(acc, d_w, at_w, n_in * kernel * kernel)


@njit(inline="always")
def _d_weight_channels(x, d_y, d_w, shapes, at_x, at_y, at_w, rows):
    """One row of taps of ``rows`` output channels."""
    batch, kernel, q = shapes[1], shapes[2], 0
    while q + 5 <= kernel:
        _d_weight_tile(x, d_y, d_w, shapes, at_x + q * batch, at_y, at_w + q, rows, 5)
        q += 5
    while q + 3 <= kernel:
        _d_weight_tile(x, d_y, d_w, shapes, at_x + q * batch, at_y, at_w + q, rows, 3)
        q += 3
    while q < kernel:
        _d_weight_tile(x, d_y, d_w, shapes, at_x + q * batch, at_y, at_w + q, rows, 1)
        q += 1


def _d_weight(x, d_y, d_w, stride):
    """An iteration of the prange owns the weights of one row of places."""
    for r in prange(d_y.shape[1]):
        _d_weight_row(x, d_y, d_w, stride, r)


@njit(cache=True, nogil=True)
def _d_weight_row(x, d_y, d_w, stride, r):
    own_code()
    n_in, height, width, batch = x.shape
    n_out, out_r, out_c = d_y.shape[:3]
    kernel = d_w.shape[4]
    shapes = (n_in, batch, kernel, out_r, out_c)
    x_, y_, w_ = x.reshape(x.size), d_y.reshape(d_y.size), d_w.reshape(d_w.size)
    for c in range(out_c):
        for i in range(n_in):
            for p in range(kernel):
                at_x = ((i * height + r * stride + p) * width + c * stride) * batch
                o = 0
                while o + 4 <= n_out:
                    at_y = ((o * out_r + r) * out_c + c) * batch
                    at_w = ((((r * out_c + c) * n_out + o) * n_in + i) * kernel + p) * kernel
                    _d_weight_channels(x_, y_, w_, shapes, at_x, at_y, at_w, 4)
                    o += 4
                while o < n_out:
                    at_y = ((o * out_r + r) * out_c + c) * batch
                    at_w = ((((r * out_c + c) * n_out + o) * n_in + i) * kernel + p) * kernel
                    _d_weight_channels(x_, y_, w_, shapes, at_x, at_y, at_w, 1)
                    o += 1


@njit(inline="always")
def _d_x_tile(w, d_y, d_x, shapes, at_x, at_y, at_w, live, rows, cols, masked):
    """What one place adds to ``rows`` neighbouring columns of d_x."""
    n_out, out_r, out_c, batch, taps = shapes
    acc = tile_load(d_x, at_x, batch, live, rows, cols, masked)
    for o in range(n_out):
        acc = tile_outer(acc, d_y, at_y + o * out_r * out_c * batch, w, at_w + o * taps, 1, live)
    tile_store(acc, d_x, at_x, batch, live)


@njit(inline="always")
def _d_x_columns(w, d_y, d_x, shapes, at_x, at_y, at_w, rows):
    """``rows`` neighbouring columns, all examples."""
    batch, k = shapes[3], 0
    while k + 4 * LANES <= batch:
        _d_x_tile(w, d_y, d_x, shapes, at_x + k, at_y + k, at_w, LANES, rows, 4, 0)
        k += 4 * LANES
    while k < batch:
        _d_x_tile(w, d_y, d_x, shapes, at_x + k, at_y + k, at_w, min(LANES, batch - k), rows, 1, 1)
        k += LANES


def _d_x(w, d_y, d_x, stride, padding):
    """An iteration of the prange owns one input channel; places add to it in their order."""
    for i in prange(d_x.shape[0]):
        _d_x_channel(w, d_y, d_x, stride, padding, i)


@njit(cache=True, nogil=True)
def _d_x_channel(w, d_y, d_x, stride, padding, i):
    own_code()
    d_x[i] = 0
    n_out, out_r, out_c, batch = d_y.shape
    n_in, height, width = d_x.shape[:3]
    kernel = w.shape[4]
    shapes = (n_out, out_r, out_c, batch, n_in * kernel * kernel)
    w_, y_, x_ = w.reshape(w.size), d_y.reshape(d_y.size), d_x.reshape(d_x.size)
    for r in range(out_r):
        for c in range(out_c):
            at_y = (r * out_c + c) * batch
            top, left = r * stride - padding, c * stride - padding
            for p in range(max(0, -top), min(kernel, height - top)):
                q, q_to = max(0, -left), min(kernel, width - left)
                at_x = ((i * height + top + p) * width + left) * batch
                at_w = (((r * out_c + c) * n_out * n_in + i) * kernel + p) * kernel
                while q + 5 <= q_to:
                    _d_x_columns(w_, y_, x_, shapes, at_x + q * batch, at_y, at_w + q, 5)
                    q += 5
                while q + 3 <= q_to:
                    _d_x_columns(w_, y_, x_, shapes, at_x + q * batch, at_y, at_w + q, 3)
                    q += 3
                while q < q_to:
                    _d_x_columns(w_, y_, x_, shapes, at_x + q * batch, at_y, at_w + q, 1)
                    q += 1


locally_connected_forward = Threaded(_forward)
locally_connected_d_weight = Threaded(_d_weight)
locally_connected_d_x = Threaded(_d_x)
