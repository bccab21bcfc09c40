"""Dropout: while training, each input becomes 0 with probability ``rate``, and the others are scaled to keep the mean.

    y = x · keep        keep = 0 with probability rate, else 1 / (1 - rate)        d_x = d_y · keep

Hinton et al. 2012, scaled while training instead of in evaluation, as everywhere today; in evaluation y = x.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nextafter
from typing import Annotated, ClassVar

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.core.limits import Range
from hogpour.layers.base import Cell, Layer, Reads, Scratch, Shape

__all__ = ["Dropout"]


@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """Dropout of single inputs, or of whole channels."""

    random: ClassVar[bool] = True

    rate: Annotated[float, Range(0, nextafter(1, 0), "at least 0 and less than 1")]
    """Probability of being dropped."""
    whole_channels: bool = False
    """True: all rows and columns of a channel are dropped together, for each example anew."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def scratch(self, shape: Shape) -> Scratch:
        return {"keep": (shape[:1] if self.whole_channels else shape, None)}

    def reads(self, shape: Shape) -> Reads:
        return "same"

    def forward(self, cell: Cell) -> None:
        if cell.rng is None:
            np.copyto(cell.y, cell.x)
        else:
            (keep,) = cell.scratch
            draw_keep(keep.reshape(-1), self.rate, *cell.rng.integers(1 << 32, size=2, dtype=np.uint32))
            multiply(cell.x, keep, cell.y)

    def backward(self, cell: Cell) -> None:
        if cell.d_x is None:
            return
        if cell.rng is None:
            np.copyto(cell.d_x, cell.d_y)
        else:
            multiply(cell.d_y, cell.scratch[0], cell.d_x)


def multiply(x: Array, keep: Array, y: Array) -> None:
    """y = x · keep, where a channel's keep serves all its rows and columns."""
    batch = x.shape[-1]
    scale_rows(x.reshape(-1, batch), keep.reshape(-1, batch), y.reshape(-1, batch))


@njit(inline="always")
def _mix(x: np.uint32) -> np.uint32:
    """A permutation of the 32-bit numbers in which every bit of the result depends on every bit of x.

    Two rounds of shift and multiply, with the constants that Wellons found by search ("lowbias32", 2018).
    """
    x = np.uint32(x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = np.uint32(np.uint32(x) ^ (np.uint32(x) >> np.uint32(15))) * np.uint32(0x846CA68B)
    return np.uint32(np.uint32(x) ^ (np.uint32(x) >> np.uint32(16)))


@njit(cache=True, nogil=True)
def draw_keep(keep: Array, rate: float, first: np.uint32, second: np.uint32) -> None:
    """keep becomes 0 with probability rate, else 1 / (1 - rate): a function of its index and the two seeds, uint32.

    Drawn here and not by the generator, whose loop is serial: a fifth of the time.
    """
    zero, scale = keep.dtype.type(0), keep.dtype.type(1 / (1 - rate))
    limit = np.uint32(rate * 4294967296.0)
    for k in range(keep.size):
        keep[k] = zero if _mix(_mix(np.uint32(k) ^ first) ^ second) < limit else scale


@njit(cache=True, nogil=True)
def scale_rows(x: Array, keep: Array, y: Array) -> None:
    """x, y: (n, batch); keep: (m, batch), each row of it serves n / m rows of x."""
    per_keep = x.shape[0] // keep.shape[0]
    for channel in range(keep.shape[0]):
        for row in range(channel * per_keep, (channel + 1) * per_keep):
            for k in range(x.shape[1]):
                y[row, k] = x[row, k] * keep[channel, k]
