"""A machine for one token: a list of small operators over one block of memory, run by one compiled call.

Calling torch costs microseconds for each operator, and a step has 10 to 100 of them. Here a step is a table
of numbers, an operator a row, and `execute` walks through it. It is compiled once for all networks, so that
a stream opens without a compiler.

A row: what to do, in which memory (0: float32, 1: float64), sizes of four axes, then offset and four strides
of the target and of up to three operands. Products use the axes as (matrices, rows, columns, inner).
"""

import math
from typing import Any

from core.kernels.jit import FAST_MATH, compiled
from core.kernels.vector_math import exp, sigmoid, softplus, tanh

WIDTH = 26
TARGET, FIRST, SECOND, THIRD = 6, 11, 16, 21
"""Where offset and strides of target and operands begin in a row."""

UP, DOWN, COPY, PRODUCT, LESS, SUM, LARGEST, NORM, CHOOSE, GATHER = range(10)
"""Between memories, copies, a + b c, a - b c, reductions, layer norm, a where c else b, rows of a table."""
ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, EQUAL, LESS_THAN, REMAINDER = range(20, 29)
"""Of two operands, element by element."""
(
    SIGMOID, TANH, EXP, LOG, SQRT, RSQRT, NEGATE, ABS, RELU, SOFTPLUS, LOG_SIGMOID, SILU, GELU, ELU,
    SQUARE, RECIPROCAL, COS, SIN, EXPM1, NOT, LOG1P, TRUNCATE,
) = range(40, 62)  # fmt: skip
"""Of one operand, written over the target after a copy."""


@compiled
def execute(program: Any, single: Any, double: Any) -> None:
    """Run all rows of a program (rows, WIDTH) over its two memories."""
    for index in range(program.shape[0]):
        row = program[index]
        if row[0] == UP:
            copy(row, single, double)
        elif row[0] == DOWN:
            copy(row, double, single)
        elif row[1] == 0:
            operate(row, single)
        else:
            operate(row, double)


@compiled
def operate(row: Any, m: Any) -> None:
    kind = row[0]
    if kind == COPY:
        copy(row, m, m)
    elif kind == PRODUCT or kind == LESS:
        multiply(row, m, kind == LESS)
    elif kind == SUM or kind == LARGEST:
        reduce_rows(row, m)
    elif kind == NORM:
        normalise(row, m)
    elif kind == CHOOSE:
        choose(row, m)
    elif kind == GATHER:
        gather(row, m)
    elif kind < SIGMOID:
        of_two(row, m)
    else:
        copy(row, m, m)
        of_one(kind, m[row[TARGET] : row[TARGET] + row[2] * row[3] * row[4] * row[5]])


@compiled
def copy(row: Any, source: Any, target: Any) -> None:
    n = row[5]
    ds, s = row[TARGET + 4], row[FIRST + 4]
    for i in range(row[2]):
        for j in range(row[3]):
            for k in range(row[4]):
                d = row[TARGET] + i * row[TARGET + 1] + j * row[TARGET + 2] + k * row[TARGET + 3]
                a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2] + k * row[FIRST + 3]
                if ds == 1 and s == 1:
                    for t in range(n):
                        target[d + t] = source[a + t]
                else:
                    for t in range(n):
                        target[d + t * ds] = source[a + t * s]


@compiled
def of_two(row: Any, m: Any) -> None:
    """Targets are contiguous along the last axis."""
    kind, n = row[0], row[5]
    sa, sb = row[FIRST + 4], row[SECOND + 4]
    for i in range(row[2]):
        for j in range(row[3]):
            for k in range(row[4]):
                d = row[TARGET] + i * row[TARGET + 1] + j * row[TARGET + 2] + k * row[TARGET + 3]
                a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2] + k * row[FIRST + 3]
                b = row[SECOND] + i * row[SECOND + 1] + j * row[SECOND + 2] + k * row[SECOND + 3]
                if sa == 1 and sb == 1:
                    rows_of_two(kind, m[d : d + n], m[a : a + n], m[b : b + n])
                elif sb == 0 and sa == 1:
                    row_and_number(kind, m[d : d + n], m[a : a + n], m[b])
                elif sa == 0 and sb == 1 and (kind == ADD or kind == MULTIPLY):
                    row_and_number(kind, m[d : d + n], m[b : b + n], m[a])
                else:
                    for t in range(n):
                        m[d + t] = number_of_two(kind, m[a + t * sa], m[b + t * sb])


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


