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
``llvm.fma`` are legalised by LLVM for any processor; only the speed depends on it (``WIDE``).

Of a masked tile only the first ``live`` lanes of each vector exist: the remainder of a batch. Its loads and stores
touch no memory beyond these lanes. In other tiles ``live`` is ignored.

All arrays are flat, contiguous, of one float type; offsets and steps count elements. Nothing is bounds-checked: an
offset outside its array is undefined behaviour, so only kernels of this folder, whose loops are tested, call these.
"""

# numba's typing functions take their arguments by position and name types by value.
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from hogpour.core.kernels.jit import intrinsic
from hogpour.layers.kernels.registers import INT32, LANES, WIDE, Emit, Tile

__all__ = ["LANES", "WIDE", "lanes_nonzero", "lanes_subtract", "prefetch", "stack_memory", "tile_add", "tile_as",
           "tile_dots", "tile_load", "tile_outer", "tile_rows", "tile_scatter", "tile_store", "tile_sum",
           "tile_transpose", "tile_zeros"]  # fmt: skip

def _literal(value: Any) -> int | None:
    return value.literal_value if isinstance(value, types.IntegerLiteral) else None


def _tile_of(like: Any, rows: Any, cols: Any, masked: Any) -> Tile | None:
    rows, cols, masked = _literal(rows), _literal(cols), _literal(masked)
    return None if None in (rows, cols, masked) else Tile(like.dtype, rows, cols, bool(masked))


@intrinsic(prefer_literal=True)
def tile_zeros(typing, like, rows, cols, masked):
    """Return a tile of zeros of the element type of array ``like``; the numbers are integer literals."""
    tile = _tile_of(like, rows, cols, masked)
    if tile is None:
        return None

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(like, rows, cols, masked), generate


@intrinsic(prefer_literal=True)
def tile_rows(typing, w, j, w_step, rows, cols, masked):
    """Return the tile acc[r, c] = w[j + r*w_step] in every lane: sums that begin with a bias."""
    tile = _tile_of(w, rows, cols, masked)
    if tile is None:
        return None

    def generate(context, builder, signature, args):
        emit = Emit(context, builder, tile, None)
        for r in range(tile.rows):
            emit.values += [emit.load_splat(emit.pointer(w, args[0], args[1], args[2], r))] * tile.cols
        return emit.tile_value()

    n = types.intp
    return tile(w, n, n, rows, cols, masked), generate


@intrinsic(prefer_literal=True)
def tile_load(typing, x, i, x_step, live, rows, cols, masked):
    """Return the tile acc[r, c] = x[i + r*x_step + c*LANES + lane]: sums that go on."""
    tile = _tile_of(x, rows, cols, masked)
    if tile is None:
        return None

    def generate(context, builder, signature, args):
        x_, i_, x_step_, live_ = args[:4]
        emit = Emit(context, builder, tile, None)
        emit.set_mask(live_)
        for r in range(tile.rows):
            emit.values += emit.load_row(x, x_, i_, x_step_, r)
        return emit.tile_value()

    n = types.intp
    return tile(x, n, n, n, rows, cols, masked), generate


@intrinsic(prefer_literal=True)
def tile_as(typing, acc, masked):
    """Return the same tile as one that is masked, or is not: for the rest of a run, and back."""

    def generate(context, builder, signature, args):
        return args[0]

    return Tile(acc.dtype, acc.rows, acc.cols, bool(_literal(masked)))(acc, masked), generate


@intrinsic
def tile_add(typing, acc, x, i, x_step, live):
    """acc[r, c] += x[i + r*x_step + c*LANES + lane]."""

    def generate(context, builder, signature, args):
        value, x_, i_, x_step_, live_ = args
        emit = Emit(context, builder, acc, value, live_)
        for r in range(acc.rows):
            for c, column in enumerate(emit.load_row(x, x_, i_, x_step_, r)):
                emit.add(r, c, column)
        return emit.tile_value()

    n = types.intp
    return acc(acc, x, n, n, n), generate


@intrinsic
def tile_outer(typing, acc, x, i, w, j, w_step, live):
    """acc[r, c] += w[j + r*w_step] * x[i + c*LANES + lane]: one term of every sum of the tile."""

    def generate(context, builder, signature, args):
        value, x_, i_, w_, j_, w_step_, live_ = args
        emit = Emit(context, builder, acc, value, live_)
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
def tile_dots(typing, acc, a, i, a_step, b, j, b_step, live):
    """acc[r, c] += a[i + r*a_step + lane] * b[j + c*b_step + lane]: ``LANES`` terms of rows x cols dot products."""

    def generate(context, builder, signature, args):
        value, a_, i_, a_step_, b_, j_, b_step_, live_ = args
        emit = Emit(context, builder, acc, value, live_)
        columns = [emit.load(emit.pointer(b, b_, j_, b_step_, c)) for c in range(acc.cols)]
        for r in range(acc.rows):
            row = emit.load(emit.pointer(a, a_, i_, a_step_, r))
            for c in range(acc.cols):
                emit.multiply_add(r, c, row, columns[c])
        return emit.tile_value()

    n = types.intp
    return acc(acc, a, n, n, b, n, n, n), generate


@intrinsic
def tile_store(typing, acc, y, i, y_step, live):
    """y[i + r*y_step + c*LANES + lane] = acc[r, c]."""

    def generate(context, builder, signature, args):
        value, y_, i_, y_step_, live_ = args
        emit = Emit(context, builder, acc, value, live_)
        lanes = ir.Constant(i_.type, LANES)
        for r in range(acc.rows):
            for c in range(acc.cols):
                row = i_ if r == 0 else builder.add(i_, builder.mul(y_step_, ir.Constant(y_step_.type, r)))
                emit.store(emit.values[r * acc.cols + c], emit.pointer(y, y_, row, lanes, c))
        return context.get_dummy_value()

    n = types.intp
    return types.void(acc, y, n, n, n), generate


@intrinsic
def tile_scatter(typing, acc, y, rows, i, y_step, j, live):
    """y[rows[i + r]*y_step + j + c*LANES + lane] = acc[r, c]: each row of the tile to a place of its own."""

    def generate(context, builder, signature, args):
        value, y_, rows_, i_, y_step_, j_, live_ = args
        emit = Emit(context, builder, acc, value, live_)
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
def tile_transpose(typing, x, rows, r, x_step, i, y, j, y_step):
    """y[j + a*y_step + b] = x[rows[r + b]*x_step + i + a] for a, b < LANES: a square turned within registers.

    Four stages of shuffles, each exchanging blocks of half the size, instead of LANES² loads and stores of one element:
    32 rows of 784 in 9 µs instead of 31 to 56.
    """

    def generate(context, builder, signature, args):
        x_, rows_, r_, x_step_, i_, y_, j_, y_step_ = args
        emit = Emit(context, builder, Tile(x.dtype, LANES, 1, False), None)
        one, vectors = ir.Constant(r_.type, 1), []
        for b in range(LANES):
            row = builder.load(emit.pointer(rows, rows_, r_, one, b))
            start = builder.add(builder.mul(row, x_step_), i_)
            vectors.append(emit.load(emit.pointer(x, x_, start, one, 0)))
        half = LANES // 2
        while half:
            low = [lane if lane // half % 2 == 0 else LANES + lane - half for lane in range(LANES)]
            high = [lane + half if lane // half % 2 == 0 else LANES + lane for lane in range(LANES)]
            kind = ir.VectorType(INT32, LANES)
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
def lanes_subtract(typing, y, x, i, factor):
    """y[i + lane] -= factor * x[i + lane], rounded after the product and after the difference, as plain code is.

    A plain loop over so few elements is not vectorised: y and x might overlap, and asking costs more than the loop.
    """

    def generate(context, builder, signature, args):
        y_, x_, i_, factor_ = args
        emit = Emit(context, builder, Tile(y.dtype, 1, 1, False), None)
        one = ir.Constant(i_.type, 1)
        at = emit.pointer(y, y_, i_, one, 0)
        product = builder.fmul(emit.splat(factor_), emit.load(emit.pointer(x, x_, i_, one, 0)))
        emit.store(builder.fsub(emit.load(at), product), at)
        return context.get_dummy_value()

    return types.void(y, x, types.intp, y.dtype), generate


@intrinsic
def prefetch(typing, x, i):
    """Ask for the cache line of x[i], which will be read soon; waits for nothing."""

    def generate(context, builder, signature, args):
        data = context.make_array(x)(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(ir.IntType(8)))
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, INT32, INT32, INT32])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        read, near, data_cache = ir.Constant(INT32, 0), ir.Constant(INT32, 2), ir.Constant(INT32, 1)
        builder.call(function, [pointer, read, near, data_cache])
        return context.get_dummy_value()

    return types.void(x, types.intp), generate


@intrinsic(prefer_literal=True)
def stack_memory(typing, like, elements):
    """Pointer to ``elements``, an integer literal, of the type of those of array ``like``; whatever lay there before.

    Valid until the function that asked returns. What numba allocates is the heap's, and a step allocates nothing.
    """
    if (count := _literal(elements)) is None:
        return None

    def generate(context, builder, signature, args):
        pointer = cgutils.alloca_once(builder, context.get_value_type(like.dtype), count)
        pointer.align = 64
        return pointer

    return types.CPointer(like.dtype)(like, elements), generate


@intrinsic
def lanes_nonzero(typing, x, i):
    """Return whether any of x[i], ... x[i + LANES - 1] is not zero; NaN is not zero."""

    def generate(context, builder, signature, args):
        vector = ir.VectorType(context.get_value_type(x.dtype), LANES)
        data = context.make_array(x)(context, builder, args[0]).data
        value = builder.load(builder.bitcast(builder.gep(data, [args[1]]), ir.PointerType(vector)))
        value.align = x.dtype.bitwidth // 8
        differs = builder.fcmp_unordered("!=", value, ir.Constant(vector, None))
        bits = builder.bitcast(differs, ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(x, types.intp), generate


@intrinsic
def tile_sum(typing, acc, y, i, y_step):
    """y[i + r*y_step + c] = the sum over the lanes of acc[r, c], lanes added by halves."""

    def generate(context, builder, signature, args):
        value, y_, i_, y_step_ = args
        emit = Emit(context, builder, acc, value)
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
