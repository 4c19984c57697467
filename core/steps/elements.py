"""Rows of the machine that work element by element."""

import math
from typing import Any

from core.kernels.jit import compiled
from core.kernels.vector_math import exp, part, sigmoid, softplus, tanh
from core.steps.codes import (
    ABS,
    ADD,
    COS,
    DIVIDE,
    ELU,
    EQUAL,
    EXP,
    EXPM1,
    FIRST,
    FROM,
    GELU,
    LESS_THAN,
    LOG,
    LOG1P,
    LOG_SIGMOID,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    NEGATE,
    RECIPROCAL,
    RELU,
    RSQRT,
    SECOND,
    SIGMOID,
    SILU,
    SIN,
    SOFTPLUS,
    SQRT,
    SQUARE,
    SUBTRACT,
    TAKE,
    TANH,
    TARGET,
    THIRD,
    TRUNCATE,
)


@compiled
def of_two(row: Any, m: Any) -> None:
    """Targets are contiguous along the last axis."""
    kind, n = row[0], row[5]
    sa, sb = row[FIRST + 4], row[SECOND + 4]
    dk, ak, bk = row[TARGET + 3], row[FIRST + 3], row[SECOND + 3]
    for i in range(row[2]):
        for j in range(row[3]):
            d = row[TARGET] + i * row[TARGET + 1] + j * row[TARGET + 2]
            a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2]
            b = row[SECOND] + i * row[SECOND + 1] + j * row[SECOND + 2]
            for _ in range(row[4]):
                if sa == 1 and sb == 1:
                    rows_of_two(kind, part(m, d, n), part(m, a, n), part(m, b, n))
                elif sb == 0 and sa == 1:
                    row_and_number(kind, part(m, d, n), part(m, a, n), m[b])
                elif sa == 0 and sb == 1 and (kind == ADD or kind == MULTIPLY):
                    row_and_number(kind, part(m, d, n), part(m, b, n), m[a])
                else:
                    for t in range(n):
                        m[d + t] = number_of_two(kind, m[a + t * sa], m[b + t * sb])
                d, a, b = d + dk, a + ak, b + bk


@compiled
def rows_of_two(kind: Any, d: Any, a: Any, b: Any) -> None:
    if kind == ADD:
        for t in range(d.size):
            d[t] = a[t] + b[t]
    elif kind == SUBTRACT:
        for t in range(d.size):
            d[t] = a[t] - b[t]
    elif kind == MULTIPLY:
        for t in range(d.size):
            d[t] = a[t] * b[t]
    else:
        for t in range(d.size):
            d[t] = number_of_two(kind, a[t], b[t])


@compiled
def row_and_number(kind: Any, d: Any, a: Any, b: Any) -> None:
    if kind == ADD:
        for t in range(d.size):
            d[t] = a[t] + b
    elif kind == MULTIPLY:
        for t in range(d.size):
            d[t] = a[t] * b
    else:
        for t in range(d.size):
            d[t] = number_of_two(kind, a[t], b)


@compiled
def number_of_two(kind: Any, a: Any, b: Any) -> Any:
    if kind == ADD:
        return a + b
    if kind == SUBTRACT:
        return a - b
    if kind == MULTIPLY:
        return a * b
    if kind == DIVIDE:
        return a / b
    if kind == MAXIMUM:
        return a if a > b or a != a else b
    if kind == MINIMUM:
        return a if a < b or a != a else b
    if kind == EQUAL:
        return a * 0 + (1 if a == b else 0)
    if kind == LESS_THAN:
        return a * 0 + (1 if a < b else 0)
    return a - math.floor(a / b) * b


@compiled
def of_one(kind: Any, x: Any) -> None:
    """In place."""
    n = x.size
    if kind == SIGMOID:
        for t in range(n):
            x[t] = sigmoid(x[t])
    elif kind == TANH:
        for t in range(n):
            x[t] = tanh(x[t])
    elif kind == SILU:
        for t in range(n):
            x[t] = x[t] * sigmoid(x[t])
    elif kind == EXP:
        for t in range(n):
            x[t] = exp(x[t])
    elif kind == SOFTPLUS:
        for t in range(n):
            x[t] = softplus(x[t])
    elif kind == LOG_SIGMOID:
        for t in range(n):
            x[t] = -softplus(-x[t])
    elif kind == SQUARE:
        for t in range(n):
            x[t] = x[t] * x[t]
    elif kind == NEGATE:
        for t in range(n):
            x[t] = -x[t]
    elif kind == RELU:
        for t in range(n):
            x[t] = x[t] if x[t] > 0 or x[t] != x[t] else x[t] * 0
    else:
        for t in range(n):
            x[t] = number_of_one(kind, x[t])


