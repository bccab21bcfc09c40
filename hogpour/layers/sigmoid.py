"""Sigmoid: y = 1 / (1 + exp(-x)), element by element; d_x = d_y · y (1 - y)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.layers.base import Cell, Layer, Reads, Shape

__all__ = ["Sigmoid"]


@dataclass(frozen=True, slots=True)
class Sigmoid(Layer):
    """Logistic function."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        """Use exp(-|x|), which never overflows and keeps the digits of a small y; numpy's exp is vectorised."""
        x, y = cell.x.reshape(-1), cell.y.reshape(-1)
        minus_abs(x, y)
        np.exp(y, y)
        sigmoid_from_exp(x, y)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            sigmoid_backward(cell.y.reshape(-1), cell.d_y.reshape(-1), cell.d_x.reshape(-1))


@njit(cache=True, nogil=True)
def minus_abs(x: Array, y: Array) -> None:
    for k in range(x.size):
        y[k] = -abs(x[k])


@njit(cache=True, nogil=True, error_model="numpy")  # x / 0 is a number: without branches it vectorises
def sigmoid_from_exp(x: Array, y: Array) -> None:
    """y holds e = exp(-|x|) and becomes 1 / (1 + e) where x >= 0, else e / (1 + e)."""
    one = y.dtype.type(1)
    for k in range(x.size):
        y[k] = (one if x[k] >= 0 else y[k]) / (one + y[k])


@njit(cache=True, nogil=True)
def sigmoid_backward(y: Array, d_y: Array, d_x: Array) -> None:
    one = y.dtype.type(1)
    for k in range(y.size):
        d_x[k] = d_y[k] * y[k] * (one - y[k])
