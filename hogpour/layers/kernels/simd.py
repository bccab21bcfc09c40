"""A vector of eight elements as a numba type, for rows of which each lies somewhere else: as long as their factors are.

    v = simd_load(x, i)          # x[i], ... x[i + WIDTH - 1], at any i
    simd_store(v * 2 + w, y, j)

Arithmetic is + - * / of two vectors, or of a vector and a number of its element type; ``root`` and ``choose`` take both
vectors and single numbers, so that one function can be a rule for both. Each operation is rounded by itself, as plain
code is: a kernel comes to the same bits by vectors and by single elements, but for the order of ``simd_sum``.

Why not plain loops: one over so few elements is not vectorised, as its arrays might overlap and asking costs more than
the loop; nor would it be in a register between two. Eight, as most models have a multiple of it, and AVX2 a register.
Nothing is bounds-checked.
"""

# numba's typing functions take their arguments by position and name types by value.
from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import overload, register_model

from hogpour.core.kernels.jit import intrinsic

__all__ = ["WIDTH", "choose", "root", "simd_load", "simd_store", "simd_sum", "simd_zeros"]

WIDTH = 8


class _Simd(types.Type):
    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Simd({dtype})")


@register_model(_Simd)
class _SimdModel(PrimitiveModel):
    def __init__(self, manager: Any, simd: _Simd) -> None:
        super().__init__(manager, simd, ir.VectorType(manager.lookup(simd.dtype).get_value_type(), WIDTH))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, i: Any) -> Any:
    """Address of WIDTH elements from i on."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_value_type(array_type.dtype), WIDTH)
    return builder.bitcast(builder.gep(data, [i]), ir.PointerType(vector))


@intrinsic
def simd_zeros(typing, like):
    """Return a vector of zeros of the element type of array ``like``."""

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return _Simd(like.dtype)(like), generate


@intrinsic
def simd_load(typing, x, i):
    """Return x[i], ... x[i + WIDTH - 1]."""

    def generate(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, x, *args))
        value.align = x.dtype.bitwidth // 8
        return value

    return _Simd(x.dtype)(x, types.intp), generate


@intrinsic
def simd_store(typing, value, x, i):
    """x[i], ... x[i + WIDTH - 1] = value."""

    def generate(context, builder, signature, args):
        builder.store(args[0], _pointer(context, builder, x, *args[1:])).align = x.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(value, x, types.intp), generate


@intrinsic
def simd_sum(typing, value):
    """Return the sum of the lanes, added by halves."""

    def generate(context, builder, signature, args):
        vector, width = args[0], WIDTH
        while width > 1:
            width //= 2
            parts = (
                builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), width), lanes))
                for lanes in (list(range(width)), list(range(width, 2 * width)))
            )
            vector = builder.fadd(*parts)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    return value.dtype(value), generate


def root(a: float) -> float:
    """Return the square root, of a number or of each lane."""
    return float(np.sqrt(a))


def choose(where: float, yes: float, no: float) -> float:
    """Return ``yes`` where ``where`` is not 0, NaN included, else ``no``; each lane for itself."""
    return yes if where != 0 else no


@intrinsic
def _simd_root(typing, a):
    def generate(context, builder, signature, args):
        name = f"llvm.sqrt.v{WIDTH}f{a.dtype.bitwidth}"
        kind = ir.FunctionType(args[0].type, [args[0].type])
        return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), args)

    return a(a), generate


@intrinsic
def _simd_choose(typing, where, yes, no):
    def generate(context, builder, signature, args):
        where, yes, no = args
        return builder.select(builder.fcmp_unordered("!=", where, ir.Constant(where.type, None)), yes, no)

    return where(where, yes, no), generate


@overload(root)
def _root_of(a):
    return (lambda a: _simd_root(a)) if isinstance(a, _Simd) else (lambda a: np.sqrt(a))


@overload(choose)
def _choice_of(where, yes, no):
    if isinstance(where, _Simd):
        return lambda where, yes, no: _simd_choose(where, yes, no)
    return lambda where, yes, no: yes if where != 0 else no


def _define(python: Any, instruction: str) -> None:
    @intrinsic
    def apply(typing, a, b):
        simd = a if isinstance(a, _Simd) else b

        def generate(context, builder, signature, args):
            lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
            wide = []
            for kind, value in zip(signature.args, args):
                if kind != simd:
                    nothing = ir.Constant(context.get_value_type(simd), ir.Undefined)
                    first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
                    value = builder.shuffle_vector(first, nothing, lanes)
                wide.append(value)
            return getattr(builder, instruction)(*wide)

        return simd(a, b), generate

    @overload(python)
    def of_vectors(a, b):
        for simd, other in ((a, b), (b, a)):
            if isinstance(simd, _Simd) and other in (simd, simd.dtype):
                return lambda a, b: apply(a, b)
        return None


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
