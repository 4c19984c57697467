"""A plain LSTM whose products are bfloat16: for training on a CPU with matrix units.

The states and the gates' functions stay float32 (in compiled loops); what a product reads is bfloat16. The
two products with the input, and all gradients of weights, are one product each for the whole sequence, so
only the small product with h_{t-1} is left inside the loop.
"""

# intrinsics take a typing context that their callers do not give
# pyright: reportCallIssue=false
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from core.kernels.jit import compiled
from core.kernels.vector_math import power_of_two

LOG2E, LN2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
ZERO, HALF, ONE, TWO, TOP = (np.float32(x) for x in (0, 0.5, 1, 2, 30))
P2, P3, P4 = np.float32(0.5), np.float32(1 / 6), np.float32(1 / 24)


@intrinsic
def widen(typing: Any, bits: Any) -> Any:
    """bfloat16 bits (uint16) -> float32."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        high = builder.shl(builder.zext(arguments[0], word), ir.Constant(word, 16))
        return builder.bitcast(high, ir.FloatType())

    return types.float32(types.uint16), build


@intrinsic
def narrow(typing: Any, x: Any) -> Any:
    """float32 -> bfloat16 bits (uint16), to the nearest and ties to even."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))
        return builder.trunc(builder.lshr(rounded, ir.Constant(word, 16)), ir.IntType(16))

    return types.uint16(types.float32), build


@compiled
def growth(x):  # noqa: ANN001, ANN201
    """e^x to four digits, which is more than bfloat16 has; x is held within -30..30."""
    x = min(max(x, -TOP), TOP)
    k = np.floor(x * LOG2E + HALF)
    r = x - k * LN2
    return power_of_two(k) * (ONE + r * (ONE + r * (P2 + r * (P3 + r * P4))))


@compiled
def sigmoid(x):  # noqa: ANN001, ANN201
    return ONE / (ONE + growth(-x))


@compiled
def tanh(x):  # noqa: ANN001, ANN201
    return ONE - TWO / (growth(TWO * x) + ONE)


@compiled
def forward_step(gates, cell, after, h):  # noqa: ANN001, ANN201
    """gates (B, 4 H) bits: pre-activations in, activations out; cell -> after (B, H); h (B, H) bits."""
    batch, hidden = cell.shape
    row = np.empty(4 * hidden, np.float32)
    for b in range(batch):
        bits, before, now, out = gates[b], cell[b], after[b], h[b]
        for j in range(4 * hidden):
            row[j] = widen(bits[j])
        first, third, last = row[: 2 * hidden], row[2 * hidden : 3 * hidden], row[3 * hidden :]
        for j in range(2 * hidden):
            first[j] = sigmoid(first[j])
        for j in range(hidden):
            third[j] = tanh(third[j])
        for j in range(hidden):
            last[j] = sigmoid(last[j])
        i, f = row[:hidden], row[hidden : 2 * hidden]
        for j in range(hidden):
            now[j] = f[j] * before[j] + i[j] * third[j]
        for j in range(hidden):
            out[j] = narrow(last[j] * tanh(now[j]))
        for j in range(4 * hidden):
            bits[j] = narrow(row[j])


@compiled
def backward_step(gates, before, now, dy, back, dcell, dgates):  # noqa: ANN001, ANN201
    """Gradients of pre-activations (B, 4 H) bits; dcell goes one step back. `back`: from the step after."""
    batch, hidden = before.shape
    row, out = np.empty(4 * hidden, np.float32), np.empty(4 * hidden, np.float32)
    dh, squashed = np.empty(hidden, np.float32), np.empty(hidden, np.float32)
    one = np.float32(1)
    for b in range(batch):
        bits, target, old, new, dc, up, next_one = (
            gates[b],
            dgates[b],
            before[b],
            now[b],
            dcell[b],
            dy[b],
            back[b],
        )
        for j in range(4 * hidden):
            row[j] = widen(bits[j])
        for j in range(hidden):
            dh[j] = widen(up[j]) + widen(next_one[j])
        for j in range(hidden):
            squashed[j] = tanh(new[j])
        i, f = row[:hidden], row[hidden : 2 * hidden]
        g, o = row[2 * hidden : 3 * hidden], row[3 * hidden :]
        di, df = out[:hidden], out[hidden : 2 * hidden]
        dg, do = out[2 * hidden : 3 * hidden], out[3 * hidden :]
        for j in range(hidden):
            do[j] = dh[j] * squashed[j] * o[j] * (one - o[j])
        for j in range(hidden):
            dc[j] = dc[j] + dh[j] * o[j] * (one - squashed[j] * squashed[j])
        for j in range(hidden):
            di[j] = dc[j] * g[j] * i[j] * (one - i[j])
        for j in range(hidden):
            dg[j] = dc[j] * i[j] * (one - g[j] * g[j])
        for j in range(hidden):
            df[j] = dc[j] * old[j] * f[j] * (one - f[j])
        for j in range(hidden):
            dc[j] = dc[j] * f[j]
        for j in range(4 * hidden):
            target[j] = narrow(out[j])


