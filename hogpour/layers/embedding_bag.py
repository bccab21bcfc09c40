"""Embedding bag: every feature has a vector, and an example is the mean, or the sum, of those of its features.

    sum:   y[u, k] = Σ_i x[i, k] E[i, u]  over the non-zeros of x          d_E[i, u] = Σ_k x[i, k] d_y[u, k] / n_k
    mean:  the same / n_k,  n_k = Σ_i |x[i, k]|, and 0 of an example without features; in the sum n_k is 1

Before a linear layer and the softmax it is the classifier of fastText (Joulin, Grave, Bojanowski, Mikolov 2017, "Bag of
Tricks for Efficient Text Classification", section 2), whose vectors begin as U(-1/units, 1/units) too, and whose second
matrix has no bias.

The mean is over words, and a word of count 3 is three of them: so fastText has it, and so has PyTorch where the word
stands in the bag three times. Divided by the number of distinct features, as if a value were a weight of its own, long
texts would begin with larger means than short ones. Values that are no counts are weights of a weighted mean, which
TensorFlow's ``embedding_lookup_sparse`` divides alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hogpour.core.kernels.jit import Array
from hogpour.core.limits import Count
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape
from hogpour.layers.kernels.linear import put_batch_last
from hogpour.layers.kernels.sparse import divide_by_weight, sparse_d_weight, sparse_product

__all__ = ["EmbeddingBag"]


@dataclass(frozen=True, slots=True)
class EmbeddingBag(Layer):
    """A vector for each feature of sparse examples, and of an example their mean or sum."""

    sparse_input: ClassVar[bool] = True
    by_row: ClassVar[frozenset[str]] = frozenset({"weight"})

    units: Count
    """Length of a vector."""
    mode: Literal["mean", "sum"] = "mean"
    """Of the vectors, each times its value: their sum, divided by the sum of the values' sizes where it is the mean."""

    def output_shape(self, shape: Shape) -> Shape:
        return (self.units,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {"weight": (shape[0], self.units)}

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        params[0][...] = rng.uniform(-1.0, 1.0, params[0].shape) / self.units

    def scratch(self, shape: Shape) -> Scratch:
        return {"turned": ((self.units,), None)}  # y or d_y with the batch first

    def reads(self, shape: Shape) -> Reads:
        return "all"

    def forward(self, cell: Cell) -> None:
        turned = cell.scratch[0].reshape(-1, self.units)
        sparse_product(turned, cell.params[0], *cell.x.arrays)
        if self.mode == "mean":
            divide_by_weight(turned, *cell.x.arrays)
        put_batch_last(turned, cell.y)

    def backward(self, cell: Cell) -> None:
        turned = cell.scratch[0].reshape(-1, self.units)
        turned[...] = cell.d_y.T
        if self.mode == "mean":
            divide_by_weight(turned, *cell.x.arrays)
        sparse_d_weight(turned, *cell.x.arrays, *cell.d_params[0].arrays)
