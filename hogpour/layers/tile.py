"""A tile of registers: the micro-kernel under every windowed layer, as a numba type with a few operations.

Activations lie with the batch innermost, ``(features..., batch)``, so neighbouring elements belong to neighbouring
examples and a run of ``LANES`` of them is one vector register. A tile is ``rows x cols`` such registers, held in
registers across the reduction loop of a kernel:

    acc = tile_zeros(x, rows, cols, masked)                # rows, cols, masked: integer literals
    for each term of the sum:
        acc = tile_outer(acc, x, i, w, j, w_step, live)    # acc[r, c] += w[j + r*w_step] * x[i + c*LANES ...]
    tile_store(acc, y, k, y_step, live)                    # y[k + r*y_step + c*LANES ...] = acc[r, c]

Why not plain loops: LLVM keeps an array of sums in memory, and the best plain loop reached 37 GF/s; a 5 x 4 tile
reaches 108-115 GF/s forward (one thread of an AVX-512 EPYC with a measured BLAS peak of 110). Vector types and
``llvm.fma`` are legalised by LLVM for any processor; only the speed depends on it.

Of a masked tile only the first ``live`` lanes of each vector exist: the remainder of a batch. Its loads and stores
touch no memory beyond these lanes. In other tiles ``live`` is ignored.

All arrays are flat, contiguous, of one float type; offsets and steps count elements. Nothing is bounds-checked: an
offset outside its array is undefined behaviour, so only kernels of this folder, whose loops are tested, call these.
"""

# numba's typing functions take their arguments by position and name types by value.
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import PrimitiveModel
from numba.extending import intrinsic, register_model

__all__ = ["LANES", "lanes_nonzero", "lanes_subtract", "prefetch", "tile_add", "tile_dots", "tile_load", "tile_outer",
           "tile_rows", "tile_scatter", "tile_store", "tile_sum", "tile_transpose", "tile_zeros"]  # fmt: skip

LANES = 16
"""Elements of a vector: one AVX-512 register of float32. Narrower processors use two or four registers for it."""

_I32 = ir.IntType(32)
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


class _Emit:
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
            self.mask = self.builder.icmp_signed("<", lane_numbers, self._splat(live))

    def _splat(self, scalar: Any) -> Any:
        vector = ir.VectorType(scalar.type, LANES)
        first = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
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
            return self._call(name, self.vector, pointer, ir.Constant(_I32, self.bytes), self.mask, zeros)
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
            self._call(name, ir.VoidType(), value, pointer, ir.Constant(_I32, self.bytes), self.mask)
        else:
            self.builder.store(value, pointer).align = self.bytes

    def load_splat(self, pointer: Any) -> Any:
        return self._splat(self.builder.load(pointer))

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
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))

    def tile_value(self) -> Any:
        value = ir.Constant(ir.ArrayType(self.vector, len(self.values)), ir.Undefined)
        for k, register in enumerate(self.values):
            value = self.builder.insert_value(value, register, k)
        return value


def _literal(value: Any) -> int | None:
    return value.literal_value if isinstance(value, types.IntegerLiteral) else None


def _tile_of(like: Any, rows: Any, cols: Any, masked: Any) -> Tile | None:
    numbers = [_literal(rows), _literal(cols), _literal(masked)]
    return None if None in numbers else Tile(like.dtype, numbers[0], numbers[1], bool(numbers[2]))


@intrinsic(prefer_literal=True)
def tile_zeros(typing, like, rows, cols, masked):  # type: ignore[no-untyped-def]
    """Return a tile of zeros of the element type of array ``like``; the numbers are integer literals."""
    tile = _tile_of(like, rows, cols, masked)
    if tile is None:
        return None

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like, rows, cols, masked), generate


@intrinsic(prefer_literal=True)
def tile_rows(typing, w, j, w_step, rows, cols, masked):  # type: ignore[no-untyped-def]
    """Return the tile acc[r, c] = w[j + r*w_step] in every lane: sums that begin with a bias."""
    tile = _tile_of(w, rows, cols, masked)
    if tile is None:
        return None

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        emit = _Emit(context, builder, tile, None)
        for r in range(tile.rows):
            emit.values += [emit.load_splat(emit.pointer(w, args[0], args[1], args[2], r))] * tile.cols
        return emit.tile_value()

    n = types.intp
    return tile(w, n, n, rows, cols, masked), generate


