"""Loops over whole vectors that several rooms need: copy, scale, add, look for what is not finite.

All vectors of a call are (n,) of one dtype and do not overlap. Any may be live shared memory (``shm/params.py``): each
element is loaded once and stored once, at its own address.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit

__all__ = ["vector_add", "vector_copy", "vector_is_finite", "vector_scale"]


@njit(cache=True, nogil=True)
def vector_copy(out: Array, vector: Array) -> None:
    """out = vector, by aligned element stores."""
    for k in range(out.size):
        out[k] = vector[k]


@njit(cache=True, nogil=True)
def vector_scale(out: Array, vector: Array, factor: float | np.float32) -> None:
    """out = factor · vector; the factor is of the vectors' dtype."""
    for k in range(out.size):
        out[k] = factor * vector[k]


@njit(cache=True, nogil=True)
def vector_add(out: Array, vector: Array, factor: float | np.float32) -> None:
    """out += factor · vector; the factor is of the vectors' dtype."""
    for k in range(out.size):
        out[k] += factor * vector[k]


@njit(cache=True, nogil=True)
def vector_is_finite(vector: Array) -> bool:
    """Whether a float32 vector holds neither an infinity nor a NaN: the bits of both are at least those of infinity.

    A maximum of integers, of which as many at once are taken as a register holds; a test of each, or a loop that ends
    early, is scalar.
    """
    bits, largest = vector.view(np.uint32), np.uint32(0)
    for k in range(bits.size):
        largest = max(largest, bits[k] & np.uint32(0x7FFFFFFF))
    return bool(largest < np.uint32(0x7F800000))
