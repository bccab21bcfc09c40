"""numba's decorators with types, which numba does not state: a kernel keeps the signature that it was written with.

Only files with kernels import this one, as numba takes its time to load and ``--help`` must do without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy.typing as npt

__all__ = ["Array", "intrinsic", "njit", "prange"]

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
else:
    from numba import njit, prange
    from numba.extending import intrinsic
