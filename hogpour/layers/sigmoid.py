"""Sigmoid: y = 1 / (1 + exp(-x)), element by element; d_x = d_y · y (1 - y)."""

from __future__ import annotations

from dataclasses import dataclass

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Cell, Layer, Reads, Shape
from hogpour.layers.kernels.exponential import exp

__all__ = ["Sigmoid"]


@dataclass(frozen=True, slots=True)
class Sigmoid(Layer):
    """Logistic function."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        sigmoid(cell.x.reshape(-1), cell.y.reshape(-1))

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            sigmoid_backward(cell.y.reshape(-1), cell.d_y.reshape(-1), cell.d_x.reshape(-1))


@njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is a number: without branches it vectorises
def sigmoid(x: Array, y: Array) -> None:
    """Of e = exp(-|x|), which never overflows and keeps the digits of a small y."""
    one = y.dtype.type(1)
    for k in range(x.size):
        e = exp(-abs(x[k]))
        y[k] = (one if x[k] >= 0 else e) / (one + e)


@njit(cache=True, nogil=True)
def sigmoid_backward(y: Array, d_y: Array, d_x: Array) -> None:
    one = y.dtype.type(1)
    for k in range(y.size):
        d_x[k] = d_y[k] * y[k] * (one - y[k])
