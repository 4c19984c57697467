"""LSTM and GRU on a GPU: the whole loop over time in one kernel (equations: `core.units.gated`).

A program owns `ROWS` rows of the batch for all tokens. States stay in registers; the recurrent weights of
a gate (H, H) are read again at every step, which the caches serve, since all gates together are larger than
the registers. One launch replaces several for every token. Up to H = 128, in float32.

Weights come transposed as (gates, H in, H out), so that a step is h (ROWS, H) @ U_g. Products are made of
three in TF32, whose error is that of float32.

With TRITON_INTERPRET=1 in the environment before triton is imported, the kernels run on CPU tensors.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from core.kernels.gated_loop import Cell, States, Weights, plain_loop

ROWS = 16
"""The smallest side of a product on tensor cores."""
WIDEST = 128


@triton.jit
def tanh(x):  # noqa: ANN001, ANN201
    """Through the sigmoid; small arguments keep their absolute, not their relative digits."""
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def product(h, u, gate, hidden, BH: tl.constexpr):  # noqa: ANN001, ANN201
    """h (ROWS, H) @ U_gate (H, H)."""
    k = tl.arange(0, BH)
    inside = (k < hidden)[:, None] & (k < hidden)
    matrix = tl.load(u + gate * hidden * hidden + k[:, None] * hidden + k, mask=inside, other=0.0)
    return tl.dot(h, matrix, input_precision="tf32x3")


@triton.jit
def lstm_forward(  # noqa: ANN201
    gates, u, h0, c0, h, c, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """gates (B, T, 4 H) in the order i, f, g, o, overwritten by their values; h, c (B, T, H)."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    valid = (b < batch)[:, None] & (d < hidden)
    at = b[:, None] * hidden + d
    before = tl.load(h0 + at, mask=valid, other=0.0)
    cell = tl.load(c0 + at, mask=valid, other=0.0)
    for t in range(time):
        g_at = gates + (b[:, None] * time + t) * 4 * hidden + d
        i = tl.load(g_at, mask=valid, other=0.0) + product(before, u, 0, hidden, BH)
        f = tl.load(g_at + hidden, mask=valid, other=0.0) + product(before, u, 1, hidden, BH)
        g = tl.load(g_at + 2 * hidden, mask=valid, other=0.0) + product(before, u, 2, hidden, BH)
        o = tl.load(g_at + 3 * hidden, mask=valid, other=0.0) + product(before, u, 3, hidden, BH)
        i, f, g, o = tl.sigmoid(i), tl.sigmoid(f), tanh(g), tl.sigmoid(o)
        cell = f * cell + i * g
        before = tl.where(valid, o * tanh(cell), 0.0)
        tl.store(g_at, i, mask=valid)
        tl.store(g_at + hidden, f, mask=valid)
        tl.store(g_at + 2 * hidden, g, mask=valid)
        tl.store(g_at + 3 * hidden, o, mask=valid)
        out = (b[:, None] * time + t) * hidden + d
        tl.store(h + out, before, mask=valid)
        tl.store(c + out, cell, mask=valid)


