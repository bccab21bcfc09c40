"""Linear: y = Wᵀ x + b, every output unit reads every input.

    y[u, k]   = b[u] + Σ_i W[i, u] x[i, k]        d_W[i, u] = Σ_k x[i, k] d_y[u, k]        d_x = W d_y

W lies with one row an *input*. An input that is 0 in the whole batch (the border of images, words that do not occur,
dead units) then costs nothing: its row of W is not read forward and gets an exact 0 gradient, so that SGD does not
write it either and replicas do not fight for its cache lines. Half of MNIST's pixels are such in a batch of 8.

Small batches run on register tiles over the rows that are not 0: at batch 32, 784 → 256, forward took 70 µs against
149 µs for BLAS (one thread, AVX-512 EPYC). Large ones are BLAS products, which block for the cache. Of AVX2's smaller
tiles eight read all of W one after the other at that batch; from copies of its strips that took 270 µs and not 380,
BLAS 240.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array
from hogpour.core.limits import Count
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape, uniform_fan_in
from hogpour.layers.kernels.linear import (
    TILED_BATCH,
    add_bias,
    linear_clear,
    linear_d_weight,
    linear_forward,
    linear_forward_copied,
    linear_pack,
    product,
    put_batch_last,
    sum_over_batch,
)
from hogpour.layers.kernels.tile import WIDE

__all__ = ["Linear"]

_IN_PLACE_BATCH = 8
"""Largest batch that reads W where it is, where tiles are small: two of them take it in."""


@dataclass(frozen=True, slots=True)
class Linear(Layer):
    """A fully connected layer."""

    flat_input: ClassVar[bool] = True

    units: Count
    """Number of output units."""
    bias: bool = True
    """Whether a trained constant is added to every unit."""

    def output_shape(self, shape: Shape) -> Shape:
        return (self.units,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        weight: dict[str, Shape] = {"weight": (shape[0], self.units)}
        return weight | {"bias": (self.units,)} if self.bias else weight

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        for array in params:
            uniform_fan_in(array, shape[0], rng)

    def scratch(self, shape: Shape) -> Scratch:
        # Numbers of the rows that are not 0 and how many there are; these rows of x; y or d_y with the batch first.
        numbers = {"rows": (shape, np.int64), "count": ((), np.int64)}
        return numbers | {"packed": (shape, None), "turned": ((self.units,), None)}

    def reads(self, shape: Shape) -> Reads:
        return "all"

    def forward(self, cell: Cell) -> None:
        weight, batch = cell.params[0], cell.x.shape[1]
        if batch > TILED_BATCH:
            turned = cell.scratch[3].reshape(batch, self.units)
            product(cell.x.T, weight, turned)  # a fifth faster than weight.T by x, of which it turns the larger one
            put_batch_last(turned, cell.y)
        else:
            linear_pack(cell.x, *cell.scratch[:3])
            kernel = linear_forward if WIDE or batch <= _IN_PLACE_BATCH else linear_forward_copied
            kernel.on(_threads(cell))(weight, cell.y, *cell.scratch)
        if self.bias:
            add_bias(cell.y, cell.params[1])

    def backward(self, cell: Cell) -> None:
        if cell.x.shape[1] > TILED_BATCH:
            product(cell.x, cell.d_y.T, cell.d_params[0])
        else:
            rows, count, packed, turned = cell.scratch
            linear_clear(cell.d_y, cell.d_params[0], rows, count, turned)
            linear_d_weight.on(_threads(cell))(cell.d_params[0], rows, count, packed, turned, self.units)
        if self.bias:
            sum_over_batch(cell.d_y, cell.d_params[1])
        if cell.d_x is not None:
            product(cell.params[0], cell.d_y, cell.d_x)


def _threads(cell: Cell) -> int:
    """Threads are worth their start from about a million multiplications on."""
    return cell.threads if cell.params[0].size * cell.x.shape[1] > 1_000_000 else 1
