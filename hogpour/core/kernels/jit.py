"""numba's decorators with types, which numba does not state: a kernel keeps the signature that it was written with.

Only files with kernels import this one, as numba takes its time to load and ``--help`` must do without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy.typing as npt

from hogpour.core.errors import ConfigError, ResourceError

__all__ = ["Array", "compilations", "intrinsic", "njit", "prange"]

Array = npt.NDArray[Any]
"""C-contiguous; numba compiles for the dtype that is passed: float32 in training, float64 in most tests."""

if TYPE_CHECKING:
    Kernel = TypeVar("Kernel", bound=Callable[..., Any])

    def njit(
        *,
        cache: bool = False,
        nogil: bool = False,
        parallel: bool = False,
        inline: Literal["never", "always"] = "never",
        error_model: Literal["python", "numpy"] = "python",
    ) -> Callable[[Kernel], Kernel]: ...

    def intrinsic(*function: Callable[..., Any], prefer_literal: bool = False) -> Any: ...

    prange = range

    def compilations() -> int: ...

else:
    from pickle import UnpicklingError
    from types import MethodType

    import numba
    from numba import config, prange
    from numba.core import event
    from numba.core.runtime import rtsys
    from numba.extending import intrinsic

    if config.DISABLE_JIT:
        raise ConfigError("NUMBA_DISABLE_JIT is set, and kernels must be compiled; unset it")

    def _probe():
        pass

    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError as error:
        where = f"NUMBA_CACHE_DIR = {config.CACHE_DIR} cannot" if config.CACHE_DIR else "no folder can"
        text = f"{where} be written to keep compiled kernels; set NUMBA_CACHE_DIR to one that can"
        raise ResourceError(text) from error

    def _load(cache, signature, target):
        """Load a kernel from the cache without what numba would need to compile one.

        Before it loads, numba imports and registers all that it can compile: 0.75 s of the 3 s in which a node with
        cached kernels trains an epoch of digits. Whatever compiles after all has numba do so first. What a loaded
        kernel calls, numba's memory and its parallel loops, is set up here and by what was pickled with the kernel.
        """
        rtsys.initialize(target)
        with cache._guard_against_spurious_io_errors():
            try:
                return cache._load_overload(signature, target)
            except (EOFError, UnpicklingError):  # of a disk that was full, or of a power cut; compiled anew
                cache.flush()

    def njit(**options):
        decorate = numba.njit(**options)

        def decorated(function):
            kernel = decorate(function)
            if options.get("cache"):
                kernel._cache.load_overload = MethodType(_load, kernel._cache)
            return kernel

        return decorated

    class _Compilations(event.Listener):
        """Counts what is compiled, which what comes from the cache is not."""

        count = 0

        def on_start(self, event):
            self.count += 1

        def on_end(self, event):
            pass

    _compilations = _Compilations()
    event.register("numba:compile", _compilations)

    def compilations():
        """Return how many kernels this process has begun to compile."""
        return _compilations.count
