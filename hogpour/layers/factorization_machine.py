"""Factorisation machine: a linear model in which any two features have a weight together, the product of their factors.

    y = b + Σ_i w_i x_i + Σ_i<j <v_i, v_j> x_i x_j
      = b + Σ_i w_i x_i + ½ Σ_f ((Σ_i v_if x_i)² - Σ_i v_if² x_i²)            d_w_i = d_y x_i
                                                                             d_v_if = d_y x_i (Σ_j v_jf x_j - v_if x_i)

Rendle 2010, "Factorization Machines", equations 1, 4 and lemma 3.1: linear in the non-zeros and factors of an example.
One score: of two labels with the logistic or the hinge loss, or one value.

Weights begin with 0, factors as N(0, 0.01²): at 0 they would stay there. libFM begins with 0.1, at which the scores of
examples of 39 features and 16 factors begin with a deviation of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array
from hogpour.core.limits import Count
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape
from hogpour.layers.kernels.factorization import fm_d_weight, fm_forward
from hogpour.layers.kernels.linear import add_bias, sum_over_batch

__all__ = ["FactorizationMachine"]

_DEVIATION = 0.01


@dataclass(frozen=True, slots=True)
class FactorizationMachine(Layer):
    """A score of sparse examples, from every feature and every pair of features."""

    sparse_input: ClassVar[bool] = True
    by_row: ClassVar[frozenset[str]] = frozenset({"weight"})

    factors: Count
    """Numbers by which a feature meets others. Multiples of 8 are fastest."""
    bias: bool = True
    """Whether a trained constant is added to the score."""

    def output_shape(self, shape: Shape) -> Shape:
        return (1,)

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        weight: dict[str, Shape] = {"weight": (shape[0], 1 + self.factors)}  # of each feature: w, then v
        return weight | {"bias": (1,)} if self.bias else weight

    def init(self, params: Sequence[Array], shape: Shape, rng: np.random.Generator) -> None:
        for array in params:
            array[...] = 0
        params[0][:, 1:] = rng.normal(0.0, _DEVIATION, (shape[0], self.factors))

    def scratch(self, shape: Shape) -> Scratch:
        return {"sums": ((self.factors,), None)}  # Σ v x of each example, the batch first

    def reads(self, shape: Shape) -> Reads:
        return "all"

    def forward(self, cell: Cell) -> None:
        fm_forward(cell.y[0], cell.scratch[0].reshape(-1), cell.params[0], *cell.x.arrays)
        if self.bias:
            add_bias(cell.y, cell.params[1])

    def backward(self, cell: Cell) -> None:
        sums = cell.scratch[0].reshape(-1)
        fm_d_weight(cell.d_y[0], sums, cell.params[0], *cell.x.arrays, *cell.d_params[0].arrays)
        if self.bias:
            sum_over_batch(cell.d_y, cell.d_params[1])
