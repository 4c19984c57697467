"""A plain LSTM whose products are bfloat16, for training on a GPU: both directions in one launch.

A program owns `ROWS` rows of the batch in one direction for all tokens; its recurrent weights stay in
registers, and the gates of the next token are on their way while this one is computed. States and the gates'
functions are float32. Up to `WIDEST` numbers in a state: wider weights would not fit.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn.functional import layer_norm

ROWS = 16
"""The smallest side of a product on tensor cores."""
WIDEST = 64


@triton.jit
def tanh(x):  # noqa: ANN001, ANN201
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def matrix(u, size, rows, columns, across, along):  # noqa: ANN001, ANN201
    """Of a gate: element (r, c) lies at r * across + c * along; zeros beyond the size."""
    inside = (rows[:, None] < size) & (columns[None, :] < size)
    return tl.load(u + rows[:, None] * across + columns[None, :] * along, mask=inside, other=0.0)


@triton.jit
def forward_kernel(  # noqa: ANN201
    gates, u, y, cells, batch, time, size, BB: tl.constexpr, BH: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """gates (B, T, D, 4 H): inputs become values; u (D, 4 H, H); y, cells (B, T, D, H)."""
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    d = tl.program_id(1)
    ways = tl.num_programs(1)
    j = tl.arange(0, BH)
    valid = (b < batch)[:, None] & (j < size)[None, :]
    u += d * 4 * size * size
    ui = matrix(u, size, j, j, 1, size)
    uf = matrix(u + size * size, size, j, j, 1, size)
    ug = matrix(u + 2 * size * size, size, j, j, 1, size)
    uo = matrix(u + 3 * size * size, size, j, j, 1, size)
    h = tl.zeros((BB, BH), y.dtype.element_ty)
    c = tl.zeros((BB, BH), tl.float32)
    t = d * (time - 1)
    stride = 1 - 2 * d
    token = (b.to(tl.int64)[:, None] * time + t) * ways + d
    at = gates + token * 4 * size + j[None, :]
    i = tl.load(at, mask=valid, other=0.0)
    f = tl.load(at + size, mask=valid, other=0.0)
    g = tl.load(at + 2 * size, mask=valid, other=0.0)
    o = tl.load(at + 3 * size, mask=valid, other=0.0)
    for step in range(time):
        following = at + stride * ways * 4 * size
        more = valid & (step + 1 < time)
        next_i = tl.load(following, mask=more, other=0.0)
        next_f = tl.load(following + size, mask=more, other=0.0)
        next_g = tl.load(following + 2 * size, mask=more, other=0.0)
        next_o = tl.load(following + 3 * size, mask=more, other=0.0)
        vi = tl.sigmoid(i.to(tl.float32) + tl.dot(h, ui))
        vf = tl.sigmoid(f.to(tl.float32) + tl.dot(h, uf))
        vg = tanh(g.to(tl.float32) + tl.dot(h, ug))
        vo = tl.sigmoid(o.to(tl.float32) + tl.dot(h, uo))
        c = vf * c + vi * vg
        h = (vo * tanh(c)).to(y.dtype.element_ty)
        tl.store(at, vi.to(gates.dtype.element_ty), mask=valid)
        tl.store(at + size, vf.to(gates.dtype.element_ty), mask=valid)
        tl.store(at + 2 * size, vg.to(gates.dtype.element_ty), mask=valid)
        tl.store(at + 3 * size, vo.to(gates.dtype.element_ty), mask=valid)
        out = token * size + j[None, :]
        tl.store(cells + out, c, mask=valid)
        tl.store(y + out, h, mask=valid)
        i = next_i
        f = next_f
        g = next_g
        o = next_o
        at = following
        token += stride * ways


@triton.jit
def backward_kernel(  # noqa: ANN201
    gates, u, cells, dy, dgates, batch, time, size, BB: tl.constexpr, BH: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """Gradients of what came into the gates, from those of y (B, T, D, H)."""
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    d = tl.program_id(1)
    ways = tl.num_programs(1)
    j = tl.arange(0, BH)
    valid = (b < batch)[:, None] & (j < size)[None, :]
    u += d * 4 * size * size
    ui = matrix(u, size, j, j, size, 1)
    uf = matrix(u + size * size, size, j, j, size, 1)
    ug = matrix(u + 2 * size * size, size, j, j, size, 1)
    uo = matrix(u + 3 * size * size, size, j, j, size, 1)
    dh = tl.zeros((BB, BH), tl.float32)
    dc = tl.zeros((BB, BH), tl.float32)
    t = (1 - d) * (time - 1)
    back = 2 * d - 1
    token = (b.to(tl.int64)[:, None] * time + t) * ways + d
    now = tl.load(cells + token * size + j[None, :], mask=valid, other=0.0)
    for step in range(time):
        at = token * 4 * size + j[None, :]
        out = token * size + j[None, :]
        old = out + back * ways * size
        before = tl.load(cells + old, mask=valid & (step + 1 < time), other=0.0)
        i = tl.load(gates + at, mask=valid, other=0.0).to(tl.float32)
        f = tl.load(gates + at + size, mask=valid, other=0.0).to(tl.float32)
        g = tl.load(gates + at + 2 * size, mask=valid, other=0.0).to(tl.float32)
        o = tl.load(gates + at + 3 * size, mask=valid, other=0.0).to(tl.float32)
        dh += tl.load(dy + out, mask=valid, other=0.0).to(tl.float32)
        squashed = tanh(now)
        dc += dh * o * (1 - squashed * squashed)
        di = (dc * g * i * (1 - i)).to(dgates.dtype.element_ty)
        df = (dc * before * f * (1 - f)).to(dgates.dtype.element_ty)
        dg = (dc * i * (1 - g * g)).to(dgates.dtype.element_ty)
        do = (dh * squashed * o * (1 - o)).to(dgates.dtype.element_ty)
        tl.store(dgates + at, di, mask=valid)
        tl.store(dgates + at + size, df, mask=valid)
        tl.store(dgates + at + 2 * size, dg, mask=valid)
        tl.store(dgates + at + 3 * size, do, mask=valid)
        dc *= f
        dh = tl.dot(di, ui)
        dh = tl.dot(df, uf, dh)
        dh = tl.dot(dg, ug, dh)
        dh = tl.dot(do, uo, dh)
        now = before
        token += back * ways


class FusedLSTM(torch.autograd.Function):
    """x (B, T, I) in the type of the products, W (D, 4 H, I), U (D, 4 H, H), bias (D, 4 H) -> y, cells."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, time, size = x.shape
        ways, hidden = len(weight_hh), weight_hh.shape[2]
        w_ih, w_hh = weight_ih.to(x.dtype).flatten(0, 1), weight_hh.to(x.dtype).contiguous()
        gates = torch.addmm(bias.to(x.dtype).flatten(), x.reshape(-1, size), w_ih.t())
        y = torch.empty(batch, time, ways * hidden, dtype=x.dtype, device=x.device)
        cells = torch.empty(batch, time, ways, hidden, device=x.device)
        launch: Any = forward_kernel[grid(batch, ways)]  # pyright: ignore[reportIndexIssue]
        launch(gates, w_hh, y, cells, batch, time, hidden, BB=ROWS, BH=padded(hidden))
        ctx.save_for_backward(x, w_ih, w_hh, gates, y, cells)
        ctx.mark_non_differentiable(cells)
        return y, cells

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w_ih, w_hh, gates, y, cells = ctx.saved_tensors
        (batch, time, ways, hidden), size = cells.shape, x.shape[2]
        dgates = torch.empty_like(gates)
        dy = dy.to(x.dtype).contiguous()
        launch: Any = backward_kernel[grid(batch, ways)]  # pyright: ignore[reportIndexIssue]
        launch(gates, w_hh, cells, dy, dgates, batch, time, hidden, BB=ROWS, BH=padded(hidden))
        dx = (dgates @ w_ih).view_as(x) if ctx.needs_input_grad[0] else None
        dw_ih = (dgates.t() @ x.reshape(-1, size)).float().view(ways, 4 * hidden, size)
        each, values = dgates.view(batch, time, ways, 4 * hidden), y.view(batch, time, ways, hidden)
        dw_hh = []
        for way in range(ways):
            later, before = (
                (each[:, :-1, 1], values[:, 1:, 1]) if way else (each[:, 1:, 0], values[:, :-1, 0])
            )
            dw_hh.append((later.reshape(-1, 4 * hidden).t() @ before.reshape(-1, hidden)).float())
        ones = dgates.new_ones(1, len(dgates))  # a product is faster than a sum over so many rows
        dbias = (ones @ dgates).float().view(ways, 4 * hidden)
        return dx, dw_ih, torch.stack(dw_hh), dbias


