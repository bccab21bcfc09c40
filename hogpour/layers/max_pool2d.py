"""MaxPool2D: the largest input of each window; backward gives its gradient to the input that won.

    y[i, r, c] = max_p,q x[i, r·s + p, c·s + q]

Of equal inputs the first wins, rows before columns, as in PyTorch. NaN wins over every number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hogpour.core.kernels.jit import prange
from hogpour.layers.base import Cell, Scratch, Shape
from hogpour.layers.kernels.threaded import Threaded
from hogpour.layers.pooling import Pool

__all__ = ["MaxPool2D"]


@dataclass(frozen=True, slots=True)
class MaxPool2D(Pool):
    """Max pooling over (channels, rows, columns)."""

    def scratch(self, shape: Shape) -> Scratch:
        # Number of the tap that won. One byte, as the kernels move memory and compute next to nothing.
        return {"winner": (self.output_shape(shape), np.uint8 if self.size <= 16 else np.uint32)}

    def forward(self, cell: Cell) -> None:
        max_pool_forward.on(cell.threads)(cell.x, cell.y, cell.scratch[0], self.size, self.step)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            kernel = max_pool_backward.on(cell.threads)
            kernel(cell.d_y, cell.scratch[0], cell.d_x, self.size, self.step, self.tiles(cell))


def _forward(x, y, winner, size, stride):
    """An iteration of the prange owns one channel."""
    channels, out_r, out_c, batch = y.shape
    for i in prange(channels):
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


def _backward(d_y, winner, d_x, size, stride, tiles):
    """An iteration of the prange owns one channel; overlapping windows add in the order of their places."""
    channels, out_r, out_c, batch = d_y.shape
    zero = d_x.dtype.type(0)
    for i in prange(channels):
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


max_pool_forward = Threaded(_forward)
max_pool_backward = Threaded(_backward)
