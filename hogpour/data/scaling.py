"""Scaling of features: statistics of the training set, applied alike to everything that the model sees.

Knows arrays only. The parameters go into the model file, so that ``predict`` scales new data as training did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from hogpour.core.errors import ConfigError, DataError, LayoutError

__all__ = ["LARGEST", "Kind", "Scaling", "extent", "is_finite"]

Kind = Literal["none", "unit", "standard"]

LARGEST = np.float64(np.finfo(np.float32).max)
"""A float64, not a number of Python, which numpy would take for the array's own type: as a float16 it is infinite."""
_SMALLEST_SPAN = 1e-150


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What is subtracted from each feature, and what it is then multiplied by."""

    kind: Kind
    """"none": nothing is done. "unit": the training set's least and greatest value become 0 and 1 (others may lie
    outside). "standard": mean 0, variance 1 in the training set."""
    offset: npt.NDArray[np.floating]
    """(*shape) float64, one for each feature; (0,) for "none". float32 in older model files."""
    factor: npt.NDArray[np.floating]
    """(*shape), of the same type; 0 for a feature that was constant in the training set: it told the model nothing
    there, so it stays 0 everywhere. (0,) for "none"."""

    @classmethod
    def none(cls) -> Self:
        """Return the scaling that changes nothing."""
        return cls("none", np.zeros(0), np.zeros(0))

    @classmethod
    def fit(cls, kind: Kind, pieces: Iterable[npt.NDArray[Any]]) -> Self:
        """Take the statistics of a training set.

        Args:
            pieces: each (n, *shape) numbers, finite, n > 0, read only; walked through three times.

        Raises:
            ConfigError: no such kind.
        """
        if kind not in get_args(Kind):
            raise ConfigError(f'scale = "{kind}" is not known; known: {", ".join(get_args(Kind))}')
        if kind == "none":
            return cls.none()
        low, high = extent(pieces)
        offset, span = low, high - low
        # Constant is what does not vary, or by so little that squares vanish; a deviation computed in floating point
        # need not come out as 0 there.
        constant = span < _SMALLEST_SPAN
        if kind == "standard":
            offset, span = _mean_and_deviation(pieces)
        return cls(kind, offset, np.where(constant, 0.0, 1 / np.where(constant, 1.0, span)))

    def apply(self, x: npt.NDArray[Any], out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Return ``(x - offset) * factor``, computed in float64 and rounded at the end.

        Args:
            x: (n, *shape) numbers, or flat, or in another shape of as many features.
            out: like x, float32, and may be x itself: scaled in place. None: a new array.

        Raises:
            DataError: the training set had another number of features.
        """
        if out is None:
            out = np.empty(x.shape, np.float32)
        shape = x.shape[1:]
        # Values far outside of the training range overflow to infinity; the caller checks that all is finite.
        with np.errstate(over="ignore"):
            if self.kind == "none":
                out[...] = x
                return out
            if prod(shape) != self.offset.size:
                raise DataError(f"examples have shape {shape}, expected {self.offset.shape} as scaled in training")
            scaled = np.subtract(x, self.offset.reshape(shape), dtype=np.float64)
            scaled *= self.factor.reshape(shape)
            out[...] = scaled
        return out

    def to_tensors(self) -> dict[str, npt.NDArray[np.floating]]:
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
        if offset.dtype not in (np.float32, np.float64) or factor.dtype != offset.dtype:
            raise LayoutError(f"scaling: offset is {offset.dtype}, factor {factor.dtype}, expected float64")
        if not (np.isfinite(offset).all() and np.isfinite(factor).all()):
            raise LayoutError("scaling: holds numbers that are not finite, by which nothing can be scaled")
        return cls(kind, offset, factor)  # type: ignore[arg-type]


def is_finite(values: npt.NDArray[Any]) -> bool:
    """Return whether all values, at least one, are finite in float32."""
    # Least and greatest pass NaN on and need no temporary.
    with np.errstate(invalid="ignore"):
        return bool(values.min() >= -LARGEST) and bool(values.max() <= LARGEST)


def extent(pieces: Iterable[npt.NDArray[Any]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the least and the greatest value of each feature, each (*shape) float64."""
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    for piece in pieces:
        low, high = np.minimum(low, piece.min(axis=0)), np.maximum(high, piece.max(axis=0))
    return low, high


def _mean_and_deviation(pieces: Iterable[npt.NDArray[Any]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean and standard deviation (divided by n) over the rows, each (*shape) float64, in two passes."""
    n, total = 0, np.zeros(1)
    for piece in pieces:
        n, total = n + len(piece), total + piece.sum(axis=0, dtype=np.float64)
    mean = total / n
    squares = sum(np.square(np.subtract(piece, mean, dtype=np.float64)).sum(axis=0) for piece in pieces)
    return mean, np.sqrt(squares / n)
