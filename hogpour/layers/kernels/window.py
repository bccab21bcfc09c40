"""Kernels of layers with weights over windows: the same at every place (``conv2d_*``), or of each place (``local_*``).

    y[o, r, c] = b + Σ_i,p,q w[..., o, i, p, q] x[i, r·s + p, c·s + q]        x being framed by the padding's zeros

Register tiles, no im2col. A tile holds ``rows`` channels (or taps) by ``cols`` vectors of columns and examples. With
stride 1 the columns and examples of a row are one contiguous run for every tap of a convolution, and tiles run over all
of it: a batch that is no multiple of a vector leaves lanes empty at the end of a row only. Local weights serve one
place, so that a run is one batch. The index of a prange is unsigned in the parallel kernel alone: as int64 both kernels
call the same code, which compiles for up to 10 s.

``shapes`` of the x side: channels, rows and columns of x (framed), batch, kernel, rows and columns of y.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import njit, prange
from hogpour.layers.kernels.threaded import Threaded, own_code
from hogpour.layers.kernels.tile import (
    LANES,
    WIDE,
    tile_as,
    tile_dots,
    tile_load,
    tile_outer,
    tile_rows,
    tile_store,
    tile_sum,
    tile_zeros,
)

__all__ = ["conv2d_d_weight", "conv2d_d_x", "conv2d_forward", "copy_into_frame", "local_d_weight", "local_d_x",
           "local_forward"]  # fmt: skip

_COLS_1, _COLS_2, _COLS = (4, 4, 4) if WIDE else (4, 2, 1)
"""Vectors in a row of a tile of one row, of two, and of more."""


@njit(inline="always")
def block_width(n):
    """Return how many of n channels a tile of a convolution takes: 5 where that leaves none over, else 4.

    Each vector of x that is loaded serves all channels of the tile, and so many still fit in the registers.
    Channels that are left over go one by one.
    """
    return 5 if n % 5 == 0 else 4


@njit(cache=True, nogil=True)
def copy_into_frame(x, framed, padding):
    """Copy x into the middle of ``framed``, whose border of zeros, ``padding`` wide, is left alone."""
    channels, rows, columns, batch = x.shape
    for i in range(channels):
        for r in range(rows):
            for c in range(columns):
                for k in range(batch):
                    framed[i, r + padding, c + padding, k] = x[i, r, c, k]


@njit(inline="always")
def _forward_tile(x, w, bias, y, shapes, stride, place, start, live, rows, cols, masked):
    """y[o : o+rows, r, c, k : k + cols*LANES] for one place (o, r, c, k).

    Args:
        start: of the channel o in the bias, from it to the next channel's, and in the weights.
    """
    n_in, height, width, batch, kernel, out_r, out_c = shapes
    o, r, c, k = place
    at_b, b_step, j = start
    taps = n_in * kernel * kernel
    acc = tile_rows(bias, at_b, b_step, rows, cols, masked)
    for i in range(n_in):
        for p in range(kernel):
            row = ((i * height + r * stride + p) * width + c * stride) * batch + k
            for q in range(kernel):
                acc = tile_outer(acc, x, row + q * batch, w, j, taps, live)
                j += 1
    tile_store(acc, y, ((o * out_r + r) * out_c + c) * batch + k, out_r * out_c * batch, live)


@njit(inline="always")
def _forward_run(x, w, bias, y, shapes, stride, o, r, c, start, run, rows, cols):
    """``rows`` output channels of ``run`` columns and examples from (r, c) on."""
    k = 0
    while k + cols * LANES <= run:
        _forward_tile(x, w, bias, y, shapes, stride, (o, r, c, k), start, LANES, rows, cols, 0)
        k += cols * LANES
    while k < run:
        _forward_tile(x, w, bias, y, shapes, stride, (o, r, c, k), start, min(LANES, run - k), rows, 1, 1)
        k += LANES


@njit(inline="always")
def _d_weight_tile(x, d_y, d_w, shapes, stride, places, at_x, at_y, at_w, rows, cols):
    """The weights of ``rows`` output channels and ``cols`` neighbouring taps: dot products over places and examples.

    Args:
        places: how many rows, how many runs in each, and the elements of a run.
    """
    n_in, _, width, batch, kernel, out_r, out_c = shapes
    n_r, n_c, run = places
    acc, whole = tile_zeros(x, rows, cols, 0), run - run % LANES
    for r in range(n_r):
        for c in range(n_c):
            x_, y_ = at_x + (r * width + c) * stride * batch, at_y + (r * out_c + c) * batch
            for k in range(0, whole, LANES):
                acc = tile_dots(acc, d_y, y_ + k, out_r * out_c * batch, x, x_ + k, batch, LANES)
            if whole < run:
                rest = tile_as(acc, 1)
                rest = tile_dots(rest, d_y, y_ + whole, out_r * out_c * batch, x, x_ + whole, batch, run - whole)
                acc = tile_as(rest, 0)
    tile_sum(acc, d_w, at_w, n_in * kernel * kernel)


@njit(inline="always")
def _d_weight_taps(x, d_y, d_w, shapes, stride, places, at_x, at_y, at_w, rows):
    """One row of taps of ``rows`` output channels."""
    batch, kernel, q = shapes[3], shapes[4], 0
    if WIDE:
        while q + 5 <= kernel:
            _d_weight_tile(x, d_y, d_w, shapes, stride, places, at_x + q * batch, at_y, at_w + q, rows, 5)
            q += 5
    if WIDE or rows <= 2:
        while q + 3 <= kernel:
            _d_weight_tile(x, d_y, d_w, shapes, stride, places, at_x + q * batch, at_y, at_w + q, rows, 3)
            q += 3
    while q < kernel:
        _d_weight_tile(x, d_y, d_w, shapes, stride, places, at_x + q * batch, at_y, at_w + q, rows, 1)
        q += 1


@Threaded
def conv2d_forward(x, w, bias, y, stride):
    """An iteration of the prange owns one row of all output channels."""
    for r in prange(y.shape[1]):
        _conv2d_forward_row(x, w, bias, y, stride, np.int64(r))


@njit(inline="always")
def _conv2d_forward_channels(x, w, bias, y, shapes, stride, o, r, rows, cols):
    """One row r of ``rows`` output channels, all columns and examples."""
    n_in, _, _, batch, kernel, _, out_c = shapes
    run = out_c * batch if stride == 1 else batch
    for c in range(out_c * batch // run):
        _forward_run(x, w, bias, y, shapes, stride, o, r, c, (o, 1, o * n_in * kernel * kernel), run, rows, cols)


@njit(cache=True, nogil=True)
def _conv2d_forward_row(x, w, bias, y, stride, r):
    own_code()
    n_out, out_r, out_c = y.shape[:3]
    shapes = (*x.shape, w.shape[2], out_r, out_c)
    x_, w_, y_ = x.reshape(x.size), w.reshape(w.size), y.reshape(y.size)
    block, o = block_width(n_out), 0
    while o + block <= n_out:
        if block == 5:
            _conv2d_forward_channels(x_, w_, bias, y_, shapes, stride, o, r, 5, _COLS)
        else:
            _conv2d_forward_channels(x_, w_, bias, y_, shapes, stride, o, r, 4, _COLS)
        o += block
    while o < n_out:
        _conv2d_forward_channels(x_, w_, bias, y_, shapes, stride, o, r, 1, _COLS_1)
        o += 1


@njit(inline="always")
def d_weight_width(n):
    """Return how many of n output channels a tile of gradients takes.

    Of few registers two channels by three taps make more of each load than four by one, and go through x and d_y a
    third as often: 32 channels of 3 x 3 over 16 of 32 x 32, batch 64, 16 ms and not 30.
    """
    return block_width(n) if WIDE else 2


@Threaded
def conv2d_d_weight(x, d_y, d_w, stride):
    """An iteration of the prange owns the weights of one input channel and one block of output channels."""
    blocks = d_y.shape[0] // d_weight_width(d_y.shape[0]) + 1  # the last one: what is left, maybe nothing
    for unit in prange(x.shape[0] * blocks):
        _conv2d_d_weight_block(x, d_y, d_w, stride, unit // blocks, unit % blocks)


@njit(inline="always")
def _conv2d_d_weight_channels(x, d_y, d_w, shapes, stride, o, i, rows):
    n_in, height, width, batch, kernel, out_r, out_c = shapes
    run = out_c * batch if stride == 1 else batch
    places = (out_r, out_c * batch // run, run)
    at_y, at_w = o * out_r * out_c * batch, (o * n_in + i) * kernel * kernel
    for p in range(kernel):
        at_x = (i * height + p) * width * batch
        _d_weight_taps(x, d_y, d_w, shapes, stride, places, at_x, at_y, at_w + p * kernel, rows)


@njit(cache=True, nogil=True)
def _conv2d_d_weight_block(x, d_y, d_w, stride, i, n):
    own_code()
    n_out, out_r, out_c = d_y.shape[:3]
    shapes = (*x.shape, d_w.shape[2], out_r, out_c)
    x_, y_, w_ = x.reshape(x.size), d_y.reshape(d_y.size), d_w.reshape(d_w.size)
    block = d_weight_width(n_out)
    if n == n_out // block:
        for o in range(n * block, n_out):
            _conv2d_d_weight_channels(x_, y_, w_, shapes, stride, o, i, 1)
    elif not WIDE:  # a constant: what is not reached is not compiled
        _conv2d_d_weight_channels(x_, y_, w_, shapes, stride, n * 2, i, 2)
    elif block == 5:
        _conv2d_d_weight_channels(x_, y_, w_, shapes, stride, n * 5, i, 5)
    else:
        _conv2d_d_weight_channels(x_, y_, w_, shapes, stride, n * 4, i, 4)


@Threaded
def conv2d_d_x(w, d_y, d_x, stride, padding):
    """An iteration of the prange owns one row of all input channels."""
    for r in prange(d_x.shape[1]):
        _conv2d_d_x_row(w, d_y, d_x, stride, padding, np.int64(r))


@njit(inline="always")
def _conv2d_d_x_tile(w, d_y, d_x, shapes, stride, padding, place, live, rows, cols, masked):
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
def _conv2d_d_x_channels(w, d_y, d_x, shapes, stride, padding, first, last, r, rows, cols):
    """One row r of the input channels from first to last, ``rows`` at a time; all of them before the next columns."""
    out_c, batch, kernel, width = shapes[2], shapes[3], shapes[4], shapes[7]
    c = 0
    while c < width:
        # With stride 1, the columns that ``kernel`` whole windows read are one run; those at the edges stand alone.
        inner = stride == 1 and kernel - 1 <= c + padding < out_c
        columns = out_c - (c + padding) if inner else 1
        run, k = columns * batch, 0
        while k + cols * LANES <= run:
            for i in range(first, last, rows):
                _conv2d_d_x_tile(w, d_y, d_x, shapes, stride, padding, (i, r, c, k), LANES, rows, cols, 0)
            k += cols * LANES
        while k < run:
            live = min(LANES, run - k)
            for i in range(first, last, rows):
                _conv2d_d_x_tile(w, d_y, d_x, shapes, stride, padding, (i, r, c, k), live, rows, 1, 1)
            k += LANES
        c += columns


@njit(cache=True, nogil=True)
def _conv2d_d_x_row(w, d_y, d_x, stride, padding, r):
    own_code()
    n_out, out_r, out_c, batch = d_y.shape
    n_in, height, width = d_x.shape[:3]
    shapes = (n_out, out_r, out_c, batch, w.shape[2], n_in, height, width)
    w_, y_, x_ = w.reshape(w.size), d_y.reshape(d_y.size), d_x.reshape(d_x.size)
    block = block_width(n_in)
    whole = n_in - n_in % block
    if block == 5:
        _conv2d_d_x_channels(w_, y_, x_, shapes, stride, padding, 0, whole, r, 5, _COLS)
    else:
        _conv2d_d_x_channels(w_, y_, x_, shapes, stride, padding, 0, whole, r, 4, _COLS)
    _conv2d_d_x_channels(w_, y_, x_, shapes, stride, padding, whole, n_in, r, 1, _COLS_1)


@Threaded
def local_forward(x, w, bias, y, stride):
    """An iteration of the prange owns one row of places."""
    for r in prange(y.shape[1]):
        _local_forward_row(x, w, bias, y, stride, np.int64(r))


@njit(inline="always")
def _local_forward_channels(x, w, bias, y, shapes, stride, o, r, c, n_out, rows, cols):
    """``rows`` output channels of one place, all examples."""
    n_in, _, _, batch, kernel, out_r, out_c = shapes
    start = ((o * out_r + r) * out_c + c, out_r * out_c, ((r * out_c + c) * n_out + o) * n_in * kernel * kernel)
    _forward_run(x, w, bias, y, shapes, stride, o, r, c, start, batch, rows, cols)


@njit(cache=True, nogil=True)
def _local_forward_row(x, w, bias, y, stride, r):
    own_code()
    n_out, out_r, out_c = y.shape[:3]
    shapes = (*x.shape, w.shape[4], out_r, out_c)
    x_, w_, b_, y_ = x.reshape(x.size), w.reshape(w.size), bias.reshape(bias.size), y.reshape(y.size)
    for c in range(out_c):
        o = 0
        while o + 5 <= n_out:
            _local_forward_channels(x_, w_, b_, y_, shapes, stride, o, r, c, n_out, 5, _COLS)
            o += 5
        while o + 2 <= n_out:
            _local_forward_channels(x_, w_, b_, y_, shapes, stride, o, r, c, n_out, 2, _COLS_2)
            o += 2
        if o < n_out:
            _local_forward_channels(x_, w_, b_, y_, shapes, stride, o, r, c, n_out, 1, _COLS_1)


@Threaded
def local_d_weight(x, d_y, d_w, stride):
    """An iteration of the prange owns the weights of one row of places."""
    for r in prange(d_y.shape[1]):
        _local_d_weight_row(x, d_y, d_w, stride, np.int64(r))


@njit(cache=True, nogil=True)
def _local_d_weight_row(x, d_y, d_w, stride, r):
    own_code()
    n_in, height, width, batch = x.shape
    n_out, out_r, out_c = d_y.shape[:3]
    kernel = d_w.shape[4]
    shapes = (n_in, height, width, batch, kernel, out_r, out_c)
    x_, y_, w_ = x.reshape(x.size), d_y.reshape(d_y.size), d_w.reshape(d_w.size)
    for c in range(out_c):
        for i in range(n_in):
            for p in range(kernel):
                at_x = ((i * height + r * stride + p) * width + c * stride) * batch
                o = 0
                while o < n_out:
                    at_y = ((o * out_r + r) * out_c + c) * batch
                    at_w = ((((r * out_c + c) * n_out + o) * n_in + i) * kernel + p) * kernel
                    if o + 4 <= n_out:
                        _d_weight_taps(x_, y_, w_, shapes, stride, (1, 1, batch), at_x, at_y, at_w, 4)
                        o += 4
                    else:
                        _d_weight_taps(x_, y_, w_, shapes, stride, (1, 1, batch), at_x, at_y, at_w, 1)
                        o += 1


@Threaded
def local_d_x(w, d_y, d_x, stride, padding):
    """An iteration of the prange owns one input channel; places add to it in their order."""
    for i in prange(d_x.shape[0]):
        _local_d_x_channel(w, d_y, d_x, stride, padding, np.int64(i))


@njit(inline="always")
def _local_d_x_tile(w, d_y, d_x, shapes, at_x, at_y, at_w, live, rows, cols, masked):
    """What one place adds to ``rows`` neighbouring columns of d_x."""
    n_out, out_r, out_c, batch, taps = shapes
    acc = tile_load(d_x, at_x, batch, live, rows, cols, masked)
    for o in range(n_out):
        acc = tile_outer(acc, d_y, at_y + o * out_r * out_c * batch, w, at_w + o * taps, 1, live)
    tile_store(acc, d_x, at_x, batch, live)


@njit(inline="always")
def _local_d_x_columns(w, d_y, d_x, shapes, at_x, at_y, at_w, rows, cols):
    """``rows`` neighbouring columns, all examples."""
    batch, k = shapes[3], 0
    while k + cols * LANES <= batch:
        _local_d_x_tile(w, d_y, d_x, shapes, at_x + k, at_y + k, at_w, LANES, rows, cols, 0)
        k += cols * LANES
    while k < batch:
        _local_d_x_tile(w, d_y, d_x, shapes, at_x + k, at_y + k, at_w, min(LANES, batch - k), rows, 1, 1)
        k += LANES


@njit(cache=True, nogil=True)
def _local_d_x_channel(w, d_y, d_x, stride, padding, i):
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
                    _local_d_x_columns(w_, y_, x_, shapes, at_x + q * batch, at_y, at_w + q, 5, _COLS)
                    q += 5
                while q + 3 <= q_to:
                    _local_d_x_columns(w_, y_, x_, shapes, at_x + q * batch, at_y, at_w + q, 3, _COLS)
                    q += 3
                while q < q_to:
                    _local_d_x_columns(w_, y_, x_, shapes, at_x + q * batch, at_y, at_w + q, 1, _COLS_1)
                    q += 1
