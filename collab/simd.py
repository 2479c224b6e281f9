"""Operations on rows of float32 tables as vector instructions, for compiled kernels.

A table is a C-contiguous float32 array (rows, width); an operation covers the first 8 * len(lanes) numbers of a row, or
as many from a column on, and `multiply` all of it. `lanes` is a tuple of any numbers: its length is part of its type,
so that compiled code knows it and unrolls. numba's own loops over rows check in each one whether two tables overlap,
which made the training pass three times as long; these operations assume that different arrays do not.

Sums are added up in another order than in a plain loop, and products are fused with sums where the CPU can."""

from __future__ import annotations

import functools
import math
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

WIDTH = 8                   # numbers in a vector; LLVM splits or joins vectors as the CPU has them
FLAGS = ("contract", "reassoc", "nsz")          # not "arcp" or "afn", which would take approximate quotients and roots
F32, I8, I32, I64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
VECTOR, INDICES = ir.VectorType(F32, WIDTH), ir.VectorType(I32, WIDTH)
ZEROS = ir.Constant(VECTOR, [0.0] * WIDTH)
operation: Any = extending.intrinsic        # its first argument, numba's context of types, is not passed by callers


class Code:
    """Emits vector code for one intrinsic: `rows` of tables as pointers, and what is done with them."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any):
        self.context, self.b, self.types, self.args = context, builder, signature.args, args

    def row(self, k: int, further: int = 0) -> Any:
        """A pointer to the row that the arguments k (a table) and k + 1 (its number) name, or one so many further."""
        table, number = self.array(k), self.args[k + 1]
        if further:
            number = self.b.add(number, I64(further))
        stride = cgutils.unpack_tuple(self.b, table.strides)[0]
        start = self.b.add(self.b.ptrtoint(table.data, I64), self.b.mul(number, stride))
        return self.b.inttoptr(start, VECTOR.as_pointer())

    def array(self, k: int) -> Any:
        return self.context.make_array(self.types[k])(self.context, self.b, self.args[k])

    def load(self, row: Any, k: Any) -> Any:
        """The k-th vector of a row."""
        return self.b.load(self.b.gep(row, [I64(k)]), align=4)

    def store(self, value: Any, row: Any, k: Any) -> None:
        self.b.store(value, self.b.gep(row, [I64(k)]), align=4)

    def all(self, k: int) -> Any:
        """The scalar argument k in every place of a vector."""
        return self.everywhere(self.args[k], VECTOR)

    def everywhere(self, value: Any, kind: Any) -> Any:
        one = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, I32(0))
        return self.b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(INDICES, [0] * WIDTH))

    def last(self, row: Any, width: Any, rest: Any) -> Any:
        """The last numbers of a row, of which there are `rest`, in the last places of a vector, and 0 in the others."""
        end = self.b.gep(self.b.bitcast(row, F32.as_pointer()), [self.b.sub(width, I64(WIDTH))])
        before = self.everywhere(self.b.trunc(self.b.sub(I64(WIDTH), rest), I32), INDICES)
        own = self.b.icmp_signed(">=", ir.Constant(INDICES, [*range(WIDTH)]), before)
        return self.b.select(own, self.b.load(self.b.bitcast(end, VECTOR.as_pointer()), align=4), ZEROS)

    def mul(self, x: Any, y: Any) -> Any:
        return self.b.fmul(x, y, flags=FLAGS)

    def add(self, x: Any, y: Any) -> Any:
        return self.b.fadd(x, y, flags=FLAGS)

    def sub(self, x: Any, y: Any) -> Any:
        return self.b.fsub(x, y, flags=FLAGS)

    def div(self, x: Any, y: Any) -> Any:
        return self.b.fdiv(x, y, flags=FLAGS)

    def sums(self, vectors: list[Any]) -> Any:
        """The sum of each of WIDTH vectors, as one vector. Two are folded into one, in which the places whose number
        has the bit `near` belong to the second; then two of these, until there is one."""
        for near in (1, 2, 4):
            places = [[k + shift + (WIDTH - near if k & near else 0) for k in range(WIDTH)] for shift in (0, near)]
            vectors = [self.add(*(self.b.shuffle_vector(x, y, ir.Constant(INDICES, own)) for own in places))
                       for x, y in zip(vectors[::2], vectors[1::2])]
        return vectors[0]

    def root(self, x: Any) -> Any:
        function = cgutils.get_or_insert_function(self.b.module, ir.FunctionType(VECTOR, [VECTOR]),
                                                  f"llvm.sqrt.v{WIDTH}f32")
        return self.b.call(function, [x])

    def total(self, parts: list[Any]) -> Any:
        """The sum of all numbers of some vectors."""
        while len(parts) > 1:
            parts = [self.add(*parts[k:k + 2]) if k + 1 < len(parts) else parts[k] for k in range(0, len(parts), 2)]
        x, half = parts[0], WIDTH // 2
        while half:
            shifted = ir.Constant(ir.VectorType(I32, WIDTH), [k + half if k < half else 0 for k in range(WIDTH)])
            x, half = self.add(x, self.b.shuffle_vector(x, ir.Constant(VECTOR, ir.Undefined), shifted)), half // 2
        return self.b.extract_element(x, I32(0))


def _emitted(emit: Any, lanes: Any, value: bool = False) -> Any:
    """What an intrinsic generates its code with."""
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = emit(Code(context, builder, signature, args), range(lanes.count))
        return found if value else context.get_dummy_value()
    return generate


@operation
def prefetch(_: Any, table: Any, row: Any, lanes: Any) -> Any:
    """Ask for a row, which will be read and written soon."""
    def emit(c: Code, vectors: range) -> None:
        call = cgutils.get_or_insert_function(c.b.module, ir.FunctionType(
            ir.VoidType(), [I8.as_pointer(), I32, I32, I32]), "llvm.prefetch.p0")
        start = c.row(0)
        for k in vectors[::2]:          # a line of the cache holds two vectors
            c.b.call(call, [c.b.bitcast(c.b.gep(start, [I64(k)]), I8.as_pointer()), I32(1), I32(3), I32(1)])
    return types.void(table, types.int64, lanes), _emitted(emit, lanes)


@operation
def dot(_: Any, x: Any, i: Any, y: Any, j: Any, lanes: Any) -> Any:
    """x[i] . y[j]"""
    def emit(c: Code, vectors: range) -> Any:
        left, right, parts = c.row(0), c.row(2), [None] * 2
        for k in vectors:
            product = c.mul(c.load(left, k), c.load(right, k))
            parts[k % 2] = product if parts[k % 2] is None else c.add(parts[k % 2], product)
        return c.total([part for part in parts if part is not None])
    return types.float32(x, types.int64, y, types.int64, lanes), _emitted(emit, lanes, value=True)


@operation
def multiply(_: Any, x: Any, i: Any, y: Any, j: Any, into: Any, k: Any, squares: Any, m: Any) -> Any:
    """into[k:k + 8] = x[i:i + 8] y[j:], for rows of x of any width from 8 on; and if `squares` is not None,
    squares[m:m + 8] += sums of squares of these rows, which are those of all of them together."""
    measured = not isinstance(squares, types.NoneType)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        c, b = Code(context, builder, signature, args), builder
        rows, vector = [c.row(0, further) for further in range(WIDTH)], c.row(2)
        width = cgutils.unpack_tuple(b, c.array(0).shape)[1]
        sums, parts = ([cgutils.alloca_once(b, VECTOR) for _ in range(n)] for n in (WIDTH, 4))
        for total in (*sums, *parts):
            b.store(ZEROS, total)

        def add_up(read: Any) -> None:
            factor = read(vector)
            for k, (row, total) in enumerate(zip(rows, sums)):
                numbers = read(row)
                b.store(c.add(c.mul(factor, numbers), b.load(total)), total)
                if measured:
                    part = parts[k % len(parts)]
                    b.store(c.add(c.mul(numbers, numbers), b.load(part)), part)
        with cgutils.for_range(b, b.udiv(width, I64(WIDTH))) as loop:
            add_up(lambda row: b.load(b.gep(row, [loop.index]), align=4))
        rest = b.urem(width, I64(WIDTH))
        with b.if_then(b.icmp_unsigned("!=", rest, I64(0))):
            add_up(lambda row: c.last(row, width, rest))
        c.store(c.sums([b.load(total) for total in sums]), c.row(4), 0)
        if measured:
            row = c.row(6)
            c.store(c.add(c.load(row, 0), functools.reduce(c.add, map(b.load, parts))), row, 0)
        return context.get_dummy_value()
    return types.void(x, types.int64, y, types.int64, into, types.int64, squares, types.int64), generate


@operation
def maxima(_: Any, into: Any, i: Any, x: Any, first: Any, n: Any) -> Any:
    """into[i + j] = the largest of the n numbers x[first + j], x[first + j + 32] and so on, for j from 0 to 31. NaN is
    passed over."""
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        c, b = Code(context, builder, signature, args), builder
        start, into, parts = c.row(2), c.row(0), [cgutils.alloca_once(b, VECTOR) for _ in range(4)]
        for part in parts:
            b.store(ir.Constant(VECTOR, [-math.inf] * WIDTH), part)
        with cgutils.for_range(b, args[4]) as loop:
            at = b.gep(start, [b.mul(loop.index, I64(len(parts)))])
            for k, part in enumerate(parts):
                own, most = c.load(at, k), b.load(part)
                b.store(b.select(b.fcmp_ordered(">", own, most), own, most), part)
        for k, part in enumerate(parts):
            c.store(b.load(part), into, k)
        return context.get_dummy_value()
    return types.void(into, types.int64, x, types.int64, types.int64), generate


@operation
def any_above(_: Any, x: Any, i: Any, least: Any) -> Any:
    """Whether one of x[i:i + 8] is larger than `least`, or NaN."""
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        c = Code(context, builder, signature, args)
        found = c.b.fcmp_unordered(">", c.load(c.row(0), 0), c.all(2))
        return c.b.icmp_unsigned("!=", c.b.bitcast(found, ir.IntType(WIDTH)), ir.Constant(ir.IntType(WIDTH), 0))
    return types.boolean(x, types.int64, types.float32), generate


@operation
def gathered(_: Any, into: Any, i: Any, y: Any, columns: Any, values: Any, begin: Any, end: Any, lanes: Any) -> Any:
    """into[i] = sum over begin <= n < end of values[n] y[columns[n]], the columns being int32"""
    def emit(c: Code, vectors: range) -> None:
        b, (begin, end) = c.b, c.args[5:7]
        table, row, numbers, places = c.array(2), c.row(0), c.array(4).data, c.array(3).data
        start, stride = b.ptrtoint(table.data, I64), cgutils.unpack_tuple(b, table.strides)[0]
        sums = [[cgutils.alloca_once_value(b, ZEROS) for _ in vectors] for _ in range(2)]

        def add_up(n: Any, totals: list[Any]) -> None:
            at = b.mul(b.sext(b.load(b.gep(places, [n])), I64), stride)
            own = b.inttoptr(b.add(start, at), VECTOR.as_pointer())
            factor = c.everywhere(b.load(b.gep(numbers, [n])), VECTOR)
            for k, total in zip(vectors, totals):
                b.store(c.add(c.mul(factor, c.load(own, k)), b.load(total)), total)
        with cgutils.for_range_slice(b, begin, b.sub(end, I64(1)), I64(2), inc=True) as (n, _):
            add_up(n, sums[0])          # two sums at a time: each waits for its own additions only
            add_up(b.add(n, I64(1)), sums[1])
        with b.if_then(b.trunc(b.sub(end, begin), ir.IntType(1))):
            add_up(b.sub(end, I64(1)), sums[0])
        for k, one, other in zip(vectors, *sums):
            c.store(c.add(b.load(one), b.load(other)), row, k)
    return (types.void(into, types.int64, y, columns, values, types.int64, types.int64, lanes), _emitted(emit, lanes))


@operation
def put(_: Any, x: Any, i: Any, a: Any, y: Any, j: Any, lanes: Any) -> Any:
    """x[i] = a y[j]"""
    def emit(c: Code, vectors: range) -> None:
        into, a, y = c.row(0), c.all(2), c.row(3)
        for k in vectors:
            c.store(c.mul(a, c.load(y, k)), into, k)
    return types.void(x, types.int64, types.float32, y, types.int64, lanes), _emitted(emit, lanes)


@operation
def add(_: Any, x: Any, i: Any, a: Any, y: Any, j: Any, lanes: Any) -> Any:
    """x[i] += a y[j]"""
    def emit(c: Code, vectors: range) -> None:
        into, a, y = c.row(0), c.all(2), c.row(3)
        for k in vectors:
            c.store(c.add(c.mul(a, c.load(y, k)), c.load(into, k)), into, k)
    return types.void(x, types.int64, types.float32, y, types.int64, lanes), _emitted(emit, lanes)


@operation
def dots(_: Any, x: Any, i: Any, y: Any, j: Any, lanes: Any) -> Any:
    """(x[i] . y[j], |x[i]|^2, |y[j]|^2)"""
    def emit(c: Code, vectors: range) -> Any:
        left, right = c.row(0), c.row(2)
        rows = [(c.load(left, k), c.load(right, k)) for k in vectors]
        totals = [c.total([c.mul(a, b) for a, b in pairs])
                  for pairs in (rows, [(a, a) for a, _ in rows], [(b, b) for _, b in rows])]
        return c.context.make_tuple(c.b, types.UniTuple(types.float32, 3), totals)
    return types.UniTuple(types.float32, 3)(x, types.int64, y, types.int64, lanes), _emitted(emit, lanes, value=True)


@operation
def mix(_: Any, x: Any, i: Any, a: Any, b: Any, y: Any, j: Any, c: Any, d: Any, lanes: Any) -> Any:
    """x[i], y[j] = a x[i] + b y[j], c y[j] + d x[i]"""
    def emit(code: Code, vectors: range) -> None:
        x, a, b, y, c, d = code.row(0), code.all(2), code.all(3), code.row(4), code.all(6), code.all(7)
        for k in vectors:
            own, other = code.load(x, k), code.load(y, k)
            code.store(code.add(code.mul(a, own), code.mul(b, other)), x, k)
            code.store(code.add(code.mul(c, other), code.mul(d, own)), y, k)
    return (types.void(x, types.int64, *[types.float32] * 2, y, types.int64, *[types.float32] * 2, lanes),
            _emitted(emit, lanes))


@operation
def square(_: Any, x: Any, i: Any, a: Any, y: Any, j: Any, lanes: Any) -> Any:
    """|x[i] + a y[j]|^2"""
    def emit(c: Code, vectors: range) -> Any:
        x, a, y, parts = c.row(0), c.all(2), c.row(3), []
        for k in vectors:
            value = c.add(c.mul(a, c.load(y, k)), c.load(x, k))
            parts.append(c.mul(value, value))
        return c.total(parts)
    return types.float32(x, types.int64, types.float32, y, types.int64, lanes), _emitted(emit, lanes, value=True)


@operation
def blend(_: Any, x: Any, i: Any, a: Any, y: Any, j: Any, b: Any, lanes: Any) -> Any:
    """x[i] = a x[i] + b y[j]"""
    def emit(c: Code, vectors: range) -> None:
        into, a, y, b = c.row(0), c.all(2), c.row(3), c.all(5)
        for k in vectors:
            c.store(c.add(c.mul(a, c.load(into, k)), c.mul(b, c.load(y, k))), into, k)
    return types.void(x, types.int64, types.float32, y, types.int64, types.float32, lanes), _emitted(emit, lanes)


@operation
def adam(_: Any, x: Any, i: Any, y: Any, j: Any, ridge: Any, beta1: Any, beta2: Any, rest1: Any, rest2: Any, decay: Any,
         step: Any, eps: Any, lanes: Any) -> Any:
    """A step of Adam for the row [w | m | v] of x, with the gradient g = y[j] + ridge w:
    m = beta1 m + rest1 g, v = beta2 v + rest2 g^2, w = decay w - step m / (sqrt(v) + eps)"""
    def emit(c: Code, vectors: range) -> None:
        x, y = c.row(0), c.row(2)
        ridge, beta1, beta2, rest1, rest2, decay, step, eps = (c.all(k) for k in range(4, 12))
        n = len(vectors)
        for k in vectors:
            w, m, v = c.load(x, k), c.load(x, n + k), c.load(x, 2 * n + k)
            g = c.add(c.mul(ridge, w), c.load(y, k))
            m = c.add(c.mul(beta1, m), c.mul(rest1, g))
            v = c.add(c.mul(beta2, v), c.mul(rest2, c.mul(g, g)))
            c.store(m, x, n + k)
            c.store(v, x, 2 * n + k)
            c.store(c.sub(c.mul(decay, w), c.div(c.mul(step, m), c.add(c.root(v), eps))), x, k)
    return types.void(x, types.int64, y, types.int64, *[types.float32] * 8, lanes), _emitted(emit, lanes)


@operation
def adam_untouched(_: Any, x: Any, i: Any, decay: Any, step: Any, eps: Any, variance: Any, first: Any,
                   second: Any, lanes: Any) -> Any:
    """Steps of Adam without a gradient for the row [w | m | v] of x, all at once: with d = 1 / (sqrt(v) + eps),
    w = decay w - step m d (1 + variance d^2), m = first m, v = second v"""
    def emit(c: Code, vectors: range) -> None:
        x, n, one = c.row(0), len(vectors), ir.Constant(VECTOR, [1.0] * WIDTH)
        decay, step, eps, variance, first, second = (c.all(k) for k in range(2, 8))
        for k in vectors:
            w, m, v = c.load(x, k), c.load(x, n + k), c.load(x, 2 * n + k)
            d = c.div(one, c.add(c.root(v), eps))
            bend = c.add(c.mul(c.mul(variance, d), d), one)
            c.store(c.sub(c.mul(decay, w), c.mul(c.mul(c.mul(step, m), d), bend)), x, k)
            c.store(c.mul(first, m), x, n + k)
            c.store(c.mul(second, v), x, 2 * n + k)
    return types.void(x, types.int64, *[types.float32] * 6, lanes), _emitted(emit, lanes)


@operation
def any_faint(_: Any, x: Any, i: Any, m: Any, v: Any, lanes: Any) -> Any:
    """Whether the row [w | m | v] of x has a |m| above and a v below these."""
    def emit(c: Code, vectors: range) -> Any:
        x, n, least, most, found = c.row(0), len(vectors), c.all(2), c.all(3), None
        for k in vectors:
            m, v = c.load(x, n + k), c.load(x, 2 * n + k)
            here = c.b.and_(c.b.fcmp_ordered("<", v, most), c.b.fcmp_ordered(">", c.mul(m, m), c.mul(least, least)))
            found = here if found is None else c.b.or_(found, here)
        return c.b.icmp_unsigned("!=", c.b.bitcast(found, ir.IntType(WIDTH)), ir.Constant(ir.IntType(WIDTH), 0))
    return types.boolean(x, types.int64, *[types.float32] * 2, lanes), _emitted(emit, lanes, value=True)
