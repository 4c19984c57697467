"""Matrix products inside compiled loops: a register tile that keeps the multipliers busy at few rows.

A product of 8 rows is what a recurrent step needs, and what BLAS is worst at: every call packs the matrix
again. Here the matrix is packed once, before the loop, in panels as wide as two vector registers, and a tile
of 8 rows (4 without AVX-512) by one panel accumulates in registers:

    out[r, p] = start[r, p] + sum_k a[r, k] panel[p, k]

`a` may have any strides, so a transposed view costs nothing.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from core.kernels.vector_math import compiled

WIDE = bool(binding.get_host_cpu_features().get("avx512f", False))
REGISTER = 64 if WIDE else 32
"""Bytes of a vector; where registers are shorter LLVM uses several."""
HEIGHTS = (8, 4, 2, 1) if WIDE else (4, 2, 1)
"""Rows of a tile, the tallest that fits first."""
SUMS = {2: 2, 1: 4}
"""Accumulators per place in low tiles, which would else wait for the latency of the adder."""
VECTORS = 2
"""Vectors in a row of a panel."""
BLOCK = 64
"""Rows that go through all panels before the next rows are read."""
DEPTH = 256
"""Rows of a piece of a long sum over rows."""


@intrinsic
def multiply_panel(
    typingctx: Any,
    like: Any,
    a: Any,
    rows: Any,
    row_stride: Any,
    k_stride: Any,
    panel: Any,
    inner: Any,
    start: Any,
    start_stride: Any,
    out: Any,
    out_stride: Any,
) -> Any:
    """All rows times one panel. Pointers are addresses, strides count items, `like` gives the type."""
    address, count = types.uintp, types.intp
    signature = types.void(like, address, count, count, count, address, count, address, count, address, count)
    item = ir.FloatType() if like.dtype == types.float32 else ir.DoubleType()
    return signature, partial(build_panel_product, item, 4 if like.dtype == types.float32 else 8)


def build_panel_product(
    item: Any, size: int, context: Any, builder: Any, signature: Any, arguments: Any
) -> Any:
    """LLVM code of `multiply_panel`: for each height of tile, as many tiles as fit the rows that are left."""
    _, a, rows, row_stride, k_stride, panel, inner, start, start_stride, out, out_stride = arguments
    lanes = REGISTER // size
    vector = ir.VectorType(item, lanes)
    word, index = ir.IntType(64), ir.IntType(32)
    undefined, zero = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0.0] * lanes)
    splat = ir.Constant(ir.VectorType(index, lanes), [0] * lanes)
    panel = builder.inttoptr(panel, vector.as_pointer())

    def step(base: Any, stride: Any, row: Any) -> Any:
        return builder.gep(base, [builder.mul(stride, row)])

    def tile(row: Any, height: int) -> None:
        bases = [builder.inttoptr(pointer, item.as_pointer()) for pointer in (a, start, out)]
        lines = [
            [step(base, stride, builder.add(row, word(r))) for r in range(height)]
            for base, stride in zip(bases, (row_stride, start_stride, out_stride), strict=True)
        ]
        a_rows, start_rows, out_rows = lines
        cells = [(r, v) for r in range(height) for v in range(VECTORS)]
        sums = SUMS.get(height, 1)

        def place(lines: Any, r: int, v: int) -> Any:
            return builder.bitcast(builder.gep(lines[r], [word(v * lanes)]), vector.as_pointer())

        totals = {}
        for way in range(sums):
            for r, v in cells:
                first = builder.load(place(start_rows, r, v), align=size) if way == 0 else zero
                totals[way, r, v] = cgutils.alloca_once(builder, vector)
                builder.store(first, totals[way, r, v])

        def accumulate(k: Any, way: int) -> None:
            at = builder.mul(k, word(VECTORS))
            columns = [
                builder.load(builder.gep(panel, [builder.add(at, word(v))]), align=size)
                for v in range(VECTORS)
            ]
            for r in range(height):
                scalar = builder.load(builder.gep(a_rows[r], [builder.mul(k, k_stride)]))
                lifted = builder.insert_element(undefined, scalar, index(0))
                lifted = builder.shuffle_vector(lifted, undefined, splat)
                for v in range(VECTORS):
                    product = builder.fmul(lifted, columns[v], flags=("contract",))
                    total = builder.fadd(builder.load(totals[way, r, v]), product, flags=("contract",))
                    builder.store(total, totals[way, r, v])

        whole = builder.mul(builder.sdiv(inner, word(sums)), word(sums))
        with cgutils.for_range_slice(builder, word(0), whole, word(sums), inc=True) as (k, _):
            for way in range(sums):
                accumulate(builder.add(k, word(way)), way)
        with cgutils.for_range_slice(builder, whole, inner, word(1), inc=True) as (k, _):
            accumulate(k, 0)
        for r, v in cells:
            total = builder.load(totals[0, r, v])
            for way in range(1, sums):
                total = builder.fadd(total, builder.load(totals[way, r, v]))
            builder.store(total, place(out_rows, r, v), align=size)

    done = word(0)
    for height in HEIGHTS:
        fitting = builder.sdiv(builder.sub(rows, done), word(height))
        end = builder.add(done, builder.mul(fitting, word(height)))
        with cgutils.for_range_slice(builder, done, end, word(height), inc=True) as (row, _):
            tile(row, height)
        done = end
    return context.get_dummy_value()


@compiled
def pack(matrix):  # noqa: ANN001, ANN201
    """matrix (K, N), any strides -> panels (ceil(N / W), K, W), zero beyond N."""
    inner, width = matrix.shape
    columns = VECTORS * REGISTER // matrix.itemsize
    panels = np.zeros((-(-width // columns), inner, columns), matrix.dtype)
    for p in range(panels.shape[0]):
        left = p * columns
        right = min(left + columns, width)
        for k in range(inner):
            for j in range(left, right):
                panels[p, k, j - left] = matrix[k, j]
    return panels


@compiled
def multiply_panels(a, panels, start, out):  # noqa: ANN001, ANN201
    """out (R, N) = start + a (R, K) @ panels; start is (1, N), (R, N), or out itself."""
    rows, inner = a.shape
    width = out.shape[1]
    size = out.itemsize
    columns = panels.shape[2]
    start_stride = 0 if start.shape[0] == 1 else start.strides[0] // size
    row_stride, k_stride, out_stride = a.strides[0] // size, a.strides[1] // size, out.strides[0] // size
    a_at, panels_at, start_at, out_at = a.ctypes.data, panels.ctypes.data, start.ctypes.data, out.ctypes.data
    full = width // columns
    for top in range(0, rows, BLOCK):
        tall = min(BLOCK, rows - top)
        for p in range(full):
            multiply_panel(  # pyright: ignore[reportCallIssue]
                out,
                a_at + top * row_stride * size,
                tall,
                row_stride,
                k_stride,
                panels_at + p * inner * columns * size,
                inner,
                start_at + (top * start_stride + p * columns) * size,
                start_stride,
                out_at + (top * out_stride + p * columns) * size,
                out_stride,
            )
        if full * columns < width:
            # the last panel is wider than out: through a block of its own
            left = full * columns
            edge = np.empty((tall, columns), out.dtype)
            for r in range(tall):
                from_row = 0 if start_stride == 0 else top + r
                for j in range(left, width):
                    edge[r, j - left] = start[from_row, j]
            edge_at = edge.ctypes.data
            multiply_panel(  # pyright: ignore[reportCallIssue]
                out,
                a_at + top * row_stride * size,
                tall,
                row_stride,
                k_stride,
                panels_at + full * inner * columns * size,
                inner,
                edge_at,
                columns,
                edge_at,
                columns,
            )
            for r in range(tall):
                for j in range(left, width):
                    out[top + r, j] = edge[r, j - left]


@compiled
def multiply_turning(a, panels, start, out, step):  # noqa: ANN001, ANN201
    """`multiply_panels` inside a loop over steps: every second step takes the panels in falling order.

    A recurrent matrix is about as large as the first-level cache. Read from its beginning at every step, none
    of it would be there still; turning round finds what the step before read last.
    """
    rows, inner = a.shape
    count, _, columns = panels.shape
    if rows > BLOCK or count * columns != out.shape[1]:
        multiply_panels(a, panels, start, out)
        return
    size = out.itemsize
    start_stride = 0 if start.shape[0] == 1 else start.strides[0] // size
    row_stride, k_stride, out_stride = a.strides[0] // size, a.strides[1] // size, out.strides[0] // size
    a_at, panels_at, start_at, out_at = a.ctypes.data, panels.ctypes.data, start.ctypes.data, out.ctypes.data
    for q in range(count):
        p = q if step % 2 == 0 else count - 1 - q
        multiply_panel(  # pyright: ignore[reportCallIssue]
            out,
            a_at,
            rows,
            row_stride,
            k_stride,
            panels_at + p * inner * columns * size,
            inner,
            start_at + p * columns * size,
            start_stride,
            out_at + p * columns * size,
            out_stride,
        )


@compiled
def multiply_rows(a, weight, start, out):  # noqa: ANN001, ANN201
    """out (R, N) = start + a (R, K) @ weight (N, K)^T without packing: for a few rows."""
    rows = a.shape[0]
    many = start.shape[0] > 1
    for n in range(weight.shape[0]):
        for r in range(rows):
            out[r, n] = start[r if many else 0, n] + dot(a[r], weight[n])


@njit(nogil=True, fastmath={"contract", "nsz", "reassoc"})
def dot(x, y):  # noqa: ANN001, ANN201
    """Inner product of two rows."""
    total = x[0] * y[0]
    for j in range(1, x.size):
        total += x[j] * y[j]
    return total


def multiply(a, matrix, start, out, step=0):  # noqa: ANN001, ANN201
    """out (R, N) = start + a (R, K) @ matrix; matrix as panels, or as rows (N, K). Only compiled."""
    raise NotImplementedError


@overload(multiply)
def multiply_as_given(a, matrix, start, out, step=0):  # noqa: ANN001, ANN201
    if matrix.ndim == 3:
        return lambda a, matrix, start, out, step=0: multiply_turning(a, matrix, start, out, step)
    return lambda a, matrix, start, out, step=0: multiply_rows(a, matrix, start, out)


@compiled
def add_outer(d, a, out):  # noqa: ANN001, ANN201
    """out (G, K) += d (R, G)^T @ a (R, K): the gradient of a weight over all rows at once."""
    rows = d.shape[0]
    for top in range(0, rows, DEPTH):
        bottom = min(top + DEPTH, rows)
        multiply_panels(d[top:bottom].T, pack(a[top:bottom]), out, out)


@compiled
def add_rows(d, out):  # noqa: ANN001, ANN201
    """out (G,) += sum of the rows of d (R, G): the gradient of a bias."""
    for r in range(d.shape[0]):
        for j in range(out.size):
            out[j] += d[r, j]
