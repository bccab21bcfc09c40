"""Tanh: y = tanh(x), element by element; d_x = d_y · (1 - y²)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Cell, Layer, Reads, Shape

__all__ = ["Tanh"]


@dataclass(frozen=True, slots=True)
class Tanh(Layer):
    """Hyperbolic tangent."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        np.tanh(cell.x, cell.y)  # numpy's is vectorised: 0.35 ns an element against 16 in a numba loop (EPYC, float32)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            tanh_backward(cell.y.reshape(-1), cell.d_y.reshape(-1), cell.d_x.reshape(-1))


@njit(cache=True, nogil=True)
def tanh_backward(y: Array, d_y: Array, d_x: Array) -> None:
    one = y.dtype.type(1)
    for k in range(y.size):
        d_x[k] = d_y[k] * (one - y[k] * y[k])
