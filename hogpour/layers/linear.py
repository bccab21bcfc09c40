"""Linear: y = W x + b, every output unit reads every input. Two BLAS products backward, one forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit

from hogpour.layers.base import Cell, Layer, Reads, Shape, uniform_fan_in
from hogpour.layers.tile import LANES, tile_add, tile_sum, tile_zeros

__all__ = ["Linear"]


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """A fully connected layer."""

    flat_input: ClassVar[bool] = True

    units: int
    """Number of output units, at least 1."""
    bias: bool = True
    """Whether a trained constant is added to every unit."""

    def __post_init__(self) -> None:
        if self.units < 1:
            raise ValueError(f"units = {self.units}, expected at least 1")

    def output_shape(self, shape: Shape) -> Shape:
        return (self.units,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        weight = {"weight": (self.units, shape[0])}
        return weight | {"bias": (self.units,)} if self.bias else weight

    def init(self, params, shape, rng):  # type: ignore[no-untyped-def]
        for array in params:
            uniform_fan_in(array, shape[0], rng)

    def reads(self, shape: Shape) -> Reads:
        return "all"

    def forward(self, cell: Cell) -> None:
        if self.bias:
            linear_forward(cell.x, *cell.params, cell.y)
        else:
            product(cell.params[0], cell.x, cell.y)

    def backward(self, cell: Cell) -> None:
        product(cell.d_y, cell.x.T, cell.d_params[0])
        if self.bias:
            sum_over_batch(cell.d_y, cell.d_params[1])
        if cell.d_x is not None:
            product(cell.params[0].T, cell.d_y, cell.d_x)


@njit(cache=True, nogil=True)
def linear_forward(x, weight, bias, y):  # type: ignore[no-untyped-def]
    np.dot(weight, x, y)
    for u in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[u, k] += bias[u]


@njit(cache=True, nogil=True)
def product(a, b, out):  # type: ignore[no-untyped-def]
    """out = a b, by BLAS; transposed views of C-contiguous arrays are passed as they are."""
    np.dot(a, b, out)


@njit(cache=True, nogil=True)
def sum_over_batch(d_y, d_bias):  # type: ignore[no-untyped-def]
    """d_bias[u] = Σ_k d_y[u, k], ``LANES`` partial sums at a time: 12 times a plain loop, which may not reorder."""
    units, batch = d_y.shape
    y_, u = d_y.reshape(d_y.size), 0
    while u + 4 <= units:
        acc = tile_zeros(y_, 4, 1, 1)
        for k in range(0, batch, LANES):
            acc = tile_add(acc, y_, u * batch + k, batch, batch - k)
        tile_sum(acc, d_bias, u, 1)
        u += 4
    while u < units:
        acc_1 = tile_zeros(y_, 1, 1, 1)
        for k in range(0, batch, LANES):
            acc_1 = tile_add(acc_1, y_, u * batch + k, batch, batch - k)
        tile_sum(acc_1, d_bias, u, 1)
        u += 1
