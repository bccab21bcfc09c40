"""Layers and losses that each break one promise, for the contract to find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hogpour.layers.base import Cell, Layer, Loss, Reads, Shape, Window


@dataclass(frozen=True, slots=True)
class Square(Layer):
    """y = x², as it should be; the others break one thing of it."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.x, out=cell.y)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            np.multiply(cell.x, cell.d_y, out=cell.d_x)
            np.multiply(cell.d_x, 2, out=cell.d_x)


@dataclass(frozen=True, slots=True)
class WrongGradient(Square):
    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            np.multiply(cell.x, cell.d_y, out=cell.d_x)
            np.multiply(cell.d_x, 2.00001, out=cell.d_x)


@dataclass(frozen=True, slots=True)
class ForgetsAnOutput(Square):
    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x[1:], cell.x[1:], out=cell.y[1:])


@dataclass(frozen=True, slots=True)
class AddsToItsGradient(Square):
    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            for k in range(cell.d_x.shape[-1]):
                cell.d_x[..., k] += 2 * cell.x[..., k] * cell.d_y[..., k]


@dataclass(frozen=True, slots=True)
class ChangesItsInput(Square):
    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.x, out=cell.y)
        np.multiply(cell.x, 2, out=cell.x)


@dataclass(frozen=True, slots=True)
class ChangesTheOutputGradient(Square):
    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            np.multiply(cell.d_y, 2, out=cell.d_y)
            np.multiply(cell.x, cell.d_y, out=cell.d_x)


@dataclass(frozen=True, slots=True)
class Allocates(Square):
    def forward(self, cell: Cell) -> None:
        cell.y[...] = cell.x * cell.x


@dataclass(frozen=True, slots=True)
class DrawsUnannounced(Square):
    """Its random numbers would not be seeded for each step."""

    def forward(self, cell: Cell) -> None:
        if cell.rng is not None:
            cell.rng.random()
        np.multiply(cell.x, cell.x, out=cell.y)


@dataclass(frozen=True, slots=True)
class MixesExamples(Square):
    """As batch normalisation does."""

    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.x, out=cell.y)
        np.multiply(cell.y, cell.x[..., :1], out=cell.y)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            np.multiply(cell.x, cell.d_y, out=cell.d_x)
            np.multiply(cell.d_x, 2, out=cell.d_x)
            np.multiply(cell.d_x, cell.x[..., :1], out=cell.d_x)
            for k in range(cell.x.shape[-1]):
                cell.d_x[..., 0] += cell.x[..., k] ** 2 * cell.d_y[..., k]


@dataclass(frozen=True, slots=True)
class Remembers(Square):
    """Adds to scratch what it should begin anew."""

    def scratch(self, shape: Shape):  # type: ignore[no-untyped-def]
        return {"sum": (shape, None)}

    def forward(self, cell: Cell) -> None:
        np.add(cell.scratch[0], cell.x, out=cell.scratch[0])
        np.multiply(cell.x, cell.x, out=cell.y)
        np.add(cell.y, cell.scratch[0], out=cell.y)


@dataclass(frozen=True, slots=True)
class OwnRandomness(Square):
    """Asks the machine for randomness and not the cell."""

    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, np.random.default_rng().random(), out=cell.y)


@dataclass(frozen=True, slots=True)
class ThreadsDiffer(Square):
    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.x, out=cell.y)
        if cell.threads > 1:
            np.nextafter(cell.y, 9, out=cell.y)


@dataclass(frozen=True, slots=True)
class HidesNaN(Square):
    def forward(self, cell: Cell) -> None:
        np.multiply(cell.x, cell.x, out=cell.y)
        np.nan_to_num(cell.y, copy=False)


@dataclass(frozen=True, slots=True)
class DividesByZero(Square):
    """y = x² / |x|."""

    def forward(self, cell: Cell) -> None:
        np.abs(cell.x, out=cell.y)
        with np.errstate(invalid="ignore"):
            np.divide(cell.x, cell.y, out=cell.y)
        np.multiply(cell.x, cell.y, out=cell.y)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            np.sign(cell.x, out=cell.d_x)
            np.multiply(cell.d_x, cell.d_y, out=cell.d_x)


@dataclass(frozen=True, slots=True)
class ReadsItsNeighbour(Square):
    """y = x + the row above it, and says that it reads its own place only."""

    def reads(self, shape: Shape) -> Reads:
        return Window((1, 1), (1, 1), (0, 0), all_channels=False)

    def forward(self, cell: Cell) -> None:
        np.copyto(cell.y, cell.x)
        np.add(cell.y[:, 1:], cell.x[:, :-1], out=cell.y[:, 1:])

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            np.copyto(cell.d_x, cell.d_y)
            np.add(cell.d_x[:, :-1], cell.d_y[:, 1:], out=cell.d_x[:, :-1])


@dataclass(frozen=True, slots=True)
class ForgetsToBegin(Square):
    def tensors(self, shape: Shape) -> dict[str, Shape]:
        return {"gain": shape}

    def init(self, params, shape, rng):  # type: ignore[no-untyped-def]
        params[0][1:] = 1


@dataclass(frozen=True, slots=True)
class SquaredLoss(Loss):
    """½ (s - t)², as it should be."""

    targets: ClassVar = "values"

    def n_outputs(self, n_targets: int) -> tuple[int, ...]:
        return (n_targets,)

    def apply(self, scores, target, d_scores):  # type: ignore[no-untyped-def]
        np.subtract(scores, target, out=d_scores)
        total = 0.5 * float(np.vdot(d_scores, d_scores))
        np.divide(d_scores, scores.shape[1], out=d_scores)
        return total, 0

    def predict(self, scores):  # type: ignore[no-untyped-def]
        return scores


@dataclass(frozen=True, slots=True)
class GradientOfTheSum(SquaredLoss):
    """Forgets that the gradient is that of the mean."""

    def apply(self, scores, target, d_scores):  # type: ignore[no-untyped-def]
        np.subtract(scores, target, out=d_scores)
        return 0.5 * float(np.vdot(d_scores, d_scores)), 0


@dataclass(frozen=True, slots=True)
class MeanForSum(SquaredLoss):
    """Returns the mean of the losses where the sum is asked for."""

    def apply(self, scores, target, d_scores):  # type: ignore[no-untyped-def]
        total, right = SquaredLoss.apply(self, scores, target, d_scores)
        return total / scores.shape[1], right


@dataclass(frozen=True, slots=True)
class CountsValuesAsRight(SquaredLoss):
    def apply(self, scores, target, d_scores):  # type: ignore[no-untyped-def]
        return SquaredLoss.apply(self, scores, target, d_scores)[0], scores.shape[1]
