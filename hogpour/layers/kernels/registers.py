"""Vector registers as a numba type, and the LLVM instructions on them: what the operations of ``tile.py`` are made of.

Knows no loops and no layers. A ``Tile`` is a value that numba keeps in registers; ``Emit`` writes the instructions of
one operation on one tile.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import register_model

__all__ = ["INT32", "LANES", "WIDE", "Emit", "Tile"]

LANES = 16
"""Elements of a vector: one AVX-512 register of float32. Narrower processors use two or four registers for it."""

WIDE = get_host_cpu_features().get("avx512f", False)
"""Whether a vector is one register, of 32. Else it is two or more, and of a tile that was made for 32 most would lie in
memory: half the speed. numba keeps what it compiles for each processor apart."""

INT32 = ir.IntType(32)
_FLOAT_NAMES = {"float": "f32", "double": "f64"}


class Tile(types.Type):
    """numba type of ``rows x cols`` vectors of ``LANES`` elements."""

    def __init__(self, dtype: Any, rows: int, cols: int, masked: bool) -> None:
        self.dtype, self.rows, self.cols, self.masked = dtype, rows, cols, masked
        super().__init__(name=f"Tile({dtype}, {rows}, {cols}, {masked})")


@register_model(Tile)
class _TileModel(PrimitiveModel):
    def __init__(self, manager: Any, tile: Tile) -> None:
        element = manager.lookup(tile.dtype).get_value_type()
        super().__init__(manager, tile, ir.ArrayType(ir.VectorType(element, LANES), tile.rows * tile.cols))


class Emit:
    """LLVM instructions of one operation on one tile; ``values[r * cols + c]`` is register (r, c)."""

    def __init__(self, context: Any, builder: Any, tile: Tile, value: Any, live: Any = None) -> None:
        self.context, self.builder, self.tile = context, builder, tile
        self.vector = ir.VectorType(context.get_value_type(tile.dtype), LANES)
        self.bytes = tile.dtype.bitwidth // 8
        n = tile.rows * tile.cols
        self.values = [] if value is None else [builder.extract_value(value, k) for k in range(n)]
        if live is not None:
            self.set_mask(live)

    def set_mask(self, live: Any) -> None:
        if self.tile.masked:
            lane_numbers = ir.Constant(ir.VectorType(live.type, LANES), list(range(LANES)))
            self.mask = self.builder.icmp_signed("<", lane_numbers, self.splat(live))

    def splat(self, scalar: Any) -> Any:
        vector = ir.VectorType(scalar.type, LANES)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(INT32, 0))
        lanes = ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), lanes)

    def _call(self, name: str, result: Any, *args: Any) -> Any:
        kind = ir.FunctionType(result, [a.type for a in args])
        module = self.builder.module
        function = module.globals.get(name) or ir.Function(module, kind, name)
        return self.builder.call(function, args)

    @property
    def _suffix(self) -> str:
        return f"v{LANES}{_FLOAT_NAMES[str(self.vector.element)]}"

    def pointer(self, array_type: Any, array: Any, offset: Any, step: Any, k: int) -> Any:
        """Address of element ``offset + k * step``."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        if k:
            offset = self.builder.add(offset, self.builder.mul(step, ir.Constant(step.type, k)))
        return self.builder.gep(data, [offset])

    def load(self, pointer: Any) -> Any:
        pointer = self.builder.bitcast(pointer, ir.PointerType(self.vector))
        if self.tile.masked:
            zeros = ir.Constant(self.vector, [0.0] * LANES)
            name = f"llvm.masked.load.{self._suffix}.p0"
            return self._call(name, self.vector, pointer, ir.Constant(INT32, self.bytes), self.mask, zeros)
        value = self.builder.load(pointer)
        value.align = self.bytes
        return value

    def load_row(self, array_type: Any, array: Any, offset: Any, step: Any, r: int) -> list[Any]:
        """Vectors of row ``r``: elements offset + r*step + c*LANES + lane."""
        start = self.builder.add(offset, self.builder.mul(step, ir.Constant(step.type, r)))
        lanes = ir.Constant(start.type, LANES)
        return [self.load(self.pointer(array_type, array, start, lanes, c)) for c in range(self.tile.cols)]

    def store(self, value: Any, pointer: Any) -> None:
        pointer = self.builder.bitcast(pointer, ir.PointerType(self.vector))
        if self.tile.masked:
            name = f"llvm.masked.store.{self._suffix}.p0"
            self._call(name, ir.VoidType(), value, pointer, ir.Constant(INT32, self.bytes), self.mask)
        else:
            self.builder.store(value, pointer).align = self.bytes

    def load_splat(self, pointer: Any) -> Any:
        return self.splat(self.builder.load(pointer))

    def multiply_add(self, r: int, c: int, x: Any, y: Any) -> None:
        k = r * self.tile.cols + c
        self.values[k] = self._call(f"llvm.fma.{self._suffix}", self.vector, x, y, self.values[k])

    def add(self, r: int, c: int, x: Any) -> None:
        k = r * self.tile.cols + c
        self.values[k] = self.builder.fadd(self.values[k], x)

    def sums(self) -> list[Any]:
        """Add the lanes of every register; sum k is lane k % LANES of vector k // LANES.

        Lane i is added to lane i + width/2 until one is left. All registers go down together: at each level two
        vectors share one, so that 16 sums of 16 lanes take 15 additions and not 64.
        """
        nothing = ir.Constant(self.vector, ir.Undefined)
        done = []
        for start in range(0, len(self.values), LANES):
            vectors, width = self.values[start : start + LANES], LANES
            while width > 1:
                # Every vector holds LANES / width registers, each reduced to width lanes, in their order.
                width //= 2
                low = [k for k in range(2 * LANES) if k % (2 * width) < width]
                pairs = [(vectors[k], vectors[k + 1] if k + 1 < len(vectors) else nothing)
                         for k in range(0, len(vectors), 2)]  # fmt: skip
                vectors = [
                    self.builder.fadd(self.shuffle(a, b, low), self.shuffle(a, b, [k + width for k in low]))
                    for a, b in pairs
                ]
            done += vectors
        return done

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))

    def tile_value(self) -> Any:
        value = ir.Constant(ir.ArrayType(self.vector, len(self.values)), ir.Undefined)
        for k, register in enumerate(self.values):
            value = self.builder.insert_value(value, register, k)
        return value
