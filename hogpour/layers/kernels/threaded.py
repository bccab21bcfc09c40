"""One loop nest, two compiled kernels: on one thread, and with its outermost ``prange`` over the threads of a replica.

A parallel kernel costs several microseconds to start, even on one thread, and seconds more to compile, so replicas
with one thread (the default: as many replicas as cores) never see it. Each iteration of a ``prange`` writes only what
it owns, in the order of the serial loop: both kernels give the same bits. BLAS does not promise that: it may divide a
product among threads by another order of sums. Where a layer calls it (``Linear`` above 64 examples), equal bits need
the same number of kernel threads.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from numba import types

from hogpour.core.kernels.jit import intrinsic, njit

__all__ = ["Threaded", "own_code"]


@intrinsic
def own_code(typing):
    """Keep the function that calls this out of its callers: LLVM may not inline it.

    For the body of a prange: numba's parallel kernel would otherwise hold, and compile, several copies of it.
    """

    def generate(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


class Threaded:
    """The serial and the parallel kernel of one function, compiled when first used. A decorator."""

    __slots__ = ("_parallel", "_serial")

    def __init__(self, function: Callable[..., Any]) -> None:
        assert isinstance(function, FunctionType)
        # numba's cache tells kernels apart by qualified name, not by options; without a name of its own the parallel
        # kernel would be loaded in place of the serial one.
        twin = FunctionType(function.__code__, function.__globals__, function.__name__, None, function.__closure__)
        twin.__qualname__ = f"{function.__qualname__}_parallel"
        twin.__module__ = function.__module__
        self._serial: Callable[..., Any] = njit(cache=True, nogil=True)(function)
        self._parallel: Callable[..., Any] = njit(cache=True, nogil=True, parallel=True)(twin)

    def on(self, threads: int) -> Callable[..., Any]:
        """Return the kernel for this number of threads; call it with the arguments of the function."""
        return self._serial if threads == 1 else self._parallel