@compiled
def number_of_one(kind: Any, x: Any) -> Any:
    if kind == LOG:
        return math.log(x)
    if kind == SQRT:
        return math.sqrt(x)
    if kind == RSQRT:
        return 1 / math.sqrt(x)
    if kind == ABS:
        return abs(x)
    if kind == GELU:
        return 0.5 * x * (1 + math.erf(x * 0.7071067811865476))
    if kind == ELU:
        return x if x > 0 else math.expm1(x)
    if kind == RECIPROCAL:
        return 1 / x
    if kind == COS:
        return math.cos(x)
    if kind == SIN:
        return math.sin(x)
    if kind == EXPM1:
        return math.expm1(x)
    if kind == LOG1P:
        return math.log1p(x)
    if kind == TRUNCATE:
        return math.ceil(x) if x < 0 else math.floor(x)
    return 1 - x


@compiled
def choose(row: Any, m: Any) -> None:
    """first where third is not zero, else second."""
    n = row[5]
    sa, sb, sc = row[FIRST + 4], row[SECOND + 4], row[THIRD + 4]
    for i in range(row[2]):
        for j in range(row[3]):
            for k in range(row[4]):
                d = row[TARGET] + i * row[TARGET + 1] + j * row[TARGET + 2] + k * row[TARGET + 3]
                a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2] + k * row[FIRST + 3]
                b = row[SECOND] + i * row[SECOND + 1] + j * row[SECOND + 2] + k * row[SECOND + 3]
                c = row[THIRD] + i * row[THIRD + 1] + j * row[THIRD + 2] + k * row[THIRD + 3]
                out = part(m, d, n)
                if sc == 0:  # one answer for all of them
                    at, step = (a, sa) if m[c] != 0 else (b, sb)
                    if step == 1:
                        x = part(m, at, n)
                        for t in range(n):
                            out[t] = x[t]
                    else:
                        for t in range(n):
                            out[t] = m[at + t * step]
                else:
                    for t in range(n):
                        out[t] = m[a + t * sa] if m[c + t * sc] != 0 else m[b + t * sb]


@compiled
def add_product_rows(row: Any, m: Any) -> None:
    """first + second third, first - second third, or second third - first; the target lies together."""
    kind, count, n = row[0], row[4], row[5]
    sa, sb, sc = row[FIRST + 4], row[SECOND + 4], row[THIRD + 4]
    one, two = m.dtype.type(-1 if kind == FROM else 1), m.dtype.type(-1 if kind == TAKE else 1)
    dk, ak, bk, ck = row[TARGET + 3], row[FIRST + 3], row[SECOND + 3], row[THIRD + 3]
    for i in range(row[2]):
        for j in range(row[3]):
            d = row[TARGET] + i * row[TARGET + 1] + j * row[TARGET + 2]
            a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2]
            b = row[SECOND] + i * row[SECOND + 1] + j * row[SECOND + 2]
            c = row[THIRD] + i * row[THIRD + 1] + j * row[THIRD + 2]
            if sa == 1 and sb == 1 and sc == 1:
                for _ in range(count):
                    out, x, y, z = part(m, d, n), part(m, a, n), part(m, b, n), part(m, c, n)
                    for t in range(n):
                        out[t] = one * x[t] + two * y[t] * z[t]
                    d, a, b, c = d + dk, a + ak, b + bk, c + ck
            elif sa == 1 and sb == 1 and sc == 0:
                add_scaled(m, d, dk, a, ak, b, bk, c, ck, count, n, one, two)
            elif sa == 1 and sb == 0 and sc == 1:
                add_scaled(m, d, dk, a, ak, c, ck, b, bk, count, n, one, two)
            else:
                for _ in range(count):
                    for t in range(n):
                        m[d + t] = one * m[a + t * sa] + two * m[b + t * sb] * m[c + t * sc]
                    d, a, b, c = d + dk, a + ak, b + bk, c + ck


@compiled
def add_scaled(
    m: Any,
    d: Any,
    dk: Any,
    a: Any,
    ak: Any,
    b: Any,
    bk: Any,
    c: Any,
    ck: Any,
    count: Any,
    n: Any,
    one: Any,
    two: Any,
) -> None:
    """Rows d = one a + two c b with a number c a row; each begins dk, ak, bk, ck after the one before."""
    for _ in range(count):
        out, x, y, factor = part(m, d, n), part(m, a, n), part(m, b, n), two * m[c]
        for t in range(n):
            out[t] = one * x[t] + y[t] * factor
        d, a, b, c = d + dk, a + ak, b + bk, c + ck
