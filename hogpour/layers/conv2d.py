"""Conv2D: the same weights over every window. Three kernels on register tiles, no im2col.

    y[o, r, c]     = b[o] + Σ_i,p,q w[o, i, p, q] x[i, r·s + p - pad, c·s + q - pad]
    d_w[o,i,p,q]   = Σ_r,c d_y[o, r, c] · x[i, r·s + p - pad, c·s + q - pad]       (and over the batch)
    d_x[i, r', c'] = Σ_o,p,q w[o, i, p, q] d_y[o, r, c]   where r·s + p - pad = r', c·s + q - pad = c'

With padding, x is first copied into a frame of zeros (scratch), so that the loops over taps have constant bounds.
With stride 1 the columns and examples of a row are one contiguous run for every tap, and tiles run over all of it: a
batch that is no multiple of a vector leaves lanes empty at the end of a row only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit, prange
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape, Window, uniform_fan_in
from hogpour.layers.kernels.threaded import Threaded, own_code
from hogpour.layers.kernels.tile import LANES, tile_dots, tile_outer, tile_rows, tile_store, tile_sum, tile_zeros
from hogpour.layers.linear import sum_over_batch

__all__ = ["Conv2D"]


@dataclass(frozen=True, slots=True)
class Conv2D(Layer):
    """A convolution (cross-correlation, as everywhere in the field) over (channels, rows, columns)."""

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
        return {"weight": (self.channels, shape[0], self.kernel, self.kernel), "bias": (self.channels,)}

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        for array in params:
            uniform_fan_in(array, shape[0] * self.kernel**2, rng)

    def scratch(self, shape: Shape) -> Scratch:
        if not self.padding:
            return {}
        framed = [d + 2 * self.padding for d in shape[1:]]
        return {"framed": ((shape[0], *framed), None)}

    def reads(self, shape: Shape) -> Reads:
        return Window(*[(d, d) for d in (self.kernel, self.stride, self.padding)], all_channels=True)

    def forward(self, cell: Cell) -> None:
        x = cell.x
        if self.padding:
            x = cell.scratch[0]  # its frame was zero from the beginning and nothing writes there
            copy_into_frame(cell.x, x, self.padding)
        conv2d_forward.on(cell.threads)(x, *cell.params, cell.y, self.stride)

    def backward(self, cell: Cell) -> None:
        x = cell.scratch[0] if self.padding else cell.x
        conv2d_d_weight.on(cell.threads)(x, cell.d_y, cell.d_params[0], self.stride)
        sum_over_batch(cell.d_y.reshape(self.channels, -1), cell.d_params[1])
        if cell.d_x is not None:
            conv2d_d_x.on(cell.threads)(cell.params[0], cell.d_y, cell.d_x, self.stride, self.padding)


def check_window(channels: int, kernel: int, stride: int, padding: int) -> None:
    """Raise ValueError unless the settings of a windowed layer make sense."""
    if min(channels, kernel, stride) < 1:
        raise ValueError(f"channels = {channels}, kernel = {kernel}, stride = {stride}: expected at least 1 each")
    if not 0 <= padding < kernel:
        raise ValueError(f"padding = {padding}, expected 0 to kernel - 1 = {kernel - 1}")


def window_shape(shape: Shape, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """Return the rows and columns of windows that fit into an image of (channels, rows, columns)."""
    _, rows, columns = shape
    if min(rows, columns) + 2 * padding < kernel:
        raise ValueError(f"a window of {kernel} x {kernel} does not fit the {rows} x {columns} input "
                         f"with padding {padding}")  # fmt: skip
    return (rows + 2 * padding - kernel) // stride + 1, (columns + 2 * padding - kernel) // stride + 1


@njit(cache=True, nogil=True)
def copy_into_frame(x, framed, padding):
    channels, rows, columns, batch = x.shape
    for i in range(channels):
        for r in range(rows):
            for c in range(columns):
                for k in range(batch):
                    framed[i, r + padding, c + padding, k] = x[i, r, c, k]


@njit(inline="always")
def _forward_tile(x, w, bias, y, shapes, stride, place, live, rows, cols, masked):
    """y[o : o+rows, r, c, k : k + cols*LANES] for one place (o, r, c, k)."""
    n_in, height, width, batch, kernel, out_r, out_c = shapes
    o, r, c, k = place
    taps = n_in * kernel * kernel
    acc = tile_rows(bias, o, 1, rows, cols, masked)
    j = o * taps
    for i in range(n_in):
        for p in range(kernel):
            row = ((i * height + r * stride + p) * width + c * stride) * batch + k
            for q in range(kernel):
                acc = tile_outer(acc, x, row + q * batch, w, j, taps, live)
                j += 1
    tile_store(acc, y, ((o * out_r + r) * out_c + c) * batch + k, out_r * out_c * batch, live)


@njit(inline="always")
def _forward_channels(x, w, bias, y, shapes, stride, o, r, rows):
    """One row r of ``rows`` output channels, all columns and examples."""
    batch, out_c = shapes[3], shapes[6]
    run = out_c * batch if stride == 1 else batch
    for c in range(out_c * batch // run):
        k = 0
        while k + 4 * LANES <= run:
            _forward_tile(x, w, bias, y, shapes, stride, (o, r, c, k), LANES, rows, 4, 0)
            k += 4 * LANES
        while k < run:
            _forward_tile(x, w, bias, y, shapes, stride, (o, r, c, k), min(LANES, run - k), rows, 1, 1)
            k += LANES


def _forward(x, w, bias, y, stride):
    """An iteration of the prange owns one row of all output channels."""
    for r in prange(y.shape[1]):
        _forward_row(x, w, bias, y, stride, r)


@njit(cache=True, nogil=True)
def _forward_row(x, w, bias, y, stride, r):
    own_code()
    n_in, height, width, batch = x.shape
    n_out, out_r, out_c = y.shape[:3]
    shapes = (n_in, height, width, batch, w.shape[2], out_r, out_c)
    x_, w_, y_ = x.reshape(x.size), w.reshape(w.size), y.reshape(y.size)
    block = 5 if n_out % 5 == 0 else 4
    o = 0
    while o + block <= n_out:
        if block == 5:
            _forward_channels(x_, w_, bias, y_, shapes, stride, o, r, 5)
        else:
            _forward_channels(x_, w_, bias, y_, shapes, stride, o, r, 4)
        o += block
    while o < n_out:
        _forward_channels(x_, w_, bias, y_, shapes, stride, o, r, 1)
        o += 1


@njit(inline="always")
def _d_weight_tile(x, d_y, d_w, shapes, stride, o, i, p, q, rows, cols):
    """d_w[o : o+rows, i, p, q : q+cols]: dot products over rows, columns and examples."""
    n_in, height, width, batch, kernel, out_r, out_c = shapes
    run = out_c * batch if stride == 1 else batch
    acc = tile_zeros(x, rows, cols, 1)
    for r in range(out_r):
        for c in range(out_c * batch // run):
            at_x = ((i * height + r * stride + p) * width + c * stride + q) * batch
            at_y = ((o * out_r + r) * out_c + c) * batch
            for k in range(0, run, LANES):
                acc = tile_dots(acc, d_y, at_y + k, out_r * out_c * batch, x, at_x + k, batch, run - k)
    taps = n_in * kernel * kernel
    tile_sum(acc, d_w, o * taps + (i * kernel + p) * kernel + q, taps)


@njit(inline="always")
def _d_weight_channels(x, d_y, d_w, shapes, stride, o, i, rows):
    kernel = shapes[4]
    for p in range(kernel):
        q = 0
        while q + 5 <= kernel:
            _d_weight_tile(x, d_y, d_w, shapes, stride, o, i, p, q, rows, 5)
            q += 5
        while q + 3 <= kernel:
            _d_weight_tile(x, d_y, d_w, shapes, stride, o, i, p, q, rows, 3)
            q += 3
        while q < kernel:
            _d_weight_tile(x, d_y, d_w, shapes, stride, o, i, p, q, rows, 1)
            q += 1


def _d_weight(x, d_y, d_w, stride):
    """An iteration of the prange owns the weights of one input channel and one block of output channels."""
    blocks = d_y.shape[0] // (5 if d_y.shape[0] % 5 == 0 else 4) + 1  # the last one: what is left, maybe nothing
    for unit in prange(x.shape[0] * blocks):
        _d_weight_block(x, d_y, d_w, stride, unit // blocks, unit % blocks)


@njit(cache=True, nogil=True)
def _d_weight_block(x, d_y, d_w, stride, i, n):
    own_code()
    n_in, height, width, batch = x.shape
    n_out, out_r, out_c = d_y.shape[:3]
    shapes = (n_in, height, width, batch, d_w.shape[2], out_r, out_c)
    x_, y_, w_ = x.reshape(x.size), d_y.reshape(d_y.size), d_w.reshape(d_w.size)
    block = 5 if n_out % 5 == 0 else 4
    if n == n_out // block:
        for o in range(n * block, n_out):
            _d_weight_channels(x_, y_, w_, shapes, stride, o, i, 1)
    elif block == 5:
        _d_weight_channels(x_, y_, w_, shapes, stride, n * 5, i, 5)
    else:
        _d_weight_channels(x_, y_, w_, shapes, stride, n * 4, i, 4)


@njit(inline="always")
def _d_x_tile(w, d_y, d_x, shapes, stride, padding, place, live, rows, cols, masked):
    """d_x[i : i+rows, r, c, k : k + cols*LANES]: sums over the windows (o, r_y, c_y) that read this place.

    No division in the inner loops: it costs as much as a whole tile of one column.
    """
    n_out, out_r, out_c, batch, kernel, n_in, height, width = shapes
    i, r, c, k = place
    at_r, at_c = r + padding, c + padding
    c_from, c_to = max(0, (at_c - kernel + stride) // stride), min(out_c - 1, at_c // stride) + 1
    r_from, r_to = max(0, (at_r - kernel + stride) // stride), min(out_r - 1, at_r // stride) + 1
    acc = tile_zeros(d_y, rows, cols, masked)
    for o in range(n_out):
        for r_y in range(r_from, r_to):
            at_y = (o * out_r + r_y) * out_c * batch + k
            j = ((o * n_in + i) * kernel + at_r - r_y * stride) * kernel + at_c
            for c_y in range(c_from, c_to):
                acc = tile_outer(acc, d_y, at_y + c_y * batch, w, j - c_y * stride, kernel * kernel, live)
    tile_store(acc, d_x, ((i * height + r) * width + c) * batch + k, height * width * batch, live)


@njit(inline="always")
def _d_x_channels(w, d_y, d_x, shapes, stride, padding, i, r, rows):
    """One row r of ``rows`` input channels, all columns and examples."""
    out_c, batch, kernel, width = shapes[2], shapes[3], shapes[4], shapes[7]
    c = 0
    while c < width:
        # With stride 1, the columns that ``kernel`` whole windows read are one run; those at the edges stand alone.
        inner = stride == 1 and kernel - 1 <= c + padding < out_c
        columns = out_c - (c + padding) if inner else 1
        run, k = columns * batch, 0
        while k + 4 * LANES <= run:
            _d_x_tile(w, d_y, d_x, shapes, stride, padding, (i, r, c, k), LANES, rows, 4, 0)
            k += 4 * LANES
        while k < run:
            _d_x_tile(w, d_y, d_x, shapes, stride, padding, (i, r, c, k), min(LANES, run - k), rows, 1, 1)
            k += LANES
        c += columns


def _d_x(w, d_y, d_x, stride, padding):
    """An iteration of the prange owns one row of all input channels."""
    for r in prange(d_x.shape[1]):
        _d_x_row(w, d_y, d_x, stride, padding, r)


@njit(cache=True, nogil=True)
def _d_x_row(w, d_y, d_x, stride, padding, r):
    own_code()
    n_out, out_r, out_c, batch = d_y.shape
    n_in, height, width = d_x.shape[:3]
    shapes = (n_out, out_r, out_c, batch, w.shape[2], n_in, height, width)
    w_, y_, x_ = w.reshape(w.size), d_y.reshape(d_y.size), d_x.reshape(d_x.size)
    block = 5 if n_in % 5 == 0 else 4
    i = 0
    while i + block <= n_in:
        if block == 5:
            _d_x_channels(w_, y_, x_, shapes, stride, padding, i, r, 5)
        else:
            _d_x_channels(w_, y_, x_, shapes, stride, padding, i, r, 4)
        i += block
    while i < n_in:
        _d_x_channels(w_, y_, x_, shapes, stride, padding, i, r, 1)
        i += 1


conv2d_forward = Threaded(_forward)
conv2d_d_weight = Threaded(_d_weight)
conv2d_d_x = Threaded(_d_x)