@intrinsic(prefer_literal=True)
def tile_load(typing, x, i, x_step, live, rows, cols, masked):  # type: ignore[no-untyped-def]
    """Return the tile acc[r, c] = x[i + r*x_step + c*LANES + lane]: sums that go on."""
    tile = _tile_of(x, rows, cols, masked)
    if tile is None:
        return None

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        x_, i_, x_step_, live_ = args[:4]
        emit = _Emit(context, builder, tile, None)
        emit.set_mask(live_)
        for r in range(tile.rows):
            emit.values += emit.load_row(x, x_, i_, x_step_, r)
        return emit.tile_value()

    n = types.intp
    return tile(x, n, n, n, rows, cols, masked), generate


@intrinsic
def tile_add(typing, acc, x, i, x_step, live):  # type: ignore[no-untyped-def]
    """acc[r, c] += x[i + r*x_step + c*LANES + lane]."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, x_, i_, x_step_, live_ = args
        emit = _Emit(context, builder, acc, value, live_)
        for r in range(acc.rows):
            for c, column in enumerate(emit.load_row(x, x_, i_, x_step_, r)):
                emit.add(r, c, column)
        return emit.tile_value()

    n = types.intp
    return acc(acc, x, n, n, n), generate


@intrinsic
def tile_outer(typing, acc, x, i, w, j, w_step, live):  # type: ignore[no-untyped-def]
    """acc[r, c] += w[j + r*w_step] * x[i + c*LANES + lane]: one term of every sum of the tile."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, x_, i_, w_, j_, w_step_, live_ = args
        emit = _Emit(context, builder, acc, value, live_)
        lanes = ir.Constant(i_.type, LANES)
        columns = [emit.load(emit.pointer(x, x_, i_, lanes, c)) for c in range(acc.cols)]
        for r in range(acc.rows):
            weight = emit.load_splat(emit.pointer(w, w_, j_, w_step_, r))
            for c in range(acc.cols):
                emit.multiply_add(r, c, weight, columns[c])
        return emit.tile_value()

    n = types.intp
    return acc(acc, x, n, w, n, n, n), generate


@intrinsic
def tile_dots(typing, acc, a, i, a_step, b, j, b_step, live):  # type: ignore[no-untyped-def]
    """acc[r, c] += a[i + r*a_step + lane] * b[j + c*b_step + lane]: ``LANES`` terms of rows x cols dot products."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, a_, i_, a_step_, b_, j_, b_step_, live_ = args
        emit = _Emit(context, builder, acc, value, live_)
        columns = [emit.load(emit.pointer(b, b_, j_, b_step_, c)) for c in range(acc.cols)]
        for r in range(acc.rows):
            row = emit.load(emit.pointer(a, a_, i_, a_step_, r))
            for c in range(acc.cols):
                emit.multiply_add(r, c, row, columns[c])
        return emit.tile_value()

    n = types.intp
    return acc(acc, a, n, n, b, n, n, n), generate


@intrinsic
def tile_store(typing, acc, y, i, y_step, live):  # type: ignore[no-untyped-def]
    """y[i + r*y_step + c*LANES + lane] = acc[r, c]."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, y_, i_, y_step_, live_ = args
        emit = _Emit(context, builder, acc, value, live_)
        lanes = ir.Constant(i_.type, LANES)
        for r in range(acc.rows):
            for c in range(acc.cols):
                row = i_ if r == 0 else builder.add(i_, builder.mul(y_step_, ir.Constant(y_step_.type, r)))
                emit.store(emit.values[r * acc.cols + c], emit.pointer(y, y_, row, lanes, c))
        return context.get_dummy_value()

    n = types.intp
    return types.void(acc, y, n, n, n), generate


