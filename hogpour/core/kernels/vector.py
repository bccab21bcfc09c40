"""Loops over whole vectors that several rooms need: copy, scale, add.

All vectors of a call are (n,) of one dtype and do not overlap. Any may be live shared memory (``shm/params.py``): each
element is loaded once and stored once, at its own address.
"""

from __future__ import annotations

import numpy as np

from hogpour.core.kernels.jit import Array, njit

__all__ = ["vector_add", "vector_copy", "vector_scale"]


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
