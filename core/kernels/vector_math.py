"""Elementary functions for compiled loops that LLVM turns into vector code.

In float32 exp(x) = 2^k e^r with k = round(x / ln 2) and e^r - 1 a polynomial of degree 7 on |r| <= ln(2) / 2;
2^k is made by shifting k into the exponent bits. Errors: sigmoid 1.3e-7 relative, tanh 1.6e-7 relative
(through e^2x - 1, so that small arguments keep their digits). In float64 exp has degree 13, and sigmoid and
tanh are those of the C library.

A NaN stays a NaN and infinities saturate: only the clipped argument reaches the integer cast. A loop is
vectorised if division does not raise (`error_model`) and it touches few arrays, since each pair of them is
checked for overlap at run time: hence the many short loops of the cells, all within the first-level cache.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import literal_unroll, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np.arrayobj import populate_array

from core.kernels.jit import compiled


@intrinsic
def power_of_two(typingctx: Any, k: Any) -> Any:
    """2^k for an integral float32 k in -126..127."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        exponent = builder.add(builder.fptosi(arguments[0], word), ir.Constant(word, 127))
        return builder.bitcast(builder.shl(exponent, ir.Constant(word, 23)), ir.FloatType())

    return types.float32(types.float32), build


def part_of(typing: Any, memory: Any, offset: Any, size: Any) -> Any:
    """`memory[offset : offset + size]` of a contiguous array, unchecked.

    A slice is clamped to the array and counted as a reference, which costs as much as 30 products.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, (memory, offset, size) = signature.args[0], arguments
        whole = context.make_array(kind)(context, builder, memory)
        found = context.make_array(kind)(context, builder)
        width = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
        populate_array(
            found,
            data=builder.gep(whole.data, [offset]),
            shape=cgutils.pack_array(builder, [size]),
            strides=cgutils.pack_array(builder, [width]),
            itemsize=width,
            meminfo=None,
        )
        return found._getvalue()

    return memory(memory, types.intp, types.intp), build


part: Any = intrinsic(part_of)


ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)
LOG2E = np.float32(1 / math.log(2))
# 355 / 512 has so few bits that k times it is exact
LN2_HIGH = np.float32(355 / 512)
LN2_LOW = np.float32(math.log(2) - 355 / 512)
P2, P3, P4, P5, P6, P7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))


@compiled
def split_exp(x):  # noqa: ANN001, ANN201
    """2^k and e^r - 1 with exp(x) = 2^k (1 + (e^r - 1)); x within -87..87."""
    k = np.floor(x * LOG2E + HALF)
    r = x - k * LN2_HIGH - k * LN2_LOW
    p = P6 + r * P7
    p = P5 + r * p
    p = P4 + r * p
    p = P3 + r * p
    p = P2 + r * p
    return power_of_two(k), r + r * r * p  # pyright: ignore[reportCallIssue]


@compiled
def clip(x, bound):  # noqa: ANN001, ANN201
    """x within -bound..bound; NaN becomes -bound."""
    x = x if x > -bound else -bound
    return x if x < bound else bound


@compiled
def exp32(x):  # noqa: ANN001, ANN201
    scale, p = split_exp(clip(x, np.float32(87)))
    return scale + scale * p if x == x else x


@compiled
def sigmoid32(x):  # noqa: ANN001, ANN201
    scale, p = split_exp(clip(-x, np.float32(87)))
    y = ONE / (ONE + (scale + scale * p))
    return y if x == x else x


@compiled
def tanh32(x):  # noqa: ANN001, ANN201
    scale, p = split_exp(clip(TWO * x, np.float32(40)))
    e = scale * p + (scale - ONE)
    y = e / (e + TWO)
    return y if x == x else x


@intrinsic
def power_of_rounded(typing: Any, shifted: Any) -> Any:
    """2^k in float64, where k was rounded by adding 1.5 * 2^52: its bits are the low ones of the sum."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = ir.IntType(64)
        k = builder.shl(builder.bitcast(arguments[0], integer), integer(52))
        return builder.bitcast(builder.add(k, integer(1023 << 52)), arguments[0].type)

    return types.float64(types.float64), build


@compiled(fastmath={"contract"})
def exp64(x):  # noqa: ANN001, ANN201
    x = -708.0 if x < -708.0 else x
    x = 709.0 if x > 709.0 else x
    shifted = x * 1.4426950408889634 + 6755399441055744.0
    k = shifted - 6755399441055744.0
    r = (x - k * 0.693145751953125) - k * 1.42860682030941723212e-6
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * power_of_rounded(shifted)  # pyright: ignore[reportCallIssue]


