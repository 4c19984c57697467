"""Elementary functions for numba loops that LLVM turns into vector code.

`math.exp` inside a loop is a scalar call. Here exp is a polynomial on [-ln2/2, ln2/2] scaled by a power of
two through the exponent bits (relative error 1e-7 in float32), and sigmoid and tanh follow from it.

A loop over them vectorises when it touches few enough arrays: each pair needs an overlap check at run time.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from core.kernels.jit import compiled


@intrinsic
def _round_down(typingctx: Any, x: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        floor = builder.module.declare_intrinsic("llvm.floor", [ir.FloatType()])
        return builder.call(floor, args)

    return types.float32(types.float32), code


@intrinsic
def _scale_by_power(typingctx: Any, x: Any, k: Any) -> Any:
    """x * 2**k for whole k, without leaving 32 bits: numba's own integer arithmetic would widen to 64."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        int32 = ir.IntType(32)
        power = builder.fptosi(args[1], int32)
        power = builder.shl(builder.add(power, ir.Constant(int32, 127)), ir.Constant(int32, 23))
        return builder.fmul(args[0], builder.bitcast(power, ir.FloatType()))

    return types.float32(types.float32, types.float32), code


@compiled(inline="always")
def exp32(x: Any) -> Any:
    """e**x in float32; saturates at e**-87 and e**88, NaN stays NaN."""
    # written so that NaN falls through both comparisons
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    x = np.float32(88.0) if x > np.float32(88.0) else x
    k = _round_down(x * np.float32(1.4426950408889634) + np.float32(0.5))
    # ln 2 in two parts: the first has few bits, so k times it is exact
    r = (x - k * np.float32(0.693359375)) - k * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    return _scale_by_power(p, k)


@compiled(inline="always")
def sigmoid32(x: Any) -> Any:
    """1 / (1 + e**-x) in float32."""
    return np.float32(1.0) / (np.float32(1.0) + exp32(-x))


@compiled(inline="always")
def tanh32(x: Any) -> Any:
    """Hyperbolic tangent in float32, absolute error 1e-7."""
    return np.float32(1.0) - np.float32(2.0) / (np.float32(1.0) + exp32(np.float32(2.0) * x))
