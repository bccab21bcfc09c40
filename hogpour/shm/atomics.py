"""Atomic operations on array elements, as numba intrinsics on LLVM's ``atomicrmw`` and atomic loads and stores.

For counters and publications only: an ``atomicrmw`` on a float costs about 20 plain adds, so parameters are written
without it (see ``params.py``). All operations are sequentially consistent. The arrays are C-contiguous and elements
are aligned to their size, as everything in a segment is. Call these from kernels, not from Python.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from hogpour.core.kernels.jit import Array, intrinsic, njit

__all__ = ["atomic_add", "atomic_exchange_if", "atomic_load", "atomic_store", "fetch_add"]


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def atomic_add(typing, array, index, value):
    """array[index] += value, indivisibly, and return what was there before. Integers and floats."""
    operation = "fadd" if isinstance(array.dtype, types.Float) else "add"

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1])
        return builder.atomic_rmw(operation, pointer, args[2], "seq_cst")

    return array.dtype(array, types.intp, array.dtype), generate


@intrinsic
def atomic_load(typing, array, index):
    """Return array[index]; nothing that the program does later is done before it."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1])
        return builder.load_atomic(pointer, "seq_cst", array.dtype.bitwidth // 8)

    return array.dtype(array, types.intp), generate


@intrinsic
def atomic_store(typing, array, index, value):
    """array[index] = value; everything that the program did before is visible to whoever loads it."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1])
        builder.store_atomic(args[2], pointer, "seq_cst", array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), generate


@intrinsic
def atomic_exchange_if(typing, array, index, expected, value):
    """Where array[index] is ``expected``, store ``value``, indivisibly; return whether it was. Integers."""

    def generate(context, builder, signature, args):
        pointer = _pointer(context, builder, array, args[0], args[1])
        return builder.extract_value(builder.cmpxchg(pointer, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return types.boolean(array, types.intp, array.dtype, array.dtype), generate


@njit(cache=True, nogil=True)
def fetch_add(array: Array, index: int, value: int) -> int:
    """``atomic_add`` for callers in Python; array is one-dimensional."""
    return atomic_add(array, index, array.dtype.type(value))
