"""Embedding: an example has one feature of each of k fields, and y is the k vectors of these, one behind the other.

    y[j · units + u, k] = x_j E[i_j, u]    i_j: feature of the j-th non-zero of example k, x_j: its value
    d_E[i_j, u]        += x_j d_y[j · units + u, k]

The first layer of networks on categories, such as clicks (Guo, Tang, Ye, Li, He 2017, DeepFM, section 2.1). The fields
of an example are in the order of the file's numbers. Where one is missing all behind it would move, so that examples
with more or fewer non-zeros are refused: let a missing value be a feature as well.

Vectors begin as U(-1/units, 1/units), like those of ``embedding_bag``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.csr import Csr
from hogpour.core.kernels.jit import Array
from hogpour.core.limits import Count
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape
from hogpour.layers.kernels.linear import put_batch_last
from hogpour.layers.kernels.sparse import embed, embed_d_weight

__all__ = ["Embedding"]


@dataclass(frozen=True, slots=True)
class Embedding(Layer):
    """A vector for each feature of sparse examples, and of an example those of its fields one behind the other."""

    sparse_input: ClassVar[bool] = True
    by_row: ClassVar[frozenset[str]] = frozenset({"weight"})

    units: Count
    """Length of a vector."""
    fields: Count
    """Features that are not zero in each example: one of each field."""

    def output_shape(self, shape: Shape) -> Shape:
        return (self.fields * self.units,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": (shape[0], self.units)}

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        params[0][...] = rng.uniform(-1.0, 1.0, params[0].shape) / self.units

    def scratch(self, shape: Shape) -> Scratch:
        return {"turned": (self.output_shape(shape), None)}  # y or d_y with the batch first

    def refused(self, x: Csr) -> tuple[int, str] | None:
        lengths = np.diff(x.indptr)
        if (lengths == self.fields).all():
            return None
        row = int((lengths != self.fields).argmax())
        return row, (f"takes {self.fields} features that are not zero in each example, one of each field, and this one "
                     f"has {lengths[row]}; set fields, or let a missing value be a feature as well")  # fmt: skip

    def reads(self, shape: Shape) -> Reads:
        return "all"

    def forward(self, cell: Cell) -> None:
        turned = cell.scratch[0].reshape(-1, self.fields * self.units)
        embed(turned, cell.params[0], *cell.x.arrays)
        put_batch_last(turned, cell.y)

    def backward(self, cell: Cell) -> None:
        turned = cell.scratch[0].reshape(-1, self.fields * self.units)
        turned[...] = cell.d_y.T
        embed_d_weight(turned, *cell.x.arrays, *cell.d_params[0].arrays)
