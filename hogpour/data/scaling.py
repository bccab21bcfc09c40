"""Scaling of features: statistics of the training set, applied alike to everything that the model sees.

Knows arrays only. The parameters go into the model file, so that ``predict`` scales new data as training did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import ConfigError, DataError, LayoutError

__all__ = ["LARGEST", "Kind", "Scaling", "is_finite"]

Kind = Literal["none", "unit", "standard"]

LARGEST = np.float64(np.finfo(np.float32).max)
"""A float64, not a number of Python, which numpy would take for the array's own type: as a float16 it is infinite."""
_PIECE_ELEMENTS = 1 << 20
"""Rows are taken in pieces of about so many elements: the float64 temporary stays at 8 MB however large the set."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What is subtracted from each feature, and what it is then multiplied by."""

    kind: Kind
    """"none": nothing is done. "unit": the training set's least and greatest value become 0 and 1 (others may lie
    outside). "standard": mean 0, variance 1 in the training set."""
    offset: npt.NDArray[np.float32]
    """(*shape) float32, one for each feature; (0,) for "none"."""
    factor: npt.NDArray[np.float32]
    """(*shape) float32; 0 for a feature that was constant in the training set: it told the model nothing there, so it
    stays 0 everywhere. (0,) for "none"."""

    @classmethod
    def none(cls) -> Self:
        """Return the scaling that changes nothing."""
        return cls("none", np.zeros(0, np.float32), np.zeros(0, np.float32))

    @classmethod
    def fit(cls, kind: Kind, x: npt.NDArray[np.float32]) -> Self:
        """Take the statistics of a training set.

        Args:
            x: (n, *shape) float32, finite, n > 0, read only.

        Raises:
            ConfigError: no such kind.
            DataError: values lie too far apart for float32.
        """
        if kind not in get_args(Kind):
            raise ConfigError(f'scale = "{kind}" is not known; known: {", ".join(get_args(Kind))}')
        if kind == "none":
            return cls.none()
        low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
        span = high - low
        if span.max() > LARGEST:
            raise DataError(f"a feature spans {span.max():.3g}, more than float32 can scale ({LARGEST:.3g})")
        # Constant is what does not vary; a deviation computed in floating point need not come out as 0 there.
        constant = span == 0
        offset = low
        if kind == "standard":
            offset, span = _mean_and_deviation(x)
        # A span so small that its inverse overflows is no variation either.
        constant |= span < 1 / LARGEST
        factor = np.where(constant, 0.0, 1 / np.where(constant, 1.0, span))
        return cls(kind, offset.astype(np.float32), factor.astype(np.float32))

    def apply(self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Return ``(x - offset) * factor``.

        Args:
            x: (n, *shape) float32, or flat, or in another shape of as many features.
            out: like x, and may be x itself: scaled in place. None: a new array.

        Raises:
            DataError: the training set had another number of features.
        """
        if out is None:
            out = np.empty_like(x)
        if self.kind == "none":
            if out is not x:
                out[...] = x
            return out
        shape = x.shape[1:]
        if prod(shape) != self.offset.size:
            raise DataError(f"examples have shape {shape}, expected {self.offset.shape} as scaled in training")
        # Values far outside of the training range overflow to infinity; the caller checks that all is finite.
        with np.errstate(over="ignore"):
            np.subtract(x, self.offset.reshape(shape), out=out)
            np.multiply(out, self.factor.reshape(shape), out=out)
        return out

    def to_tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the arrays from which, with ``kind``, ``from_tensors`` makes an equal scaling; none for "none"."""
        return {} if self.kind == "none" else {"offset": self.offset, "factor": self.factor}

    @classmethod
    def from_tensors(cls, kind: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the scaling of which ``kind`` and ``to_tensors`` were kept in a file.

        Raises:
            LayoutError: they are not those of a scaling.
        """
        if kind == "none":
            return cls.none()
        if kind not in get_args(Kind):
            raise LayoutError(f'scaling: "{kind}" is not known; known: {", ".join(get_args(Kind))}')
        for name in ("offset", "factor"):
            if name not in tensors:
                raise LayoutError(f"scaling: the tensor {name!r} is missing")
        offset, factor = tensors["offset"], tensors["factor"]
        if offset.shape != factor.shape:
            raise LayoutError(f"scaling: offset has shape {offset.shape}, factor {factor.shape}")
        return cls(kind, offset.astype(np.float32), factor.astype(np.float32))  # type: ignore[arg-type]


def is_finite(values: npt.NDArray[Any]) -> bool:
    """Return whether all values, at least one, are finite in float32."""
    # Least and greatest pass NaN on and need no temporary.
    with np.errstate(invalid="ignore"):
        return bool(values.min() >= -LARGEST) and bool(values.max() <= LARGEST)


def _mean_and_deviation(x: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation (divided by n) over the rows, each (*shape) float64, in two passes."""
    rows = max(1, _PIECE_ELEMENTS * len(x) // max(1, x.size))
    pieces = [slice(start, start + rows) for start in range(0, len(x), rows)]
    total = np.zeros(x.shape[1:], np.float64)
    for piece in pieces:
        total += x[piece].sum(axis=0, dtype=np.float64)
    mean = total / len(x)
    squares = np.zeros(x.shape[1:], np.float64)
    for piece in pieces:
        squares += np.square(x[piece] - mean).sum(axis=0)
    return mean, np.sqrt(squares / len(x))
