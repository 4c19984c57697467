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
from core.kernels.vector_math import part
from core.steps.codes import (
    CHOOSE,
    COPY,
    DOT,
    DOWN,
    FIRST,
    FROM,
    GATHER,
    GIVE,
    LARGEST,
    LESS,
    LESS_DOT,
    NORM,
    PRODUCT,
    SECOND,
    SIGMOID,
    SUM,
    TAKE,
    TARGET,
    THIRD,
    UP,
)
from core.steps.elements import add_product_rows, choose, of_one, of_two


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
    elif kind == DOT or kind == LESS_DOT:
        dot_rows(row, m, kind == LESS_DOT)
    elif kind == GIVE or kind == TAKE or kind == FROM:
        add_product_rows(row, m)
    elif kind < SIGMOID:
        of_two(row, m)
    else:
        copy(row, m, m)
        of_one(kind, part(m, row[TARGET], row[2] * row[3] * row[4] * row[5]))


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
                    to, of = part(target, d, n), part(source, a, n)
                    for t in range(n):
                        to[t] = of[t]
                else:
                    for t in range(n):
                        target[d + t * ds] = source[a + t * s]


@compiled(fastmath=FAST_MATH | {"reassoc"})
def add_products(m: Any, a: Any, b: Any, step: Any, inner: Any, out: Any, less: Any) -> None:
    """out[j] += x . w_j, or `less` it, for x at a and rows w_j at b + j step; four at once share x."""
    x = part(m, a, inner)
    whole = out.size - out.size % 4
    for j in range(0, whole, 4):
        w = part(m, b + j * step, inner)
        w1 = part(m, b + (j + 1) * step, inner)
        w2 = part(m, b + (j + 2) * step, inner)
        w3 = part(m, b + (j + 3) * step, inner)
        total = m.dtype.type(0)
        total1 = m.dtype.type(0)
        total2 = m.dtype.type(0)
        total3 = m.dtype.type(0)
        for k in range(inner):
            total += x[k] * w[k]
            total1 += x[k] * w1[k]
            total2 += x[k] * w2[k]
            total3 += x[k] * w3[k]
        out[j] += -total if less else total
        out[j + 1] += -total1 if less else total1
        out[j + 2] += -total2 if less else total2
        out[j + 3] += -total3 if less else total3
    for j in range(whole, out.size):
        w = part(m, b + j * step, inner)
        total = m.dtype.type(0)
        for k in range(inner):
            total += x[k] * w[k]
        out[j] += -total if less else total


@compiled(fastmath=FAST_MATH | {"reassoc"})
def multiply(row: Any, m: Any, less: Any) -> None:
    """target = first (zero where its offset is -1) + second third, or `less` the product, for each matrix."""
    rows, columns, inner = row[3], row[4], row[5]
    for index in range(row[2]):
        for i in range(rows):
            d = row[TARGET] + index * row[TARGET + 1] + i * row[TARGET + 2]
            out = part(m, d, columns)
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
                add_products(m, a, b, sj, inner, out, less)
            elif sj == 1:
                for k in range(inner):
                    x_k = -m[a + k * sa] if less else m[a + k * sa]
                    w = part(m, b + k * sk, columns)
                    for j in range(columns):
                        out[j] += x_k * w[j]
            else:
                for j in range(columns):
                    total = out[j] * 0
                    for k in range(inner):
                        total += m[a + k * sa] * part(m, b + k * sk + j * sj, 1)[0]
                    out[j] += -total if less else total


@compiled(fastmath=FAST_MATH | {"reassoc"})
def reduce_rows(row: Any, m: Any) -> None:
    """Sum or largest over the last axis; the target has the three axes before it, contiguous."""
    d, count, n, s = row[TARGET], row[4], row[5], row[FIRST + 4]
    for i in range(row[2]):
        for j in range(row[3]):
            a, step = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2], row[FIRST + 3]
            if row[0] == LARGEST:
                for k in range(count):
                    m[d + k] = largest(m, a + k * step, s, n)
            elif step == 1 and s != 1:  # whole rows are added up
                out, first = part(m, d, count), part(m, a, count)
                for k in range(count):
                    out[k] = first[k]
                for t in range(1, n):
                    other = part(m, a + t * s, count)
                    for k in range(count):
                        out[k] += other[k]
            else:
                for k in range(count):
                    total = m.dtype.type(0)
                    if s == 1:
                        x = part(m, a + k * step, n)
                        for t in range(n):
                            total += x[t]
                    else:
                        for t in range(n):
                            total += m[a + k * step + t * s]
                    m[d + k] = total
            d += count


@compiled
def largest(m: Any, a: Any, step: Any, n: Any) -> Any:
    """Of n numbers from a on; a NaN is."""
    found = m[a]
    for t in range(1, n):
        x = m[a + t * step]
        if x > found or x != x:
            found = x
    return found


@compiled(fastmath=FAST_MATH | {"reassoc"})
def dot_rows(row: Any, m: Any, less: Any) -> None:
    """Sums of products over the last axis, which lies together, or third plus or `less` them, in one line."""
    d, e, n = row[TARGET], row[THIRD], row[5]
    for i in range(row[2]):
        for j in range(row[3]):
            a = row[FIRST] + i * row[FIRST + 1] + j * row[FIRST + 2]
            b = row[SECOND] + i * row[SECOND + 1] + j * row[SECOND + 2]
            for _ in range(row[4]):
                x, y, total = part(m, a, n), part(m, b, n), m.dtype.type(0)
                for t in range(n):
                    total += x[t] * y[t]
                total = -total if less else total
                m[d] = total if row[THIRD] < 0 else m[e] + total
                d, e, a, b = d + 1, e + 1, a + row[FIRST + 3], b + row[SECOND + 3]


@compiled
def normalise(row: Any, m: Any) -> None:
    """Layer norm of contiguous rows (n, D) without weights; m[second] is eps."""
    n = row[5]
    for i in range(row[4]):
        x = part(m, row[FIRST] + i * n, n)
        y = part(m, row[TARGET] + i * n, n)
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
def gather(row: Any, m: Any) -> None:
    """Rows (n) of a table (.., n) by `row[4]` numbers at second."""
    n = row[5]
    for i in range(row[4]):
        a = row[FIRST] + int(m[row[SECOND] + i]) * n
        for t in range(n):
            m[row[TARGET] + i * n + t] = m[a + t]
