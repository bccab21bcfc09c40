"""Sparse linear: y = Wᵀ x + b for sparse examples; what a step reads and writes of W are the rows of its features.

    y[u, k]   = b[u] + Σ_i W[i, u] x[i, k]  over the non-zeros of x        d_W[i, u] = Σ_k x[i, k] d_y[u, k]

With one unit and the logistic or the hinge loss it is the sparse linear model of Hogwild! (Niu et al. 2011, section 2);
with more it is one for each label, or the first layer of a larger network.

A single unit begins with zeros: a feature that no example had says nothing then, and a linear model needs no other
beginning. Several units begin apart, as those of ``linear`` do: hidden units that began alike would stay alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array
from hogpour.core.limits import Count
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape, uniform_fan_in
from hogpour.layers.kernels.linear import add_bias, put_batch_last, sum_over_batch
from hogpour.layers.kernels.sparse import sparse_d_weight, sparse_product

__all__ = ["SparseLinear"]


@dataclass(frozen=True, slots=True)
class SparseLinear(Layer):
    """A fully connected first layer on sparse examples."""

    sparse_input: ClassVar[bool] = True
    by_row: ClassVar[frozenset[str]] = frozenset({"weight"})

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
            if self.units == 1:
                array[...] = 0
            else:
                uniform_fan_in(array, shape[0], rng)

    def scratch(self, shape: Shape) -> Scratch:
        return {"turned": ((self.units,), None)}  # y or d_y with the batch first

    def reads(self, shape: Shape) -> Reads:
        return "all"

    def forward(self, cell: Cell) -> None:
        turned = cell.scratch[0].reshape(-1, self.units)
        sparse_product(turned, cell.params[0], *cell.x.arrays)
        put_batch_last(turned, cell.y)
        if self.bias:
            add_bias(cell.y, cell.params[1])

    def backward(self, cell: Cell) -> None:
        turned = cell.scratch[0].reshape(-1, self.units)
        turned[...] = cell.d_y.T
        sparse_d_weight(turned, *cell.x.arrays, *cell.d_params[0].arrays)
        if self.bias:
            sum_over_batch(cell.d_y, cell.d_params[1])
