"""L2Pool2D: the Euclidean norm of each window, the pooling of DistBelief's locally connected networks.

    y[i, r, c] = √(Σ_p,q x[i, r·s + p, c·s + q]²)        d_x = d_y · x / y, summed over the windows that read x

Dean et al. 2012, after Le et al. 2012, where pooling is the root of a sum of squares.
The papers do not say what the gradient is where y = 0; we take 0, the middle of its subdifferential.
"""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.layers.base import Cell, Scratch, Shape
from hogpour.layers.kernels.pool import divide_by_norm, sum_pool_backward, sum_pool_forward
from hogpour.layers.pooling import Pool

__all__ = ["L2Pool2D"]


@dataclass(frozen=True, slots=True)
class L2Pool2D(Pool):
    """L2 pooling over (channels, rows, columns)."""

    def scratch(self, shape: Shape) -> Scratch:
        return {"ratio": (self.output_shape(shape), None)}  # d_y / y: one division per window, not one per tap

    def forward(self, cell: Cell) -> None:
        sum_pool_forward.on(cell.threads)(cell.x, cell.y, None, self.size, self.step)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            (ratio,) = cell.scratch
            divide_by_norm(cell.d_y.reshape(-1), cell.y.reshape(-1), ratio.reshape(-1))
            kernel = sum_pool_backward.on(cell.threads)
            kernel(cell.x, ratio, None, cell.d_x, self.size, self.step, self.tiles(cell))
