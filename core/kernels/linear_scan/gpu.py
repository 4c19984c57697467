"""The linear recurrence on a GPU: one pass over memory, tiles of time scanned in parallel.

A program owns a batch row and a block of features. It walks over time in tiles: an associative scan of the
pairs (a, x) inside the tile, then the state that came in, h = u + p * state. So every number is read once and
written once. Complex numbers are pairs of reals side by side in memory.

With TRITON_INTERPRET=1 in the environment before triton is imported, the kernels run on CPU tensors.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

TIME, FEATURES = 128, 8
"""Tokens and features of a tile: few features make many programs, which wait for memory side by side."""
LONG = 256
"""Tokens of a tile of the real scan forward, which holds the fewest numbers."""


@triton.jit
def later(p1, u1, p2, u2):  # noqa: ANN001, ANN201
    """(p1, u1), then (p2, u2): h -> p h + u."""
    return p2 * p1, p2 * u1 + u2


@triton.jit
def later_complex(p1, q1, u1, v1, p2, q2, u2, v2):  # noqa: ANN001, ANN201
    """The same with p + iq and u + iv."""
    return p2 * p1 - q2 * q1, p2 * q1 + q2 * p1, p2 * u1 - q2 * v1 + u2, p2 * v1 + q2 * u1 + v2


@triton.jit
def row_of(tile, at):  # noqa: ANN001, ANN201
    """The one row (BD) of a tile (BT, BD) where `at` (BT, 1) holds; zero if there is none."""
    return tl.sum(tl.where(at, tile, 0.0), 0)


@triton.jit
def forward_real(  # noqa: ANN201
    a, a_row, a_step, x, x_row, x_step, h0, h, time, width, BT: tl.constexpr, BD: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < width
    state = tl.load(h0 + b * width + d, mask=inside, other=0.0)
    for start in range(0, time, BT):
        t = (start + tl.arange(0, BT))[:, None].to(tl.int64)
        valid = (t < time) & inside
        # beyond the end a = 1 and x = 0, so that the last row is the state in every tile
        decay = tl.load(a + b * a_row + t * a_step + d, mask=valid, other=1.0)
        value = tl.load(x + b * x_row + t * x_step + d, mask=valid, other=0.0)
        p, u = tl.associative_scan((decay, value), 0, later)
        rows = u + p * state
        tl.store(h + (b * time + t) * width + d, rows, mask=valid)
        state = row_of(rows, t == start + BT - 1)


@triton.jit
def backward_real(  # noqa: ANN201
    a, a_row, a_step, g, g_row, g_step, h0, h, da, dx, dh0, time, width, BT: tl.constexpr, BD: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < width
    first = tl.load(h0 + b * width + d, mask=inside, other=0.0)
    carry = tl.zeros_like(first)
    tiles = tl.cdiv(time, BT)
    for i in range(tiles):
        start = (tiles - 1 - i) * BT
        t = (start + tl.arange(0, BT))[:, None].to(tl.int64)
        valid = (t < time) & inside
        decay = tl.load(a + b * a_row + (t + 1) * a_step + d, mask=(t + 1 < time) & inside, other=0.0)
        value = tl.load(g + b * g_row + t * g_step + d, mask=valid, other=0.0)
        p, u = tl.associative_scan((decay, value), 0, later, reverse=True)
        rows = u + p * carry
        at = (b * time + t) * width + d
        before = tl.where(t == 0, first, tl.load(h + at - width, mask=valid & (t > 0), other=0.0))
        tl.store(dx + at, rows, mask=valid)
        tl.store(da + at, rows * before, mask=valid)
        carry = row_of(rows, t == start)
    decay = tl.load(a + b * a_row + d, mask=inside, other=0.0)
    tl.store(dh0 + b * width + d, decay * carry, mask=inside)


@triton.jit
def forward_complex(  # noqa: ANN201
    a, a_row, a_step, x, x_row, x_step, h0, h, time, width, BT: tl.constexpr, BD: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < width
    d = 2 * d
    state = tl.load(h0 + 2 * b * width + d, mask=inside, other=0.0)
    state_i = tl.load(h0 + 2 * b * width + d + 1, mask=inside, other=0.0)
    for start in range(0, time, BT):
        t = (start + tl.arange(0, BT))[:, None].to(tl.int64)
        valid = (t < time) & inside
        decay = tl.load(a + b * a_row + t * a_step + d, mask=valid, other=1.0)
        decay_i = tl.load(a + b * a_row + t * a_step + d + 1, mask=valid, other=0.0)
        value = tl.load(x + b * x_row + t * x_step + d, mask=valid, other=0.0)
        value_i = tl.load(x + b * x_row + t * x_step + d + 1, mask=valid, other=0.0)
        p, q, u, v = tl.associative_scan((decay, decay_i, value, value_i), 0, later_complex)
        rows = u + p * state - q * state_i
        rows_i = v + p * state_i + q * state
        at = 2 * (b * time + t) * width + d
        tl.store(h + at, rows, mask=valid)
        tl.store(h + at + 1, rows_i, mask=valid)
        last = t == start + BT - 1
        state, state_i = row_of(rows, last), row_of(rows_i, last)


@triton.jit
def backward_complex(  # noqa: ANN201
    a, a_row, a_step, g, g_row, g_step, h0, h, da, dx, dh0, time, width, BT: tl.constexpr, BD: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BD + tl.arange(0, BD)
    inside = d < width
    d = 2 * d
    first = tl.load(h0 + 2 * b * width + d, mask=inside, other=0.0)
    first_i = tl.load(h0 + 2 * b * width + d + 1, mask=inside, other=0.0)
    carry, carry_i = tl.zeros_like(first), tl.zeros_like(first)
    tiles = tl.cdiv(time, BT)
    for i in range(tiles):
        start = (tiles - 1 - i) * BT
        t = (start + tl.arange(0, BT))[:, None].to(tl.int64)
        valid, has_next = (t < time) & inside, (t + 1 < time) & inside
        next_a = a + b * a_row + (t + 1) * a_step + d
        decay = tl.load(next_a, mask=has_next, other=0.0)
        decay_i = -tl.load(next_a + 1, mask=has_next, other=0.0)  # conj(a)
        value = tl.load(g + b * g_row + t * g_step + d, mask=valid, other=0.0)
        value_i = tl.load(g + b * g_row + t * g_step + d + 1, mask=valid, other=0.0)
        p, q, u, v = tl.associative_scan((decay, decay_i, value, value_i), 0, later_complex, reverse=True)
        rows = u + p * carry - q * carry_i
        rows_i = v + p * carry_i + q * carry
        at = 2 * (b * time + t) * width + d
        behind = h + at - 2 * width
        before = tl.where(t == 0, first, tl.load(behind, mask=valid & (t > 0), other=0.0))
        before_i = tl.where(t == 0, first_i, tl.load(behind + 1, mask=valid & (t > 0), other=0.0))
        tl.store(dx + at, rows, mask=valid)
        tl.store(dx + at + 1, rows_i, mask=valid)
        tl.store(da + at, rows * before + rows_i * before_i, mask=valid)
        tl.store(da + at + 1, rows_i * before - rows * before_i, mask=valid)
        carry, carry_i = row_of(rows, t == start), row_of(rows_i, t == start)
    decay = tl.load(a + b * a_row + d, mask=inside, other=0.0)
    decay_i = tl.load(a + b * a_row + d + 1, mask=inside, other=0.0)
    at = dh0 + 2 * b * width + d
    tl.store(at, decay * carry + decay_i * carry_i, mask=inside)
    tl.store(at + 1, decay * carry_i - decay_i * carry, mask=inside)


def forward(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    """h (B, T, D) of a, x (B, T, D) and h0 (B, D), all of one type."""
    h = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if h.numel():
        kernel, tile = (forward_complex, TIME) if x.is_complex() else (forward_real, LONG)
        launch(kernel, (*strided(a), *strided(x), flat(h0), flat(h)), h, tile)
    return h


def backward(a: Tensor, h: Tensor, h0: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """da, dx, dh0 from the gradient of h, in one pass from right to left."""
    h = h.contiguous()
    da, dx = torch.empty_like(h), torch.empty_like(h)
    dh0 = torch.zeros(h0.shape, dtype=h0.dtype, device=h0.device)
    if h.numel():
        kernel = backward_complex if h.is_complex() else backward_real
        launch(kernel, (*strided(a), *strided(grad), flat(h0), flat(h), flat(da), flat(dx), flat(dh0)), h)
    return da, dx, dh0


def launch(kernel: Any, arguments: tuple[Any, ...], like: Tensor, tile: int = TIME) -> None:
    batch, time, width = like.shape
    tile = min(tile, triton.next_power_of_2(time))
    with torch.cuda.device_of(like):
        kernel[(batch, triton.cdiv(width, FEATURES))](*arguments, time, width, BT=tile, BD=FEATURES)


def strided(t: Tensor) -> tuple[Tensor, int, int]:
    """Real numbers of t (B, T, D), and the strides of batch and time; a repeated axis is not copied."""
    if t.stride(2) != 1 and t.shape[2] > 1:
        t = t.contiguous()
    t = flat(t)
    return t, t.stride(0), t.stride(1)


def flat(t: Tensor) -> Tensor:
    """t as real numbers, pairs in place of complex ones; a fresh result is written through it."""
    t = t.resolve_conj().resolve_neg()
    t = t if t.ndim == 3 else t.contiguous()
    return torch.view_as_real(t) if t.is_complex() else t
