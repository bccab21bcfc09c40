"""ReLU: y = max(x, 0), element by element."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Cell, Layer, Reads, Shape

__all__ = ["Relu"]


@dataclass(frozen=True, slots=True)
class Relu(Layer):
    """Rectified linear unit; its derivative at 0 is taken as 0."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        relu_forward(cell.x.reshape(-1), cell.y.reshape(-1))

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            relu_backward(cell.y.reshape(-1), cell.d_y.reshape(-1), cell.d_x.reshape(-1))


@njit(cache=True, nogil=True)
def relu_forward(x: Array, y: Array) -> None:
    for k in range(x.size):
        y[k] = x[k] if x[k] > 0 else x[k] * 0  # keeps NaN, so that a diverged model is seen in its loss


@njit(cache=True, nogil=True)
def relu_backward(y: Array, d_y: Array, d_x: Array) -> None:
    for k in range(y.size):
        d_x[k] = d_y[k] if y[k] > 0 else d_y[k] * 0