@triton.jit
def lstm_backward(  # noqa: ANN201
    gates, u, c0, c, dy, dh, dc, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """Values of the gates become their gradients; dh, dc (B, H) go from last to first; u by (out, in)."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    valid = (b < batch)[:, None] & (d < hidden)
    at = b[:, None] * hidden + d
    to_h = tl.load(dh + at, mask=valid, other=0.0)
    to_c = tl.load(dc + at, mask=valid, other=0.0)
    first = tl.load(c0 + at, mask=valid, other=0.0)
    for step in range(time):
        t = time - 1 - step
        g_at = gates + (b[:, None] * time + t) * 4 * hidden + d
        out = (b[:, None] * time + t) * hidden + d
        i = tl.load(g_at, mask=valid, other=0.0)
        f = tl.load(g_at + hidden, mask=valid, other=0.0)
        g = tl.load(g_at + 2 * hidden, mask=valid, other=0.0)
        o = tl.load(g_at + 3 * hidden, mask=valid, other=0.0)
        squashed = tanh(tl.load(c + out, mask=valid, other=0.0))
        found = tl.where(t == 0, first, tl.load(c + out - hidden, mask=valid & (t > 0), other=0.0))
        to_h += tl.load(dy + out, mask=valid, other=0.0)
        to_o = to_h * squashed * o * (1 - o)
        to_c += to_h * o * (1 - squashed * squashed)
        to_i = to_c * g * i * (1 - i)
        to_f = to_c * found * f * (1 - f)
        to_g = to_c * i * (1 - g * g)
        to_c *= f
        tl.store(g_at, to_i, mask=valid)
        tl.store(g_at + hidden, to_f, mask=valid)
        tl.store(g_at + 2 * hidden, to_g, mask=valid)
        tl.store(g_at + 3 * hidden, to_o, mask=valid)
        to_h = product(to_i, u, 0, hidden, BH) + product(to_f, u, 1, hidden, BH)
        to_h += product(to_g, u, 2, hidden, BH) + product(to_o, u, 3, hidden, BH)
    tl.store(dh + at, to_h, mask=valid)
    tl.store(dc + at, to_c, mask=valid)


@triton.jit
def gru_forward(  # noqa: ANN201
    gates, u, bias, h0, h, inner, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """gates (B, T, 3 H) in the order r, z, n, overwritten by their values; inner takes U_n h + c."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    valid = (b < batch)[:, None] & (d < hidden)
    before = tl.load(h0 + b[:, None] * hidden + d, mask=valid, other=0.0)
    bias_r = tl.load(bias + d, mask=d < hidden, other=0.0)
    bias_z = tl.load(bias + hidden + d, mask=d < hidden, other=0.0)
    bias_n = tl.load(bias + 2 * hidden + d, mask=d < hidden, other=0.0)
    for t in range(time):
        g_at = gates + (b[:, None] * time + t) * 3 * hidden + d
        out = (b[:, None] * time + t) * hidden + d
        r = tl.load(g_at, mask=valid, other=0.0) + product(before, u, 0, hidden, BH) + bias_r
        z = tl.load(g_at + hidden, mask=valid, other=0.0) + product(before, u, 1, hidden, BH) + bias_z
        own = product(before, u, 2, hidden, BH) + bias_n
        r, z = tl.sigmoid(r), tl.sigmoid(z)
        n = tanh(tl.load(g_at + 2 * hidden, mask=valid, other=0.0) + r * own)
        before = tl.where(valid, n + z * (before - n), 0.0)
        tl.store(g_at, r, mask=valid)
        tl.store(g_at + hidden, z, mask=valid)
        tl.store(g_at + 2 * hidden, n, mask=valid)
        tl.store(inner + out, own, mask=valid)
        tl.store(h + out, before, mask=valid)


@triton.jit
def gru_backward(  # noqa: ANN201
    gates, u, h0, h, inner, dy, dh, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """Values of the gates and inner become their gradients; dh (B, H) goes from last to first."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    valid = (b < batch)[:, None] & (d < hidden)
    at = b[:, None] * hidden + d
    to_h = tl.load(dh + at, mask=valid, other=0.0)
    first = tl.load(h0 + at, mask=valid, other=0.0)
    for step in range(time):
        t = time - 1 - step
        g_at = gates + (b[:, None] * time + t) * 3 * hidden + d
        out = (b[:, None] * time + t) * hidden + d
        r = tl.load(g_at, mask=valid, other=0.0)
        z = tl.load(g_at + hidden, mask=valid, other=0.0)
        n = tl.load(g_at + 2 * hidden, mask=valid, other=0.0)
        own = tl.load(inner + out, mask=valid, other=0.0)
        found = tl.where(t == 0, first, tl.load(h + out - hidden, mask=valid & (t > 0), other=0.0))
        to_h += tl.load(dy + out, mask=valid, other=0.0)
        to_z = to_h * (found - n) * z * (1 - z)
        to_n = to_h * (1 - z) * (1 - n * n)
        to_r = to_n * own * r * (1 - r)
        to_own = to_n * r
        tl.store(g_at, to_r, mask=valid)
        tl.store(g_at + hidden, to_z, mask=valid)
        tl.store(g_at + 2 * hidden, to_n, mask=valid)
        tl.store(inner + out, to_own, mask=valid)
        to_h = to_h * z + product(to_r, u, 0, hidden, BH)
        to_h += product(to_z, u, 1, hidden, BH) + product(to_own, u, 2, hidden, BH)
    tl.store(dh + at, to_h, mask=valid)


class FusedLSTM(torch.autograd.Function):
    """gates (B, T, 4 H), h, c (B, H), U (4 H, H) -> y (B, T, H), last h, c."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, gates: Tensor, h0: Tensor, c0: Tensor, u: Tensor) -> Any:  # pyright: ignore
        values, h, c = gates.clone(memory_format=torch.contiguous_format), *results(gates, h0, 2)
        h0, c0 = h0.contiguous(), c0.contiguous()
        launch(lstm_forward, (values, per_gate(u, 4).mT.contiguous(), h0, c0, h, c), values, h0)
        ctx.cell = cell
        ctx.save_for_backward(gates, h0, c0, u, values, h, c)
        return h, h[:, -1].clone(), c[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        gates, h0, c0, u, values, h, c = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *plain_gradients(ctx.cell, gates, (h0, c0), (u, None, None, None), grads)
        dy, dh, dc = (part.clone(memory_format=torch.contiguous_format) for part in grads)
        dgates = values.clone()
        launch(lstm_backward, (dgates, per_gate(u, 4), c0, c, dy, dh, dc), values, h0)
        return None, dgates, dh, dc, dgates.flatten(0, 1).mT @ found_by(h0, h).flatten(0, 1)


class FusedGRU(torch.autograd.Function):
    """gates (B, T, 3 H), h (B, H), U (3 H, H), c (3 H) -> y (B, T, H), last h."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, gates: Tensor, h0: Tensor, u: Tensor, bias: Tensor) -> Any:  # pyright: ignore
        values, h, inner = gates.clone(memory_format=torch.contiguous_format), *results(gates, h0, 2)
        h0, matrices = h0.contiguous(), per_gate(u, 3).mT.contiguous()
        launch(gru_forward, (values, matrices, bias.contiguous(), h0, h, inner), values, h0)
        ctx.cell = cell
        ctx.save_for_backward(gates, h0, u, bias, values, h, inner)
        return h, h[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        gates, h0, u, bias, values, h, inner = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *plain_gradients(ctx.cell, gates, (h0,), (u, bias), grads)
        dy, dh = (part.clone(memory_format=torch.contiguous_format) for part in grads)
        dgates, dinner = values.clone(), inner.clone()
        launch(gru_backward, (dgates, per_gate(u, 3), h0, h, dinner, dy, dh), values, h0)
        # U and c see the gradient of n from behind the reset gate
        own = torch.cat([dgates[..., : 2 * h0.shape[1]], dinner], -1).flatten(0, 1)
        return None, dgates, dh, own.mT @ found_by(h0, h).flatten(0, 1), own.sum(0)


def plain_gradients(
    cell: Cell, gates: Tensor, state: States, weights: Weights, cotangents: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, through the definition."""
    # views: if one input was computed from another, its gradient must not flow on into that one here
    given: list[Any] = [part if part is None else part.view_as(part) for part in (gates, *state, *weights)]
    wanted = [part for part in given if part is not None and part.requires_grad]
    rows, own = [], tuple(given[1 : 1 + len(state)])
    for token in given[0].unbind(1):
        y, own = cell.step(token, own, tuple(given[1 + len(state) :]))
        rows.append(y)
    found = iter(torch.autograd.grad((torch.stack(rows, 1), *own), wanted, cotangents, create_graph=True))
    return [next(found) if part.requires_grad else None for part in given if part is not None]


def results(gates: Tensor, h0: Tensor, count: int) -> tuple[Tensor, ...]:
    """Room for `count` sequences (B, T, H)."""
    return tuple(gates.new_empty(*gates.shape[:2], h0.shape[1]) for _ in range(count))


def launch(kernel: Any, arguments: tuple[Any, ...], gates: Tensor, h0: Tensor) -> None:
    batch, time, _ = gates.shape
    hidden = h0.shape[1]
    side = max(16, triton.next_power_of_2(hidden))
    if batch:
        with torch.cuda.device_of(gates):
            run = kernel[(triton.cdiv(batch, ROWS),)]
            run(*arguments, batch, time, hidden, BB=ROWS, BH=side, num_warps=4 if side < 64 else 8)


def per_gate(u: Tensor, gates: int) -> Tensor:
    """(gates H, H) -> (gates, H, H)."""
    return u.contiguous().view(gates, -1, u.shape[1])


def found_by(first: Tensor, h: Tensor) -> Tensor:
    """What each token found."""
    return torch.cat([first[:, None], h[:, :-1]], 1)


def compiled_loop(cell: Cell, states: int, inputs: list[Any]) -> tuple[Tensor, States]:
    """inputs: x (B, T, I), weight_ih, bias, `states` states, weights, all of one type -> y, final states.

    The twin of `core.kernels.gated_loop_cpu.compiled_loop`. Cells other than the plain LSTM and the GRU with
    its reset after the product, wider ones, and float64 take the plain loop.
    """
    x, weight_ih, bias, *rest = inputs
    state, weights = tuple(rest[:states]), tuple(rest[states:])
    kind = fused_kind(cell, weights)
    if kind is None or x.dtype != torch.float32 or state[0].shape[1] > WIDEST:
        return plain_loop(cell, x, weight_ih, bias, state, weights)
    gates = F.linear(x, weight_ih, bias)
    if kind == "lstm":
        y, *final = FusedLSTM.apply(cell, gates, *state, weights[0])  # pyright: ignore[reportGeneralTypeIssues]
    else:
        matrix, own = weights
        own = gates.new_zeros(gates.shape[-1]) if own is None else own
        y, *final = FusedGRU.apply(cell, gates, *state, matrix, own)  # pyright: ignore[reportGeneralTypeIssues]
    return y, tuple(final)


def fused_kind(cell: Cell, weights: Weights) -> str | None:
    """Which of the kernels here computes the cell."""
    if cell.kernel == "core.kernels.gated_loop_gru" and cell.options == (False,):
        return "gru"
    plain = cell.options == (0, 1, 2, 3, False, True, True) and all(part is None for part in weights[1:])
    return "lstm" if cell.kernel == "core.kernels.gated_loop_lstm" and plain else None
