"""Flatten: every axis of features becomes one. Free, because the batch is the last axis; ``Sequential`` puts it where
a layer wants one axis."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from hogpour.layers.base import Cell, Layer, Reads, Shape

__all__ = ["Flatten"]


@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """(channels, rows, columns) → (features,), in C order."""

    free: ClassVar[bool] = True

    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        """Do nothing: y is x."""

    def backward(self, cell: Cell) -> None:
        """Do nothing: d_x is d_y."""
