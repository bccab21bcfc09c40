"""Names of features to numbers, and rows in which the values of one number are summed.

    h = 14695981039346656037;   for each byte: h = (h xor byte) · 1099511628211 mod 2^64;   number = mixed(h) mod 2^bits

FNV-1a (Fowler, Noll, Vo) takes byte after byte, so that where a name ends is found while it is hashed; the last steps
of SplitMix64 spread what it found over all bits. Model files depend on every one of these numbers: they stay for ever.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit
from hogpour.data.kernels.text import ONE, number_word

__all__ = ["BEGIN", "FEWEST_SLOTS", "add", "grown", "mixed", "number_or_given", "with_byte"]

BEGIN = np.uint64(14695981039346656037)
_PRIME = np.uint64(1099511628211)
FEWEST_SLOTS = 1 << 10
_ZERO, _NINE = np.uint8(ord("0")), np.uint8(9)


@njit(inline="always")
def mixed(x):
    """Return the number that SplitMix64 makes of its state (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(inline="always")
def with_byte(h, byte):
    """Return the hash of a name with one more byte."""
    return (h ^ np.uint64(byte)) * _PRIME


@njit(cache=True, nogil=True)
def add(index: np.uint64, value: float, begin: int, n: int, indices: Array, values: Array, slots: Array) -> int:
    """Add a feature to the row that begins at ``begin`` of ``indices`` and ``values``, and has got n there; return its
    new n. Features keep the order in which they came first.

    Args:
        slots: int64, a power of two of them, more than twice the features of the row: where the features of this row
            are, found by their numbers. A place before ``begin`` is of another row: the slot is free.
    """
    slot = np.intp(index) & (slots.size - 1)
    while slots[slot] >= begin:
        if indices[slots[slot]] == index:
            values[slots[slot]] += value
            return n
        slot = (slot + 1) & (slots.size - 1)
    slots[slot], indices[n], values[n] = n, index, value
    return n + 1


@njit(cache=True, nogil=True)
def grown(begin: int, n: int, indices: Array, slots: Array) -> Array:
    """Return twice as many slots for the same row, new."""
    more = np.full(2 * slots.size, -1, np.int64)
    for k in range(begin, n):
        slot = np.intp(indices[k]) & (more.size - 1)
        while more[slot] >= 0:
            slot = (slot + 1) & (more.size - 1)
        more[slot] = k
    return more


@njit(cache=True, nogil=True)
def number_or_given(
    text: Array, at: np.uint64, ends: Array, given: Array, odd: Array, n_odd: int
) -> tuple[float, np.uint64, int]:
    """Return the number at ``at``, where its word ends, and how many odd words there were up to here: those that are no
    plain number, whose numbers Python must find.

    Args:
        ends: as in ``number_word``.
        given: float64, what the odd words are, in their order; NaN for one that is no number. (0,): not known yet;
            they are taken for 1.
        odd: (m, 2) int64, written where nothing is given: begin and end of each.
    """
    digit = np.uint8(text[at] - _ZERO)
    if digit <= _NINE and ends[text[at + ONE]]:  # as most are
        return np.float64(digit), at + ONE, n_odd
    plain, number, end = number_word(text, at, ends)
    if not plain:
        if given.size:
            number = given[n_odd]
        else:
            odd[n_odd, 0], odd[n_odd, 1], number = at, end, 1.0
        n_odd += 1
    return number, end, n_odd