@compiled
def sigmoid64(x):  # noqa: ANN001, ANN201
    # exp of a large number raises nothing here: it is inf, and 1 / inf is right
    return 1 / (1 + math.exp(-x))


@compiled
def tanh64(x):  # noqa: ANN001, ANN201
    return math.tanh(x)


def exp(x):  # noqa: ANN001, ANN201
    """e^x by the type of x; in float32 it saturates beyond +-87. Only inside compiled code."""
    raise NotImplementedError


def sigmoid(x):  # noqa: ANN001, ANN201
    """1 / (1 + e^-x) by the type of x. Only inside compiled code."""
    raise NotImplementedError


def tanh(x):  # noqa: ANN001, ANN201
    """Hyperbolic tangent by the type of x. Only inside compiled code."""
    raise NotImplementedError


@overload(exp)
def exp_of_type(x):  # noqa: ANN001, ANN201
    if isinstance(x, types.Complex):
        return lambda x: np.exp(x)
    return (lambda x: exp32(x)) if x == types.float32 else (lambda x: exp64(x))


@overload(sigmoid)
def sigmoid_of_type(x):  # noqa: ANN001, ANN201
    return (lambda x: sigmoid32(x)) if x == types.float32 else (lambda x: sigmoid64(x))


@overload(tanh)
def tanh_of_type(x):  # noqa: ANN001, ANN201
    return (lambda x: tanh32(x)) if x == types.float32 else (lambda x: tanh64(x))


def softplus(x):  # noqa: ANN001, ANN201
    """log(1 + exp x) = max(x, 0) + 2 artanh(e / (2 + e)) with e = exp(-|x|), exact for small results too."""
    raise NotImplementedError("only inside compiled code")


def logistic(x):  # noqa: ANN001, ANN201
    """1 / (1 + exp(-x)), the derivative of softplus."""
    raise NotImplementedError("only inside compiled code")


SHUT = {np.float32: -40.0, np.float64: -300.0}
"""Below it e^x is zero to softplus and its derivative: subnormal numbers cost ten times as much."""


@overload(softplus, jit_options={"fastmath": {"contract"}})
def choose_softplus(x):  # noqa: ANN001, ANN201
    number = np.float32 if x == types.float32 else np.float64
    terms = 9 if x == types.float32 else 18  # of artanh(s) / s in s^2 <= 1/9
    series = tuple(number(2 / (2 * k + 1)) for k in range(terms - 1, -1, -1))
    zero, two, lowest = number(0), number(2), number(SHUT[number])

    def evaluate(x):  # noqa: ANN001, ANN202
        e = zero if x < lowest else exp(-abs(x))
        s = e / (two + e)
        square = s * s
        p = zero
        for coefficient in literal_unroll(series):
            p = p * square + coefficient
        return (zero if x < zero else x) + p * s

    return evaluate


@overload(logistic, jit_options={"fastmath": {"contract"}})
def choose_logistic(x):  # noqa: ANN001, ANN201
    number = np.float32 if x == types.float32 else np.float64
    zero, one, lowest = number(0), number(1), number(SHUT[number])

    def evaluate(x):  # noqa: ANN001, ANN202
        e = zero if x < lowest else exp(-abs(x))
        return (e if x < 0 else one) / (one + e)

    return evaluate


@compiled
def sigmoid_row(x):  # noqa: ANN001, ANN201
    """Sigmoid of a row in place."""
    for j in range(x.size):
        x[j] = sigmoid(x[j])


@compiled
def tanh_row(x):  # noqa: ANN001, ANN201
    """Hyperbolic tangent of a row in place."""
    for j in range(x.size):
        x[j] = tanh(x[j])


@compiled
def add_row(x, y):  # noqa: ANN001, ANN201
    """x += y."""
    for j in range(x.size):
        x[j] += y[j]


@compiled
def add_scaled_row(x, y, z):  # noqa: ANN001, ANN201
    """x += y * z."""
    for j in range(x.size):
        x[j] += y[j] * z[j]


@compiled
def scale_row(x, y):  # noqa: ANN001, ANN201
    """x *= y."""
    for j in range(x.size):
        x[j] *= y[j]


@compiled
def sigmoid_gradient_row(d, y):  # noqa: ANN001, ANN201
    """Through y = sigmoid(x): d *= y (1 - y)."""
    for j in range(d.size):
        d[j] *= y[j] * (1 - y[j])


@compiled
def tanh_gradient_row(d, y):  # noqa: ANN001, ANN201
    """Through y = tanh(x): d *= 1 - y^2."""
    for j in range(d.size):
        d[j] *= 1 - y[j] * y[j]