def grid(batch: int, ways: int) -> tuple[int, int]:
    """Programs of a launch."""
    return triton.cdiv(batch, ROWS), ways


def padded(hidden: int) -> int:
    """Sides of a block are powers of two, and 16 at least in a product."""
    return max(16, triton.next_power_of_2(hidden))


def train_directions(
    units: list[Any], x: Tensor, norm: nn.LayerNorm | None = None
) -> tuple[Tensor, tuple[Any, ...]]:
    """x (B, T, I), normalised first, by an LSTM a direction -> y (B, T, directions * H), last states.

    What the norm multiplies and adds goes into the weights, whose gradients need no sums over the tokens.
    """
    with torch.autocast(x.device.type, enabled=False):
        inward = torch.stack([unit.weight_ih for unit in units])
        around = torch.stack([unit.weight_hh for unit in units])
        bias = torch.stack([unit.bias_ih + unit.bias_hh for unit in units])
        if norm is not None:
            x = layer_norm(x, norm.normalized_shape, eps=norm.eps)
            bias = bias + inward @ norm.bias
            inward = inward * norm.weight
        y, cells = FusedLSTM.apply(x.bfloat16().contiguous(), inward, around, bias)  # pyright: ignore
    hidden, states = cells.shape[3], []
    for way in range(len(units)):
        last = 0 if way else -1
        h = y[:, last, way * hidden : (way + 1) * hidden].detach().float()
        states.append((h, cells[:, last, way].detach()))
    return y, tuple(states)
