"""L2Pool2D: the Euclidean norm of each window, the pooling of DistBelief's locally connected networks.

    y[i, r, c] = √(Σ_p,q x[i, r·s + p, c·s + q]²)        d_x = d_y · x / y, summed over the windows that read x

Dean et al. 2012, after Le et al. 2012, where pooling is the root of a sum of squares.
The papers do not say what the gradient is where y = 0; we take 0, the middle of its subdifferential.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hogpour.core.kernels.jit import prange
from hogpour.layers.base import Cell, Scratch, Shape
from hogpour.layers.kernels.threaded import Threaded
from hogpour.layers.pooling import Pool

__all__ = ["L2Pool2D"]


@dataclass(frozen=True, slots=True)
class L2Pool2D(Pool):
    """L2 pooling over (channels, rows, columns)."""

    def scratch(self, shape: Shape) -> Scratch:
        return {"ratio": (self.output_shape(shape), None)}  # d_y / y: one division per window, not one per tap

    def forward(self, cell: Cell) -> None:
        l2_pool_forward.on(cell.threads)(cell.x, cell.y, self.size, self.step)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            kernel = l2_pool_backward.on(cell.threads)
            kernel(cell.x, cell.y, cell.d_y, cell.scratch[0], cell.d_x, self.size, self.step, self.tiles(cell))


def _forward(x, y, size, stride):
    """An iteration of the prange owns one channel."""
    channels, out_r, out_c, batch = y.shape
    for i in prange(channels):
        for r in range(out_r):
            for c in range(out_c):
                y_ = y[i, r, c]
                for p in range(size):
                    for q in range(size):
                        x_ = x[i, r * stride + p, c * stride + q]
                        if p + q == 0:
                            for k in range(batch):
                                y_[k] = x_[k] * x_[k]
                        else:
                            for k in range(batch):
                                y_[k] += x_[k] * x_[k]
                for k in range(batch):
                    y_[k] = np.sqrt(y_[k])


def _backward(x, y, d_y, ratio, d_x, size, stride, tiles):
    """An iteration of the prange owns one channel; overlapping windows add in the order of their places."""
    channels, out_r, out_c, batch = d_y.shape
    one, zero = d_x.dtype.type(1), d_x.dtype.type(0)
    for i in prange(channels):
        if not tiles:
            d_x[i] = zero
        for r in range(out_r):
            for c in range(out_c):
                y_, d_y_, ratio_ = y[i, r, c], d_y[i, r, c], ratio[i, r, c]
                for k in range(batch):
                    # Divides by 1 where y is 0, so that the loop has no branch.
                    quotient = d_y_[k] / (one if y_[k] == zero else y_[k])
                    ratio_[k] = zero if y_[k] == zero else quotient
                for p in range(size):
                    for q in range(size):
                        x_ = x[i, r * stride + p, c * stride + q]
                        d_x_ = d_x[i, r * stride + p, c * stride + q]
                        if stride >= size:
                            for k in range(batch):
                                d_x_[k] = x_[k] * ratio_[k]
                        else:
                            for k in range(batch):
                                d_x_[k] += x_[k] * ratio_[k]


l2_pool_forward = Threaded(_forward)
l2_pool_backward = Threaded(_backward)
