"""MaxPool2D: the largest input of each window; backward gives its gradient to the input that won.

    y[i, r, c] = max_p,q x[i, r·s + p, c·s + q]

Of equal inputs the first wins, rows before columns, as in PyTorch. NaN wins over every number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hogpour.layers.base import Cell, Scratch, Shape
from hogpour.layers.kernels.pool import max_pool_backward, max_pool_forward
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
