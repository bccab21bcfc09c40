"""LocalContrastNorm: what differs from the neighbourhood, measured in units of how much the neighbourhood differs.

    v = x - A x                     subtractive: A is the mean over the window, over all channels
    y = v / √(floor² + A v²)        divisive: by the local standard deviation

    A z [r, c] = (1 / channels) Σ_i,p,q w[p, q] z[i, r + p, c + q],  the same for every channel;  Σ_p,q w[p, q] = 1

Jarrett et al. 2009 (after Pinto et al. 2008), the normalisation of DistBelief's locally connected networks:
v = x - Σ w x and y = v / max(c, σ), with a Gaussian w of 9 x 9 and c the mean of σ over the image. Where we differ, or
the papers are silent:

- The floor is a constant and joins the variance smoothly. max() has a kink, and the mean of σ would make every output
  depend on the whole image; with a constant an output unit reads a window, and the gradient below is exact.
- At the border the weights of the places that exist are scaled to a sum of 1, so that a constant image becomes 0
  everywhere. The papers do not say.
- The Gaussian has a standard deviation of size / 4. The papers do not say.

Backward, with t = √(floor² + A v²) and Aᵀ the transpose, whose result again serves every channel:

    d_v = d_y / t + v · Aᵀ(-Σ_i d_y v / t³) / channels        d_x = d_v - Aᵀ(Σ_i d_v) / channels

A window is a product of a column and a row of weights, so A costs 2 · size multiplications per place, not size².
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import ConfigError
from hogpour.core.limits import FINITE, TINY, Count, Range
from hogpour.layers.base import Cell, Scratch, Shape, Window
from hogpour.layers.kernels.contrast import (
    average_channels,
    average_products,
    differentiate_quotient,
    divide_by_deviation,
    divide_by_square,
    smooth_columns,
    smooth_rows,
    subtract_plane,
)
from hogpour.layers.windows import Windowed

__all__ = ["LocalContrastNorm"]


@dataclass(frozen=True, slots=True)
class LocalContrastNorm(Windowed):
    """Subtractive and divisive normalisation over a window of all channels."""

    size: Count = 9
    """Rows and columns of the window, odd. 9: Jarrett et al."""
    window: Literal["gaussian", "uniform"] = "gaussian"
    """How the places of the window are weighted."""
    floor: Annotated[float, Range(TINY, FINITE, "more than 0")] = 0.1
    """Standard deviation under which contrast fades instead of being amplified; a tenth of the range of
    pixels scaled to 0..1."""

    def __post_init__(self) -> None:
        Windowed.__post_init__(self)
        if self.size % 2 == 0:
            raise ConfigError(f"size = {self.size}, expected an odd number")

    def scratch(self, shape: Shape) -> Scratch:
        return {"deviation": (shape[1:], None), "plane": (shape[1:], None), "between": (shape[1:], None)}

    def reads(self, shape: Shape) -> Window:
        """Twice the window: the deviation is that of differences, each from a mean of its own."""
        return Window((2 * self.size - 1,) * 2, (1, 1), (self.size - 1,) * 2, all_channels=True)

    def forward(self, cell: Cell) -> None:
        deviation, plane, between = cell.scratch
        channels = cell.x.shape[0]
        x, y, flat = cell.x.reshape(channels, -1), cell.y.reshape(channels, -1), plane.reshape(-1)
        average_channels(x, flat)
        self._smooth(plane, between)
        subtract_plane(x, flat, y)
        average_products(y, y, flat)
        self._smooth(plane, between)
        divide_by_deviation(y, flat, self.floor, deviation.reshape(-1))

    def backward(self, cell: Cell) -> None:
        if cell.d_x is None:
            return
        deviation, plane, between = cell.scratch
        channels = cell.x.shape[0]
        y, d_y, d_x = (a.reshape(channels, -1) for a in (cell.y, cell.d_y, cell.d_x))
        flat, deviation = plane.reshape(-1), deviation.reshape(-1)
        average_products(d_y, y, flat)
        divide_by_square(flat, deviation)
        self._smooth(plane, between, transposed=True)
        differentiate_quotient(d_y, y, flat, deviation, d_x)
        average_channels(d_x, flat)
        self._smooth(plane, between, transposed=True)
        subtract_plane(d_x, flat, d_x)

    def _smooth(self, plane: npt.NDArray[Any], between: npt.NDArray[Any], transposed: bool = False) -> None:
        """Replace a plane by its weighted mean over the window, or by the transpose of that."""
        along_rows, along_columns = (
            mean_matrix(length, self.size, self.window, plane.dtype.char, transposed) for length in plane.shape[:2]
        )
        smooth_rows(plane, along_rows, self.size // 2, between)
        smooth_columns(between, along_columns, self.size // 2, plane)


@lru_cache(maxsize=64)
def mean_matrix(length: int, size: int, window: str, dtype: str, transposed: bool) -> npt.NDArray[Any]:
    """Return (length, length): row r holds the weights of the window around r, cut at the border, of sum 1.

    Made once and kept, because a step allocates nothing.
    """
    distance = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-0.5 * (distance / (size / 4)) ** 2) if window == "gaussian" else np.ones((length, length))
    weights[np.abs(distance) > size // 2] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.ascontiguousarray(weights.T if transposed else weights, dtype)