@compiled(fastmath=FAST_MATH | {"reassoc"})
def multiply(row: Any, m: Any, less: Any) -> None:
    """target = first (zero where its offset is -1) + second third, or `less` the product, for each matrix."""
    rows, columns, inner = row[3], row[4], row[5]
    for index in range(row[2]):
        for i in range(rows):
            d = row[TARGET] + index * row[TARGET + 1] + i * row[TARGET + 2]
            out = m[d : d + columns]
            if row[FIRST] < 0:
                for j in range(columns):
                    out[j] = 0
            else:
                c, step = row[FIRST] + index * row[FIRST + 1] + i * row[FIRST + 2], row[FIRST + 3]
                for j in range(columns):
                    out[j] = m[c + j * step]
            a, sa = row[SECOND] + index * row[SECOND + 1] + i * row[SECOND + 2], row[SECOND + 3]
            b = row[THIRD] + index * row[THIRD + 1]
            sk, sj = row[THIRD + 2], row[THIRD + 3]
            if sk == 1 and sa == 1 and inner > 1:  # rows of a weight: one product after another
                x = m[a : a + inner]
                whole = columns - columns % 4
                for j in range(0, whole, 4):  # four at once share the token
                    w = m[b + j * sj : b + j * sj + inner]
                    w1 = m[b + (j + 1) * sj : b + (j + 1) * sj + inner]
                    w2 = m[b + (j + 2) * sj : b + (j + 2) * sj + inner]
                    w3 = m[b + (j + 3) * sj : b + (j + 3) * sj + inner]
                    total = out[j] * 0
                    total1, total2, total3 = total, total, total
                    for k in range(inner):
                        total += x[k] * w[k]
                        total1 += x[k] * w1[k]
                        total2 += x[k] * w2[k]
                        total3 += x[k] * w3[k]
                    out[j] += -total if less else total
                    out[j + 1] += -total1 if less else total1
                    out[j + 2] += -total2 if less else total2
                    out[j + 3] += -total3 if less else total3
                for j in range(whole, columns):
                    w = m[b + j * sj : b + j * sj + inner]
                    total = out[j] * 0
                    for k in range(inner):
                        total += x[k] * w[k]
                    out[j] += -total if less else total
            elif sj == 1:
                for k in range(inner):
                    x_k = -m[a + k * sa] if less else m[a + k * sa]
                    w = m[b + k * sk : b + k * sk + columns]
                    for j in range(columns):
                        out[j] += x_k * w[j]
            else:
                for j in range(columns):
                    total = out[j] * 0
                    for k in range(inner):
                        total += m[a + k * sa] * m[b + k * sk + j * sj]
                    out[j] += -total if less else total


@compiled
def reduce_rows(row: Any, m: Any) -> None:
    """Sum or largest over the last axis; the target has the three axes before it, contiguous."""
    d, n, s = row[TARGET], row[5], row[FIRST + 4]
    for i in range(row[2]):
        for j in range(row[3]):
            for k in range(row[4]):
                a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2] + k * row[FIRST + 3]
                total = m[a]
                for t in range(1, n):
                    x = m[a + t * s]
                    if row[0] == SUM:
                        total += x
                    elif x > total or x != x:
                        total = x
                m[d] = total
                d += 1


@compiled
def normalise(row: Any, m: Any) -> None:
    """Layer norm of contiguous rows (n, D) without weights; m[second] is eps."""
    n = row[5]
    for i in range(row[4]):
        x = m[row[FIRST] + i * n : row[FIRST] + (i + 1) * n]
        y = m[row[TARGET] + i * n : row[TARGET] + (i + 1) * n]
        mean = x[0] * 0
        for t in range(n):
            mean += x[t]
        mean /= n
        spread = mean * 0
        for t in range(n):
            spread += (x[t] - mean) * (x[t] - mean)
        scale = 1 / math.sqrt(spread / n + m[row[SECOND]])
        for t in range(n):
            y[t] = (x[t] - mean) * scale


@compiled
def choose(row: Any, m: Any) -> None:
    """first where third is not zero, else second."""
    for i in range(row[2]):
        for j in range(row[3]):
            for k in range(row[4]):
                for t in range(row[5]):
                    at = TARGET
                    d = row[at] + i * row[at + 1] + j * row[at + 2] + k * row[at + 3] + t * row[at + 4]
                    at = THIRD
                    c = row[at] + i * row[at + 1] + j * row[at + 2] + k * row[at + 3] + t * row[at + 4]
                    at = FIRST if m[c] != 0 else SECOND
                    m[d] = m[row[at] + i * row[at + 1] + j * row[at + 2] + k * row[at + 3] + t * row[at + 4]]


@compiled
def gather(row: Any, m: Any) -> None:
    """Rows (n) of a table (.., n) by `row[4]` numbers at second."""
    n = row[5]
    for i in range(row[4]):
        a = row[FIRST] + int(m[row[SECOND] + i]) * n
        for t in range(n):
            m[row[TARGET] + i * n + t] = m[a + t]
