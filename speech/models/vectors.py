"""Vectors in compiled loops, where LLVM makes none of its own: offsets are unchecked.

LLVM asks for a proof that arrays lie apart, of each pair of them, before it makes vectors of a loop; and of
what it makes vectors, half as wide as this machine's. All arrays are C-contiguous and of float32.
"""

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES, ROWS = 16, 8
"""Numbers of a vector, and rows whose sums lie in registers at once."""
FLOATS, WORDS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.IntType(32), LANES)
ROUNDING = 1.5 * 2**23
"""Added to a small number it leaves the nearest whole one in the lowest bits."""


def data(context: Any, builder: Any, signature: Any, arguments: Any, n: int) -> Any:
    """Where the numbers of an argument begin."""
    return context.make_array(signature.args[n])(context, builder, arguments[n]).data


def place(builder: Any, numbers: Any, offset: Any) -> Any:
    """A vector of the numbers from an offset on."""
    return builder.bitcast(builder.gep(numbers, [offset]), FLOATS.as_pointer())


def taps_of_rows(typing, out, o, ow, start, e, ew, x, i, xw, step, taps, t, tw, count):  # noqa: ANN001, ANN201
    """out[o + r ow] = start[e + r ew] + sum_k taps[t + k tw] x[i + r xw + k step]: LANES numbers each, ROWS
    rows r, of C-contiguous float32 arrays.

    Nothing that is written may be read as x.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def rows(offset: Any, width: Any) -> list[Any]:
            return [builder.add(offset, builder.mul(width, ir.Constant(width.type, r))) for r in range(ROWS)]

        target, first, source, factors = (
            data(context, builder, signature, arguments, n) for n in (0, 3, 6, 10)
        )
        o, ow, e, ew, i, xw, step, t, tw, count = (arguments[n] for n in (1, 2, 4, 5, 7, 8, 9, 11, 12, 13))
        sums = [cgutils.alloca_once(builder, FLOATS) for _ in range(ROWS)]
        for total, row in zip(sums, rows(e, ew), strict=True):
            builder.store(builder.load(place(builder, first, row), align=4), total)
        with cgutils.for_range(builder, count) as loop:
            tap = builder.load(place(builder, factors, builder.add(t, builder.mul(loop.index, tw))), align=4)
            here = builder.add(i, builder.mul(loop.index, step))
            for total, row in zip(sums, rows(here, xw), strict=True):
                product = builder.fmul(
                    tap, builder.load(place(builder, source, row), align=4), flags=("contract",)
                )
                builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
        for total, row in zip(sums, rows(o, ow), strict=True):
            builder.store(builder.load(total), place(builder, target, row), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(out, n, n, start, n, n, x, n, n, n, taps, n, n, n), build


add_taps: Any = intrinsic(taps_of_rows)


def all_lanes(number: float) -> Any:
    return ir.Constant(FLOATS, [number] * LANES)


def one_and_exp_of_minus(builder: Any, v: Any) -> Any:
    """1 + exp(-v): 2^t = 2^k 2^f, k whole and f within -1/2..1/2, 2^f by its series to degree 7.

    Off by 2e-7 of itself, and by what rounds t: 6e-8 |v|.
    Beyond +-87 it is that of 87. What is no number stays so.
    """
    t = builder.fmul(v, all_lanes(-1 / math.log(2)))
    for sign, bound in (("<", -126.0), (">", 126.0)):
        t = builder.select(builder.fcmp_ordered(sign, t, all_lanes(bound)), all_lanes(bound), t)
    shifted = builder.fadd(t, all_lanes(ROUNDING))
    f = builder.fsub(t, builder.fsub(shifted, all_lanes(ROUNDING)))
    p = all_lanes(math.log(2) ** 7 / math.factorial(7))
    for n in range(6, -1, -1):
        factor = all_lanes(math.log(2) ** n / math.factorial(n))
        p = builder.fadd(builder.fmul(p, f, flags=("contract",)), factor, flags=("contract",))
    k = builder.shl(builder.bitcast(shifted, WORDS), ir.Constant(WORDS, [23] * LANES))
    scaled = builder.bitcast(builder.add(builder.bitcast(p, WORDS), k), FLOATS)
    return builder.select(builder.fcmp_unordered("uno", v, v), v, builder.fadd(scaled, all_lanes(1.0)))


def silu_of_row(typing, z, i, gain, bias, out, o, count):  # noqa: ANN001, ANN201
    """out[o + d] = silu(gain z[i + d] + bias[d]) for d below `count`, rounded down to LANES."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, shift, target = (data(context, builder, signature, arguments, n) for n in (0, 3, 4))
        i, gain, o, count = (arguments[n] for n in (1, 2, 5, 6))
        lanes = ir.Constant(count.type, LANES)
        many = ir.Constant(FLOATS, ir.Undefined)
        for n in range(LANES):
            many = builder.insert_element(many, gain, ir.Constant(ir.IntType(32), n))
        with cgutils.for_range(builder, builder.sdiv(count, lanes)) as loop:
            d = builder.mul(loop.index, lanes)
            v = builder.fmul(builder.load(place(builder, source, builder.add(i, d)), align=4), many)
            v = builder.fadd(v, builder.load(place(builder, shift, d), align=4))
            y = builder.fdiv(v, one_and_exp_of_minus(builder, v))
            builder.store(y, place(builder, target, builder.add(o, d)), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(z, n, types.float32, bias, out, n, n), build


def gate_of_row(typing, a, h, i, j, width, out, o):  # noqa: ANN001, ANN201
    """out[o + d] = (a_u v) sigmoid(a_v u) for d below `width`, rounded down to LANES; a_v and a_u begin at i
    and i + width of a, v and u at j and j + width of h."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        seen, values, target = (data(context, builder, signature, arguments, n) for n in (0, 1, 5))
        i, j, width, o = (arguments[n] for n in (2, 3, 4, 6))
        lanes = ir.Constant(width.type, LANES)
        with cgutils.for_range(builder, builder.sdiv(width, lanes)) as loop:
            d = builder.mul(loop.index, lanes)

            def part(numbers: Any, start: Any, second: bool) -> Any:
                offset = builder.add(start, d)
                offset = builder.add(offset, width) if second else offset
                return builder.load(place(builder, numbers, offset), align=4)

            gate = builder.fmul(part(seen, i, False), part(values, j, True))
            y = builder.fmul(part(seen, i, True), part(values, j, False))
            y = builder.fdiv(y, one_and_exp_of_minus(builder, gate))
            builder.store(y, place(builder, target, builder.add(o, d)), align=4)
        return context.get_dummy_value()

    n = types.intp
    return types.void(a, h, n, n, n, out, n), build


silu_row: Any = intrinsic(silu_of_row)
gate_row: Any = intrinsic(gate_of_row)
