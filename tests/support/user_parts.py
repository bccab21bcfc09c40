"""A user's own package, as far as hogpour can see: layers that job files name ``"support.user_parts:Scale"``."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

from hogpour.algos.schedule.base import Schedule
from hogpour.layers.base import Cell, Layer, Reads, Shape


@dataclass(frozen=True)
class Scale(Layer):
    """y = factor · x."""

    factor: float = 0.5

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        cell.y[...] = cell.x
        cell.y *= self.factor

    def backward(self, cell: Cell) -> None:
        if cell.d_x is not None:
            cell.d_x[...] = cell.d_y
            cell.d_x *= self.factor


def in_replica() -> bool:
    """Whether this code runs in a replica process."""
    spec = sys.modules["__main__"].__spec__
    return spec is not None and spec.name == "hogpour.machine.replica_process"


@dataclass(frozen=True)
class Raises(Scale):
    """Works in the node, raises in a replica."""

    def forward(self, cell: Cell) -> None:
        if in_replica():
            raise RuntimeError("a layer of the user's own is broken")
        super().forward(cell)


@dataclass(frozen=True)
class Exits(Scale):
    """Works in the node, ends a replica without a word."""

    def forward(self, cell: Cell) -> None:
        if in_replica():
            os._exit(7)
        super().forward(cell)


@dataclass(frozen=True)
class Divides(Scale):
    """Raises in its first step."""

    def forward(self, cell: Cell) -> None:
        cell.y[...] = 1 / (self.factor - self.factor)


@dataclass(frozen=True)
class ExplodesWhen(Schedule):
    """A constant rate until a file appears, then an enormous one."""

    mark: str

    def scale(self, epoch: float, epochs: int) -> float:
        return 1e25 if os.path.exists(self.mark) else 1.0


@dataclass(frozen=True)
class Slow(Scale):
    """Leaves the core to others for some seconds of each step of a replica: many of these fit on one machine."""

    factor: float = 1.0
    seconds: float = 0.05

    def forward(self, cell: Cell) -> None:
        if in_replica():
            time.sleep(self.seconds)
        super().forward(cell)
