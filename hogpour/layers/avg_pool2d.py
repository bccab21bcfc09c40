"""AvgPool2D: the mean of each window; backward shares its gradient equally.

    y[i, r, c] = Σ_p,q x[i, r·s + p, c·s + q] / size²
"""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.layers.base import Cell
from hogpour.layers.kernels.pool import sum_pool_backward, sum_pool_forward
from hogpour.layers.pooling import Pool

__all__ = ["AvgPool2D"]


@dataclass(frozen=True, slots=True)
class AvgPool2D(Pool):
    """Average pooling over (channels, rows, columns)."""

    def forward(self, cell: Cell) -> None:
        share = cell.y.dtype.type(1 / self.size**2)
        sum_pool_forward.on(cell.threads)(cell.x, cell.y, share, self.size, self.step)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            share = cell.d_x.dtype.type(1 / self.size**2)
            kernel = sum_pool_backward.on(cell.threads)
            kernel(cell.x, cell.d_y, share, cell.d_x, self.size, self.step, self.tiles(cell))
