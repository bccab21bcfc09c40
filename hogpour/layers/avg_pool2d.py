"""AvgPool2D: the mean of each window; backward shares its gradient equally.

    y[i, r, c] = Σ_p,q x[i, r·s + p, c·s + q] / size²
"""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.core.kernels.jit import prange
from hogpour.layers.base import Cell
from hogpour.layers.kernels.threaded import Threaded
from hogpour.layers.pooling import Pool

__all__ = ["AvgPool2D"]


@dataclass(frozen=True, slots=True)
class AvgPool2D(Pool):
    """Average pooling over (channels, rows, columns)."""

    def forward(self, cell: Cell) -> None:
        avg_pool_forward.on(cell.threads)(cell.x, cell.y, self.size, self.step)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            avg_pool_backward.on(cell.threads)(cell.d_y, cell.d_x, self.size, self.step, self.tiles(cell))


def _forward(x, y, size, stride):
    """An iteration of the prange owns one channel."""
    channels, out_r, out_c, batch = y.shape
    share = y.dtype.type(1 / (size * size))
    for i in prange(channels):
        for r in range(out_r):
            for c in range(out_c):
                y_ = y[i, r, c]
                for p in range(size):
                    for q in range(size):
                        x_ = x[i, r * stride + p, c * stride + q]
                        if p + q == 0:
                            for k in range(batch):
                                y_[k] = x_[k] * share
                        else:
                            for k in range(batch):
                                y_[k] += x_[k] * share


def _backward(d_y, d_x, size, stride, tiles):
    """An iteration of the prange owns one channel; overlapping windows add in the order of their places."""
    channels, out_r, out_c, batch = d_y.shape
    share = d_x.dtype.type(1 / (size * size))
    for i in prange(channels):
        if not tiles:
            d_x[i] = 0
        for r in range(out_r):
            for c in range(out_c):
                d_y_ = d_y[i, r, c]
                for p in range(size):
                    for q in range(size):
                        d_x_ = d_x[i, r * stride + p, c * stride + q]
                        if stride >= size:
                            for k in range(batch):
                                d_x_[k] = d_y_[k] * share
                        else:
                            for k in range(batch):
                                d_x_[k] += d_y_[k] * share


avg_pool_forward = Threaded(_forward)
avg_pool_backward = Threaded(_backward)
