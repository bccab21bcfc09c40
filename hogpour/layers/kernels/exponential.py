"""e to the power of a number, in a form that LLVM vectorises: numba's own calls the C library for each element.

    x = n ln 2 + r,  |r| <= ln 2 / 2,  exp(x) = 2^n (1 + r + r² p(r)),  p of degree 5

Cody and Waite 1980 split ln 2 in two, so that r is as exact as x; p is Moshier's (Cephes, expf). Operations are fused
(``llvm.fma``), so the bits are the same on every processor. An error is below 1 ulp (the test looks at every binade).
A result below 2^-126 is 0. 0.6 ns an element where numpy's takes 1.6 (EPYC, busy, 65,536 elements, best of 200).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import overload

from hogpour.core.kernels.jit import intrinsic

__all__ = ["exp", "fma"]

F = np.float32
LOG2_E, LN2_HIGH, LN2_LOW = F(1.44269504), F(0.693359375), F(-2.12194440e-4)
P5, P4, P3, P2 = F(1.9875691500e-4), F(1.3981999507e-3), F(8.3334519073e-3), F(4.1665795894e-2)
P1, P0 = F(1.6666665459e-1), F(5.0000001201e-1)
ROUND = F(3 << 22)
"""A number that is added rounds to a whole one, which is in the low bits then."""
LEAST, MOST = F(-87.33654), F(88.72283)
"""Arguments beyond which results are 0 and infinite."""
ZERO, ONE, INFINITE = F(0), F(1), F(np.inf)
ROUND_BITS, BIAS, SHIFT, HALF = np.int32(0x4B400000), np.int32(127), np.int32(23), np.int32(1)


SINGLE, WORD = types.float32, types.int32


@intrinsic
def fma(typing: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once; all of one type."""
    return x(x, x, x), lambda context, builder, signature, arguments: builder.fma(*arguments)


@intrinsic
def _bits_of(typing: Any, number: Any) -> Any:
    return WORD(SINGLE), lambda context, builder, signature, arguments: builder.bitcast(*arguments, ir.IntType(32))


@intrinsic
def _of_bits(typing: Any, bits: Any) -> Any:
    return SINGLE(WORD), lambda context, builder, signature, arguments: builder.bitcast(*arguments, ir.FloatType())


def exp(x: Any) -> Any:
    """Return e^x. In a kernel, of a float32, as above; else, as in tests in float64, numpy's."""
    return np.exp(x)


@overload(exp)
def _exp(x: Any) -> Any:
    return _exp_single if x == SINGLE else exp


def _exp_single(x: Any) -> Any:
    shifted = fma(x, LOG2_E, ROUND)
    n = shifted - ROUND
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    p = fma(fma(fma(fma(fma(P5, r, P4), r, P3), r, P2), r, P1), r, P0)
    near = fma(p, r * r, r) + ONE
    whole = _bits_of(shifted) - ROUND_BITS
    half = whole >> HALF  # 2^128 is no float32, two factors of it are
    result = near * _of_bits((half + BIAS) << SHIFT) * _of_bits((whole - half + BIAS) << SHIFT)
    result = ZERO if x < LEAST else result
    return INFINITE if x > MOST else result
