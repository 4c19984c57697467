"""The linear recurrence on a CPU: one compiled pass over memory forward, one backward.

The feature axis is whole and innermost, so each step is one vectorised sweep over rows that lie next to each
other; the carried row stays in the first-level cache. Strides of batch and time are arguments: a half of a
projection, a transposed batch or a decay that is constant over time is read where it lies, without a copy.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.kernels.jit import compiled, pool

# numbers below which starting a second thread costs more than it gives
PARALLEL_FROM = 1 << 17


@compiled
def forward_rows(a, a_row, a_step, x, x_row, x_step, h0, h, time, width, first, last, left, right):  # noqa: ANN001, ANN201
    for b in range(first, last):
        before = h0[b * width + left : b * width + right]
        for t in range(time):
            i, j, k = b * a_row + t * a_step, b * x_row + t * x_step, (b * time + t) * width
            a_t, x_t, h_t = a[i + left : i + right], x[j + left : j + right], h[k + left : k + right]
            for d in range(right - left):
                h_t[d] = a_t[d] * before[d] + x_t[d]
            before = h_t


@compiled
def backward_rows(  # noqa: ANN201
    a, a_row, a_step, g, g_row, g_step, h0, h, da, dx, dh0, time, width, first, last, left, right  # noqa: ANN001
):  # fmt: skip
    for b in range(first, last):
        carry = dh0[b * width + left : b * width + right]
        for d in range(right - left):
            carry[d] = 0
        for t in range(time - 1, -1, -1):
            i, j, k = b * a_row + t * a_step, b * g_row + t * g_step, (b * time + t) * width
            a_t, g_t = a[i + left : i + right], g[j + left : j + right]
            da_t, dx_t = da[k + left : k + right], dx[k + left : k + right]
            if t:
                before = h[k - width + left : k - width + right]
            else:
                before = h0[b * width + left : b * width + right]
            for d in range(right - left - 1, -1, -1):  # memory in one direction: the prefetcher follows
                total = g_t[d] + carry[d]
                dx_t[d] = total
                da_t[d] = total * before[d].conjugate()
                carry[d] = total * a_t[d].conjugate()


def forward(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    """h (B, T, D) of a, x (B, T, D) and h0 (B, D), all of one type."""
    h = torch.empty(x.shape, dtype=x.dtype)
    if h.numel():
        share(forward_rows, (*strided(a), *strided(x), flat(h0), flat(h)), x.shape)
    return h


def backward(a: Tensor, h: Tensor, h0: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """da, dx, dh0 from the gradient of h, in one pass from right to left."""
    da, dx, dh0 = torch.empty_like(h), torch.empty_like(h), torch.empty_like(h0)
    if h.numel():
        arrays = (*strided(a), *strided(grad), flat(h0), flat(h), flat(da), flat(dx), flat(dh0))
        share(backward_rows, arrays, h.shape)
    else:
        dh0.zero_()
    return da, dx, dh0


def strided(t: Tensor) -> tuple[Any, int, int]:
    """Memory of t (B, T, D) as a flat array from its first number on, and the strides of batch and time."""
    t = t.resolve_conj().resolve_neg()
    if t.stride(2) != 1 and t.shape[2] > 1:
        # a repeated axis stays repeated: the gradient of a sum is one number, not (B, T, D) of them
        rows, steps = (1 if t.stride(axis) == 0 else t.shape[axis] for axis in (0, 1))
        t = t[:rows, :steps].contiguous().expand(t.shape)
    row, step, _ = t.stride()
    size = (t.shape[0] - 1) * row + (t.shape[1] - 1) * step + t.shape[2]
    return t.as_strided((size,), (1,)).numpy(), row, step


def flat(t: Tensor) -> Any:
    return t.resolve_conj().resolve_neg().contiguous().view(-1).numpy()


def share(kernel: Callable[..., Any], arrays: tuple[Any, ...], shape: torch.Size) -> None:
    """Run the kernel over all rows and features, cut over torch's threads when there is enough to do."""
    batch, time, width = shape
    threads = torch.get_num_threads()
    if threads == 1 or shape.numel() < PARALLEL_FROM:
        kernel(*arrays, time, width, 0, batch, 0, width)
        return
    rows = min(batch, threads)
    columns = max(1, min(threads // rows, width // 64))
    parts = [
        (batch * r // rows, batch * (r + 1) // rows, width * c // columns, width * (c + 1) // columns)
        for r in range(rows)
        for c in range(columns)
    ]
    list(pool(threads).map(lambda part: kernel(*arrays, time, width, *part), parts))