@intrinsic
def tile_scatter(typing, acc, y, rows, i, y_step, j, live):  # type: ignore[no-untyped-def]
    """y[rows[i + r]*y_step + j + c*LANES + lane] = acc[r, c]: each row of the tile to a place of its own."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, y_, rows_, i_, y_step_, j_, live_ = args
        emit = _Emit(context, builder, acc, value, live_)
        one, lanes = ir.Constant(i_.type, 1), ir.Constant(i_.type, LANES)
        for r in range(acc.rows):
            row = builder.load(emit.pointer(rows, rows_, i_, one, r))
            start = builder.add(builder.mul(row, y_step_), j_)
            for c in range(acc.cols):
                emit.store(emit.values[r * acc.cols + c], emit.pointer(y, y_, start, lanes, c))
        return context.get_dummy_value()

    n = types.intp
    return types.void(acc, y, rows, n, n, n, n), generate


@intrinsic
def tile_transpose(typing, x, rows, r, x_step, i, y, j, y_step):  # type: ignore[no-untyped-def]
    """y[j + a*y_step + b] = x[rows[r + b]*x_step + i + a] for a, b < LANES: a square turned within registers.

    Four stages of shuffles, each exchanging blocks of half the size, instead of LANES² loads and stores of one element:
    32 rows of 784 in 9 µs instead of 31 to 56.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        x_, rows_, r_, x_step_, i_, y_, j_, y_step_ = args
        emit = _Emit(context, builder, Tile(x.dtype, LANES, 1, False), None)
        one, vectors = ir.Constant(r_.type, 1), []
        for b in range(LANES):
            row = builder.load(emit.pointer(rows, rows_, r_, one, b))
            start = builder.add(builder.mul(row, x_step_), i_)
            vectors.append(emit.load(emit.pointer(x, x_, start, one, 0)))
        half = LANES // 2
        while half:
            low = [lane if lane // half % 2 == 0 else LANES + lane - half for lane in range(LANES)]
            high = [lane + half if lane // half % 2 == 0 else LANES + lane for lane in range(LANES)]
            kind = ir.VectorType(_I32, LANES)
            for a in (a for a in range(LANES) if a // half % 2 == 0):
                pair = vectors[a], vectors[a + half]
                vectors[a] = builder.shuffle_vector(*pair, ir.Constant(kind, low))
                vectors[a + half] = builder.shuffle_vector(*pair, ir.Constant(kind, high))
            half //= 2
        for a in range(LANES):
            emit.store(vectors[a], emit.pointer(y, y_, j_, y_step_, a))
        return context.get_dummy_value()

    n = types.intp
    return types.void(x, rows, n, n, n, y, n, n), generate


@intrinsic
def lanes_subtract(typing, y, x, i, factor):  # type: ignore[no-untyped-def]
    """y[i + lane] -= factor * x[i + lane], rounded after the product and after the difference, as plain code is.

    A plain loop over so few elements is not vectorised: y and x might overlap, and asking costs more than the loop.
    """

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        y_, x_, i_, factor_ = args
        emit = _Emit(context, builder, Tile(y.dtype, 1, 1, False), None)
        one = ir.Constant(i_.type, 1)
        at = emit.pointer(y, y_, i_, one, 0)
        product = builder.fmul(emit._splat(factor_), emit.load(emit.pointer(x, x_, i_, one, 0)))
        emit.store(builder.fsub(emit.load(at), product), at)
        return context.get_dummy_value()

    return types.void(y, x, types.intp, y.dtype), generate


@intrinsic
def prefetch(typing, x, i):  # type: ignore[no-untyped-def]
    """Ask for the cache line of x[i], which will be read soon; waits for nothing."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(x)(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(ir.IntType(8)))
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        read, near, data_cache = ir.Constant(_I32, 0), ir.Constant(_I32, 2), ir.Constant(_I32, 1)
        builder.call(function, [pointer, read, near, data_cache])
        return context.get_dummy_value()

    return types.void(x, types.intp), generate


@intrinsic
def lanes_nonzero(typing, x, i):  # type: ignore[no-untyped-def]
    """Return whether any of x[i], ... x[i + LANES - 1] is not zero; NaN is not zero."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        vector = ir.VectorType(context.get_value_type(x.dtype), LANES)
        data = context.make_array(x)(context, builder, args[0]).data
        value = builder.load(builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(vector)))
        value.align = x.dtype.bitwidth // 8
        differs = builder.fcmp_unordered("!=", value, ir.Constant(vector, None))
        bits = builder.bitcast(differs, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(x, types.intp), generate


@intrinsic
def tile_sum(typing, acc, y, i, y_step):  # type: ignore[no-untyped-def]
    """y[i + r*y_step + c] = the sum over the lanes of acc[r, c], lanes added by halves."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        value, y_, i_, y_step_ = args
        emit = _Emit(context, builder, acc, value)
        sums = emit.sums()
        for r in range(acc.rows):
            first, last = r * acc.cols, (r + 1) * acc.cols - 1
            a, b = sums[first // LANES], sums[last // LANES]
            start = first % LANES
            row = emit.shuffle(a, b, list(range(start, start + acc.cols)))  # lanes from LANES on are those of b
            pointer = emit.pointer(y, y_, i_, y_step_, r)
            builder.store(row, builder.bitcast(pointer, ir.PointerType(row.type))).align = emit.bytes
        return context.get_dummy_value()

    n = types.intp
    return types.void(acc, y, n, n), generate
