"""A layer and a loss of a user, in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.layers.base import Cell, Layer, Loss, Reads, Shape


@dataclass(frozen=True, slots=True)
class Scale(Layer):
    """y = gain · x, with a trained gain for every feature."""

    first_gain: float = 1.0

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {"gain": shape}

    def init(self, params, shape, rng):  # type: ignore[no-untyped-def]
        params[0][...] = self.first_gain

    def scratch(self, shape: Shape):  # type: ignore[no-untyped-def]
        return {"product": (shape, None)}

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.params[0][..., None], out=cell.y)

    def backward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.d_y, out=cell.scratch[0])
        np.sum(cell.scratch[0], axis=-1, out=cell.d_params[0])
        if cell.d_x is not None:
            np.multiply(cell.d_y, cell.params[0][..., None], out=cell.d_x)


@dataclass(frozen=True, slots=True)
class Cubic(Loss):
    """|error|³, summed over outputs."""

    targets: ClassVar = "values"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return (n_targets,)

    def apply(self, scores, target, d_scores):  # type: ignore[no-untyped-def]
        np.subtract(scores, target, out=d_scores)
        np.abs(d_scores, out=d_scores)
        np.power(d_scores, 3, out=d_scores)
        total = float(d_scores.sum())
        np.subtract(scores, target, out=d_scores)
        for row in d_scores:
            for k in range(row.size):
                row[k] *= 3 * abs(row[k]) / row.size
        return total, 0

    def predict(self, scores):  # type: ignore[no-untyped-def]
        return scores
