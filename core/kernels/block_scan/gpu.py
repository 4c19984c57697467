"""The block recurrence with n = 2 on a GPU, one pass over memory (equations: `core.kernels.block_scan`).

As in `core.kernels.linear_scan.gpu` a program owns a batch row and a block of channels, walks over time in
tiles, and scans the affine maps h -> P h + u inside a tile. A map is six numbers.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TIME, CHANNELS = 64, 16


@triton.jit
def later(a1, b1, c1, d1, u1, v1, a2, b2, c2, d2, u2, v2):  # noqa: ANN001, ANN201
    """First [[a1, b1], [c1, d1]] h + (u1, v1), then the second."""
    return (
        a2 * a1 + b2 * c1,
        a2 * b1 + b2 * d1,
        c2 * a1 + d2 * c1,
        c2 * b1 + d2 * d1,
        a2 * u1 + b2 * v1 + u2,
        c2 * u1 + d2 * v1 + v2,
    )


@triton.jit
def pairs(a, x, h, time, width, BT: tl.constexpr, BD: tl.constexpr):  # noqa: ANN001, ANN201
    row = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < width
    first = tl.zeros((BD,), x.dtype.element_ty)
    second = tl.zeros((BD,), x.dtype.element_ty)
    for start in range(0, time, BT):
        t = (start + tl.arange(0, BT))[:, None].to(tl.int64)
        valid = (t < time) & inside
        block = a + (row * time + t) * 4 * width + d
        given = x + (row * time + t) * 2 * width + d
        # beyond the end every map is zero; nothing reads it
        p00 = tl.load(block, mask=valid, other=0.0)
        p01 = tl.load(block + width, mask=valid, other=0.0)
        p10 = tl.load(block + 2 * width, mask=valid, other=0.0)
        p11 = tl.load(block + 3 * width, mask=valid, other=0.0)
        u = tl.load(given, mask=valid, other=0.0)
        v = tl.load(given + width, mask=valid, other=0.0)
        p00, p01, p10, p11, u, v = tl.associative_scan((p00, p01, p10, p11, u, v), 0, later)
        rows = u + p00 * first + p01 * second
        rows_below = v + p10 * first + p11 * second
        out = h + (row * time + t) * 2 * width + d
        tl.store(out, rows, mask=valid)
        tl.store(out + width, rows_below, mask=valid)
        last = t == start + BT - 1
        first = tl.sum(tl.where(last, rows, 0.0), 0)
        second = tl.sum(tl.where(last, rows_below, 0.0), 0)


def forward(a: Tensor, x: Tensor) -> Tensor:
    """a (B, T, 2, 2, D), x (B, T, 2, D) -> h (B, T, 2, D), contiguous."""
    batch, time, _, width = x.shape
    h = torch.empty_like(x, memory_format=torch.contiguous_format)
    if h.numel():
        tile = min(TIME, triton.next_power_of_2(time))
        with torch.cuda.device_of(x):
            kernel: Any = pairs[(batch, triton.cdiv(width, CHANNELS))]
            kernel(a.contiguous(), x.contiguous(), h, time, width, BT=tile, BD=CHANNELS)
    return h
