"""What the contract tests measure with: difference quotients, comparisons that say where, allocations in a step.

Knows no layers and no losses. Everything raises AssertionError with a message that names the place.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["check_slopes", "distinct", "expect", "expect_close", "expect_no_allocation", "expect_same",
           "expect_written", "first_place"]  # fmt: skip

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

STEPS = (1e-4, 1e-6)
"""Distances of the difference quotients. A coordinate may have a kink within the first; then the second decides."""
RTOL = 1e-6
"""Of gradients against difference quotients; their own error is about 1e-10 of the outputs."""
N_PLACES = 40
"""Coordinates of each tensor whose gradient is compared, drawn from the seed."""
SPARE_BYTES = 1 << 13
"""What a step may take for Python's own small objects."""


def distinct(shape: Shape, rng: np.random.Generator) -> Array:
    """Return shuffled numbers, any two at least 1e-3 apart and none within 5e-4 of 0 or ±1: away from kinks."""
    n = prod(shape)
    numbers = (np.arange(n) - n // 2 + 0.5) * max(3.9 / n, 1e-3)
    return rng.permutation(numbers).reshape(shape)


def check_slopes(
    name: str, forward: Callable[[], Array], d_y: Array, source: Array, got: Array, rng: np.random.Generator
) -> None:
    """Compare d(Σ d_y · forward()) / d source with ``got``, at some places of source, which is restored."""
    flat, slopes = source.reshape(-1), got.reshape(-1)
    scale = float(np.abs(slopes).max(initial=0.0))
    for k in rng.permutation(flat.size)[:N_PLACES]:
        seen = []
        for step, atol in zip(STEPS, (1e-9, 1e-8)):
            slope = _difference_quotient(forward, d_y, flat, k, step)
            if abs(slope - slopes[k]) <= RTOL * abs(slope) + atol * (1.0 + scale):
                break
            seen.append(slope)
        else:
            place = [int(d) for d in np.unravel_index(k, source.shape)]
            raise AssertionError(f"{name}{place} = {slopes[k]:.9g}, difference quotients give "
                                 f"{' and '.join(f'{s:.9g}' for s in seen)}")  # fmt: skip


def _difference_quotient(forward: Callable[[], Array], d_y: Array, flat: Array, k: int, step: float) -> float:
    """Richardson's combination of two central differences: its error falls with the fourth power of the step."""
    at = flat[k]
    quotients = []
    for h in (step, step / 2):
        flat[k] = at + h
        above = forward()
        flat[k] = at - h
        # The difference before the sum: the large common part cancels without rounding.
        quotients.append(float(np.sum(d_y * (above - forward()))) / (2 * h))
    flat[k] = at
    return (4 * quotients[1] - quotients[0]) / 3


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def expect_written(name: str, moment: str, arrays: dict[str, Array]) -> None:
    for which, array in arrays.items():
        left = np.isnan(array)
        expect(not left.any(), f"{name}: {moment} left {which}{first_place(left)} unwritten, or wrote NaN")


def expect_same(message: str, expected: dict[str, Array], got: dict[str, Array]) -> None:
    for which, array in expected.items():
        differs = (array != got[which]) & ~(np.isnan(array) & np.isnan(got[which]))
        expect(not differs.any(), f"{message}: {which}{first_place(differs)}")


def expect_close(message: str, expected: Array, got: Array, rtol: float) -> None:
    error = np.abs(expected - got)
    far = ~(error <= rtol * max(float(np.abs(expected).max(initial=0.0)), 1e-6))
    expect(not far.any(), f"{message}: at {first_place(far)} the error is {error.max():.3g}, expected at most "
                          f"{rtol:g} of the largest number")  # fmt: skip


def first_place(where: Array) -> str:
    """First true place of ``where``, in words."""
    return str([int(d) for d in np.argwhere(where)[0]]) if where.any() else ""


def expect_no_allocation(name: str, step: Callable[[], object]) -> None:
    """numpy and numba report their arrays to tracemalloc, also those that are gone at the end of the step.

    What numpy's own loops buffer (64 KiB at most) is nobody's fault; it is made small for the measurement.
    """
    step()  # compiles
    with _tracing():
        step()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        step()
        taken = tracemalloc.get_traced_memory()[1] - before
    expect(taken <= SPARE_BYTES, f"{name}: a step allocates {taken} bytes, expected none: declare scratch instead")


@contextmanager
def _tracing() -> Iterator[None]:
    was_tracing, buffer_elements = tracemalloc.is_tracing(), np.setbufsize(64)
    if not was_tracing:
        tracemalloc.start()
    try:
        yield
    finally:
        np.setbufsize(buffer_elements)
        if not was_tracing:
            tracemalloc.stop()
