"""Arithmetic on vectors that are cut into shards, whose results do not depend on how they are cut.

Two constructions, both of sums that are exact, and so the same in any order:

- **Inner products.** The products of a line of ``ALIGNMENT`` elements are added in one stated order; shards are cut at
  lines. The sums of lines are added without any rounding, into a fixed-size accumulator of ``WORDS`` integers
  (Kulisch's: a fixed-point number wide enough for every product of two float32). Accumulators of shards are added
  likewise, and whoever has them all rounds once.
- **Gradients of many blocks.** Each element of an addend is rounded to a multiple of one power of two, the grid, and
  summed in int64 (pre-rounding: Demmel & Nguyen, "Fast Reproducible Floating-Point Summation", 2013). The grid is the
  same for all blocks of an evaluation, so addends may come in any order and nothing is held back. Rejected: adding in
  the order of blocks, where one slow node holds up the memory of all blocks behind its own.

All others are element-wise: computed in float64, rounded to float32 once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hogpour.core.kernels.jit import Array, njit
from hogpour.core.spec import ALIGNMENT

__all__ = ["WORDS", "add_rounded", "combine", "exact_dot", "exact_magnitude", "largest", "settle_sums", "value_of"]

_LIMBS = 20
"""Of 32 bits each, kept in int64, so that 2^30 additions need no carry. A line of products of float32 is a multiple of
2^-298 below 2^260; with 2^30 lines that are 589 bits, and 52 below them that are always 0."""

WORDS = _LIMBS + 1
"""Of an accumulator: the limbs, and how many sums of lines were not finite."""

_SHIFT = 350  # exponent of the lowest bit, negated

_CHUNK = 1 << 14  # elements of float64 that stay in L2 while vectors pass by

Floats = npt.NDArray[np.float32]


def value_of(words: Iterable[int]) -> float:
    """Return what an accumulator holds, rounded once; NaN where something in it was not finite.

    Args:
        words: ``WORDS`` integers; those of several accumulators are added one by one before.
    """
    *limbs, nonfinite = words
    if nonfinite:
        return math.nan
    total = sum(limb << 32 * k for k, limb in enumerate(limbs) if limb)
    return total / (1 << _SHIFT)  # division of integers is rounded correctly


def combine(out: Floats, terms: Sequence[tuple[float, Floats]], scratch: npt.NDArray[np.float64] | None = None) -> None:
    """out = sum of c v over the terms (c, v), added in their order in float64 and rounded once.

    Args:
        out: (n,) float32; may be one of the vectors.
        terms: at least one.
        scratch: float64 of at least 2^14 elements or n; None: made here.
    """
    if scratch is None:
        scratch = np.empty(min(_CHUNK, max(1, out.size)), np.float64)
    for start in range(0, out.size, scratch.size):
        part = slice(start, min(out.size, start + scratch.size))
        total = scratch[: part.stop - start]
        first, vector = terms[0]
        combine_set(total, vector[part], first)
        for factor, vector in terms[1:]:
            combine_add(total, vector[part], factor)
        combine_store(out[part], total)


@njit(cache=True, nogil=True)
def combine_set(total: Array, vector: Array, factor: float) -> None:
    for k in range(total.size):
        total[k] = factor * np.float64(vector[k])


@njit(cache=True, nogil=True)
def combine_add(total: Array, vector: Array, factor: float) -> None:
    for k in range(total.size):
        total[k] += factor * np.float64(vector[k])


@njit(cache=True, nogil=True)
def combine_store(out: Array, total: Array) -> None:
    for k in range(total.size):
        out[k] = np.float32(total[k])


@njit(cache=True, nogil=True)
def exact_dot(a: Array, b: Array, words: Array) -> None:
    """words += a · b, for (n,) float32 that begin at a line; ``WORDS`` int64. A product of float32 is exact in float64,
    so that whether the compiler fuses it with an addition makes no difference."""
    whole = a.size - a.size % ALIGNMENT
    for line in range(0, whole, ALIGNMENT):
        total = 0.0
        for half in range(2):
            k = line + 8 * half
            p0 = np.float64(a[k]) * np.float64(b[k]) + np.float64(a[k + 4]) * np.float64(b[k + 4])
            p1 = np.float64(a[k + 1]) * np.float64(b[k + 1]) + np.float64(a[k + 5]) * np.float64(b[k + 5])
            p2 = np.float64(a[k + 2]) * np.float64(b[k + 2]) + np.float64(a[k + 6]) * np.float64(b[k + 6])
            p3 = np.float64(a[k + 3]) * np.float64(b[k + 3]) + np.float64(a[k + 7]) * np.float64(b[k + 7])
            total += (p0 + p2) + (p1 + p3)
        _accumulate(words, total)
    if whole < a.size:
        total = 0.0
        for k in range(whole, a.size):
            total += np.float64(a[k]) * np.float64(b[k])
        _accumulate(words, total)


@njit(cache=True, nogil=True)
def exact_magnitude(a: Array, words: Array) -> None:
    """words += the sum of magnitudes of (n,) float32; ``WORDS`` int64. Every element for itself, without rounding."""
    for k in range(a.size):
        _accumulate(words, np.float64(abs(a[k])))


@njit(cache=True, nogil=True, inline="always")
def _accumulate(words: Array, value: float) -> None:
    """Add one float64 to an accumulator without rounding."""
    if value == 0.0:
        return
    if not np.isfinite(value):
        words[words.size - 1] += 1
        return
    fraction, exponent = math.frexp(value)
    mantissa = np.int64(fraction * 9007199254740992.0)  # 2^53: exact
    sign = np.int64(1)
    if mantissa < 0:
        sign, mantissa = np.int64(-1), -mantissa
    place = exponent - 53 + _SHIFT
    limb, shift = place >> 5, np.int64(place & 31)
    low = np.uint64(mantissa & np.int64(0xFFFFFFFF)) << np.uint64(shift)
    high = np.uint64(mantissa >> np.int64(32)) << np.uint64(shift)
    words[limb] += sign * np.int64(low & np.uint64(0xFFFFFFFF))
    words[limb + 1] += sign * (np.int64(low >> np.uint64(32)) + np.int64(high & np.uint64(0xFFFFFFFF)))
    words[limb + 2] += sign * np.int64(high >> np.uint64(32))


@njit(cache=True, nogil=True)
def largest(vector: Array) -> np.float64:
    """Return the largest magnitude in (n,) float32, 0 for none; infinity where something is not finite."""
    most = np.float32(0)
    nonfinite = False
    for k in range(vector.size):
        size = abs(vector[k])
        nonfinite |= not size < np.inf
        most = max(most, size) if size == size else most
    return np.float64(np.inf) if nonfinite else np.float64(most)


@njit(cache=True, nogil=True)
def add_rounded(total: Array, addend: Array, per_grid: float) -> None:
    """total += addend in grids: (n,) int64, (n,) float32, and 1 / grid, a power of two. The caller knows that no sum
    leaves int64."""
    for k in range(total.size):
        total[k] += np.int64(np.rint(np.float64(addend[k]) * per_grid))


@njit(cache=True, nogil=True)
def settle_sums(out: Array, total: Array, grid: float, decay: float, params: Array) -> None:
    """out = total grid + decay params: the sum of what was added, and L2's part of the gradient, rounded once."""
    if decay == 0.0:
        for k in range(total.size):
            out[k] = np.float32(np.float64(total[k]) * grid)
    else:
        for k in range(total.size):
            out[k] = np.float32(np.float64(total[k]) * grid + decay * np.float64(params[k]))