def bits(x: Tensor) -> np.ndarray:
    """The bits of a bfloat16 tensor."""
    return x.view(torch.uint16).numpy()


class Bf16LSTM(torch.autograd.Function):
    """x (T, B, I) bfloat16 -> y (T, B, H) bfloat16 and the last cell (B, H), from a zero state."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, backwards: bool
    ) -> tuple[Tensor, Tensor]:
        time, batch, size = x.shape
        hidden = weight_hh.shape[1]
        w_ih, w_hh = weight_ih.bfloat16(), weight_hh.bfloat16()
        gates = torch.addmm(bias.bfloat16(), x.reshape(-1, size), w_ih.t()).view(time, batch, 4 * hidden)
        y = torch.empty(time, batch, hidden, dtype=torch.bfloat16)
        cells = torch.zeros(time + 1, batch, hidden)
        g, out, c = bits(gates), bits(y), cells.numpy()
        for k in range(time):
            t = time - 1 - k if backwards else k
            if k:
                gates[t].addmm_(y[t + 1 if backwards else t - 1], w_hh.t())
            forward_step(g[t], c[k], c[k + 1], out[t])
        ctx.save_for_backward(x, w_ih, w_hh, gates, y, cells)
        ctx.backwards = backwards
        last = cells[-1].clone()
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w_ih, w_hh, gates, y, cells = ctx.saved_tensors
        backwards, (time, batch, hidden) = ctx.backwards, y.shape
        dgates = torch.empty_like(gates)
        back, dcell = torch.zeros(batch, hidden, dtype=torch.bfloat16), torch.zeros(batch, hidden)
        g, c, d, up = bits(gates), cells.numpy(), bits(dgates), bits(dy.bfloat16().contiguous())
        after, dc = bits(back), dcell.numpy()
        for k in range(time - 1, -1, -1):
            t = time - 1 - k if backwards else k
            backward_step(g[t], c[k], c[k + 1], up[t], after, dc, d[t])
            if k:
                torch.mm(dgates[t], w_hh, out=back)
        flat = dgates.view(-1, 4 * hidden)
        dx = torch.mm(flat, w_ih).view_as(x) if ctx.needs_input_grad[0] else None
        dw_ih = torch.mm(flat.t(), x.reshape(-1, x.shape[2])).float()
        before, later = (y[1:], dgates[:-1]) if backwards else (y[:-1], dgates[1:])
        dw_hh = torch.mm(later.reshape(-1, 4 * hidden).t(), before.reshape(-1, hidden)).float()
        dbias = torch.mm(flat.new_ones(1, len(flat)), flat)[0].float()  # faster than a sum
        return dx, dw_ih, dw_hh, dbias, None


def train_directions(
    units: list[Any], x: Tensor, norm: nn.LayerNorm | None = None
) -> tuple[Tensor, tuple[Any, ...]]:
    """x (B, T, I), normalised first, by an LSTM a direction -> y (B, T, directions * H), last states."""
    x = x if norm is None else norm(x)
    tokens = x.transpose(0, 1).to(torch.bfloat16).contiguous()
    outputs, states = [], []
    with torch.autocast("cpu", enabled=False):
        for number, unit in enumerate(units):
            bias = unit.bias_ih + unit.bias_hh
            y, cell = Bf16LSTM.apply(tokens, unit.weight_ih, unit.weight_hh, bias, number == 1)  # pyright: ignore
            outputs.append(y)
            states.append((y[0 if number else -1].detach().float(), cell))
    return torch.cat(outputs, -1).transpose(0, 1), tuple(states)
