"""Operations on float64 tables as vector instructions, for compiled kernels that solve many small systems at once.

`tile` works within one system: products of columns. `subtract` works on LANES systems side by side: a table is then
(slots, LANES), a slot being one number of each. As in `simd`, sums are added up in another order than in a plain loop,
and different arrays are assumed not to overlap; here x may be the same as y and z."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .simd import FLAGS, I64, operation

LANES = 8                   # systems that are solved side by side
TILE = 4                    # numbers in a vector, and rows of a tile
F64, I32 = ir.DoubleType(), ir.IntType(32)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, row: Any, column: Any = None) -> tuple[Any, Any]:
    """A pointer to an element of a table, and the bytes from its row to the next."""
    table = context.make_array(kind)(context, builder, array)
    stride = cgutils.unpack_tuple(builder, table.strides)[0]
    start = builder.add(builder.ptrtoint(table.data, I64), builder.mul(row, stride))
    if column is not None:
        start = builder.add(start, builder.mul(column, I64(8)))
    return start, stride


def _everywhere(builder: Any, value: Any, vector: Any) -> Any:
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, I32(0))
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined),
                                  ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


@operation
def tile(_: Any, y: Any, n: Any, i: Any, j: Any, into: Any, lanes: Any) -> Any:
    """into[i:i + TILE, j:j + m] += y[:n, i:i + TILE]' y[:n, j:j + m], where m = TILE * len(lanes)"""
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, vector = builder, ir.VectorType(F64, TILE)
        y, n, i, j, into, _ = args
        left, stride = _pointer(context, b, signature.args[0], y, I64(0), i)
        right, _ = _pointer(context, b, signature.args[0], y, I64(0), j)
        rows = [_pointer(context, b, signature.args[4], into, b.add(i, I64(a)), j)[0] for a in range(TILE)]
        rows = [b.inttoptr(row, vector.as_pointer()) for row in rows]
        totals = [[cgutils.alloca_once(b, vector) for _ in range(lanes.count)] for _ in rows]
        for row, own in zip(rows, totals):
            for k, total in enumerate(own):
                b.store(b.load(b.gep(row, [I64(k)]), align=8), total)
        with cgutils.for_range(b, n) as loop:
            further = b.mul(loop.index, stride)
            numbers = b.inttoptr(b.add(left, further), F64.as_pointer())
            vectors = b.inttoptr(b.add(right, further), vector.as_pointer())
            loaded = [b.load(b.gep(vectors, [I64(k)]), align=8) for k in range(lanes.count)]
            for a, own in enumerate(totals):
                factor = _everywhere(b, b.load(b.gep(numbers, [I64(a)])), vector)
                for total, value in zip(own, loaded):
                    b.store(b.fadd(b.load(total), b.fmul(factor, value, flags=FLAGS), flags=FLAGS), total)
        for row, own in zip(rows, totals):
            for k, total in enumerate(own):
                b.store(b.load(total), b.gep(row, [I64(k)]), align=8)
        return context.get_dummy_value()
    return types.void(y, types.int64, types.int64, types.int64, into, lanes), generate


@operation
def subtract(_: Any, x: Any, i: Any, y: Any, j: Any, dj: Any, z: Any, k: Any, dk: Any, n: Any) -> Any:
    """x[i] -= sum over t < n of y[j + t dj] * z[k + t dk]"""
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, vector = builder, ir.VectorType(F64, LANES)
        _, i, _, j, dj, _, k, dk, n = args

        def slot(table: int, row: Any) -> tuple[Any, Any]:
            return _pointer(context, b, signature.args[table], args[table], row)
        into = b.inttoptr(slot(0, i)[0], vector.as_pointer())
        (left, width), (right, also) = slot(2, j), slot(5, k)
        left_step, right_step = b.mul(dj, width), b.mul(dk, also)
        total = cgutils.alloca_once_value(b, b.load(into, align=8))
        with cgutils.for_range(b, n) as loop:
            one, other = (b.load(b.inttoptr(b.add(start, b.mul(loop.index, step)), vector.as_pointer()), align=8)
                          for start, step in ((left, left_step), (right, right_step)))
            b.store(b.fsub(b.load(total), b.fmul(one, other, flags=FLAGS), flags=FLAGS), total)
        b.store(b.load(total), into, align=8)
        return context.get_dummy_value()
    return types.void(x, types.int64, y, types.int64, types.int64, z, types.int64, types.int64, types.int64), generate
