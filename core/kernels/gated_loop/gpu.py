"""LSTM and GRU on a GPU: the whole loop over time in one kernel (equations: `core.units.gated`).

A program owns `ROWS` rows of the batch for all tokens. The recurrent weights are larger than the registers,
so they are read again at every step, a slice of rows at a time, which the caches serve; the numbers of h
that go with a slice are read back too, since they lie in other threads. One launch replaces several for
every token. Up to H = 128, in float32.

Weights come transposed as (gates, H in, H out), so that a step is h (ROWS, H) @ U_g. Products are made of
three in TF32, whose error is that of float32.

With TRITON_INTERPRET=1 in the environment before triton is imported, the kernels run on CPU tensors.
"""

from itertools import pairwise
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.backends import cudnn
from torch.nn import functional as F

from core.kernels.gated_loop.cell import Cell, States, Weights
from core.kernels.gated_loop.cudnn import cudnn_loop
from core.kernels.gated_loop.definition import plain_loop
from core.parts.lengths import still

ROWS = 16
"""The smallest side of a product on tensor cores."""
WIDEST = 128
SLICE = 32
"""Columns of h in a product at once."""


@triton.jit
def tanh(x):  # noqa: ANN001, ANN201
    """Through the sigmoid; small arguments keep their absolute, not their relative digits."""
    return 2 * tl.sigmoid(2 * x) - 1


@triton.jit
def product(rows, inside, u, hidden, BH: tl.constexpr, BK: tl.constexpr):  # noqa: ANN001, ANN201
    """Rows (BB, H) in memory, given by pointers (BB), @ u (H, H)."""
    d = tl.arange(0, BH)
    total = tl.zeros((rows.shape[0], BH), tl.float32)
    for first in range(0, hidden, BK):
        k = first + tl.arange(0, BK)
        left = tl.load(rows[:, None] + k, mask=inside[:, None] & (k < hidden), other=0.0)
        valid = (k < hidden)[:, None] & (d < hidden)
        right = tl.load(u + k[:, None] * hidden + d, mask=valid, other=0.0)
        total += tl.dot(left, right, input_precision="tf32x3")
    return total


@triton.jit
def lstm_forward(  # noqa: ANN201
    gates, u, h, c, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """gates (B, T, 4 H) in the order i, f, g, o, overwritten by their values; h, c (B, T + 1, H)."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    inside = b < batch
    valid = inside[:, None] & (d < hidden)
    square = hidden * hidden
    cell = tl.load(c + b[:, None] * (time + 1) * hidden + d, mask=valid, other=0.0)
    for t in range(time):
        row = b * (time + 1) + t
        at = gates + (b * time + t)[:, None] * 4 * hidden + d
        rows = h + row * hidden
        i = tl.load(at, mask=valid, other=0.0)
        i = tl.sigmoid(i + product(rows, inside, u, hidden, BH, BK))
        f = tl.load(at + hidden, mask=valid, other=0.0)
        f = tl.sigmoid(f + product(rows, inside, u + square, hidden, BH, BK))
        g = tl.load(at + 2 * hidden, mask=valid, other=0.0)
        g = tanh(g + product(rows, inside, u + 2 * square, hidden, BH, BK))
        o = tl.load(at + 3 * hidden, mask=valid, other=0.0)
        o = tl.sigmoid(o + product(rows, inside, u + 3 * square, hidden, BH, BK))
        cell = f * cell + i * g
        tl.store(at, i, mask=valid)
        tl.store(at + hidden, f, mask=valid)
        tl.store(at + 2 * hidden, g, mask=valid)
        tl.store(at + 3 * hidden, o, mask=valid)
        out = (row + 1)[:, None] * hidden + d
        tl.store(c + out, cell, mask=valid)
        tl.store(h + out, o * tanh(cell), mask=valid)
        tl.debug_barrier()  # other threads read h next


@triton.jit
def lstm_backward(  # noqa: ANN201
    gates, u, c, dy, dh, dc, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """Values of the gates become their gradients; dh, dc (B, H) go from last to first; u by (out, in)."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    inside = b < batch
    valid = inside[:, None] & (d < hidden)
    square = hidden * hidden
    state = b[:, None] * hidden + d
    to_h = tl.load(dh + state, mask=valid, other=0.0)
    to_c = tl.load(dc + state, mask=valid, other=0.0)
    for step in range(time):
        t = time - 1 - step
        rows = gates + (b * time + t) * 4 * hidden
        at = rows[:, None] + d
        found = c + (b * (time + 1) + t)[:, None] * hidden + d
        i = tl.load(at, mask=valid, other=0.0)
        f = tl.load(at + hidden, mask=valid, other=0.0)
        g = tl.load(at + 2 * hidden, mask=valid, other=0.0)
        o = tl.load(at + 3 * hidden, mask=valid, other=0.0)
        squashed = tanh(tl.load(found + hidden, mask=valid, other=0.0))
        to_h += tl.load(dy + (b * time + t)[:, None] * hidden + d, mask=valid, other=0.0)
        to_c += to_h * o * (1 - squashed * squashed)
        tl.store(at, to_c * g * i * (1 - i), mask=valid)
        tl.store(at + hidden, to_c * tl.load(found, mask=valid, other=0.0) * f * (1 - f), mask=valid)
        tl.store(at + 2 * hidden, to_c * i * (1 - g * g), mask=valid)
        tl.store(at + 3 * hidden, to_h * squashed * o * (1 - o), mask=valid)
        to_c *= f
        tl.debug_barrier()  # other threads read the gradients next
        to_h = product(rows, inside, u, hidden, BH, BK)
        to_h += product(rows + hidden, inside, u + square, hidden, BH, BK)
        to_h += product(rows + 2 * hidden, inside, u + 2 * square, hidden, BH, BK)
        to_h += product(rows + 3 * hidden, inside, u + 3 * square, hidden, BH, BK)
    tl.store(dh + state, to_h, mask=valid)
    tl.store(dc + state, to_c, mask=valid)


@triton.jit
def gru_forward(  # noqa: ANN201
    gates, u, bias, h, inner, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """gates (B, T, 3 H) in the order r, z, n, overwritten by their values; inner takes U_n h + c."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    inside = b < batch
    valid = inside[:, None] & (d < hidden)
    square = hidden * hidden
    bias_r = tl.load(bias + d, mask=d < hidden, other=0.0)
    bias_z = tl.load(bias + hidden + d, mask=d < hidden, other=0.0)
    bias_n = tl.load(bias + 2 * hidden + d, mask=d < hidden, other=0.0)
    before = tl.load(h + b[:, None] * (time + 1) * hidden + d, mask=valid, other=0.0)
    for t in range(time):
        row = b * (time + 1) + t
        rows = h + row * hidden
        at = gates + (b * time + t)[:, None] * 3 * hidden + d
        r = tl.load(at, mask=valid, other=0.0) + bias_r
        r = tl.sigmoid(r + product(rows, inside, u, hidden, BH, BK))
        z = tl.load(at + hidden, mask=valid, other=0.0) + bias_z
        z = tl.sigmoid(z + product(rows, inside, u + square, hidden, BH, BK))
        own = product(rows, inside, u + 2 * square, hidden, BH, BK) + bias_n
        n = tanh(tl.load(at + 2 * hidden, mask=valid, other=0.0) + r * own)
        before = n + z * (before - n)
        tl.store(at, r, mask=valid)
        tl.store(at + hidden, z, mask=valid)
        tl.store(at + 2 * hidden, n, mask=valid)
        tl.store(inner + (b * time + t)[:, None] * hidden + d, own, mask=valid)
        tl.store(h + (row + 1)[:, None] * hidden + d, before, mask=valid)
        tl.debug_barrier()  # other threads read h next


@triton.jit
def gru_backward(  # noqa: ANN201
    gates, u, h, inner, dy, dh, batch, time, hidden, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr  # noqa: ANN001
):  # fmt: skip
    """Values of the gates and inner become their gradients; dh (B, H) goes from last to first."""
    b = (tl.program_id(0) * BB + tl.arange(0, BB)).to(tl.int64)
    d = tl.arange(0, BH)
    inside = b < batch
    valid = inside[:, None] & (d < hidden)
    square = hidden * hidden
    state = b[:, None] * hidden + d
    to_h = tl.load(dh + state, mask=valid, other=0.0)
    for step in range(time):
        t = time - 1 - step
        rows = gates + (b * time + t) * 3 * hidden
        own_rows = inner + (b * time + t) * hidden
        at, own_at = rows[:, None] + d, own_rows[:, None] + d
        r = tl.load(at, mask=valid, other=0.0)
        z = tl.load(at + hidden, mask=valid, other=0.0)
        n = tl.load(at + 2 * hidden, mask=valid, other=0.0)
        own = tl.load(own_at, mask=valid, other=0.0)
        found = tl.load(h + (b * (time + 1) + t)[:, None] * hidden + d, mask=valid, other=0.0)
        to_h += tl.load(dy + (b * time + t)[:, None] * hidden + d, mask=valid, other=0.0)
        to_n = to_h * (1 - z) * (1 - n * n)
        tl.store(at, to_n * own * r * (1 - r), mask=valid)
        tl.store(at + hidden, to_h * (found - n) * z * (1 - z), mask=valid)
        tl.store(at + 2 * hidden, to_n, mask=valid)
        tl.store(own_at, to_n * r, mask=valid)
        tl.debug_barrier()  # other threads read the gradients next
        to_h = to_h * z + product(rows, inside, u, hidden, BH, BK)
        to_h += product(rows + hidden, inside, u + square, hidden, BH, BK)
        to_h += product(own_rows, inside, u + 2 * square, hidden, BH, BK)
    tl.store(dh + state, to_h, mask=valid)


class FusedLSTM(torch.autograd.Function):
    """gates (B, T, 4 H), h, c (B, H), U (4 H, H) -> y (B, T, H), last h, c."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, gates: Tensor, h0: Tensor, c0: Tensor, u: Tensor) -> Any:  # pyright: ignore
        values, h, c = fresh(gates), beginning(gates, h0), beginning(gates, c0)
        launch(lstm_forward, (values, per_gate(u, 4).mT.contiguous(), h, c), values, h0)
        ctx.cell = cell
        ctx.save_for_backward(gates, h0, c0, u, values, h, c)
        return h[:, 1:], h[:, -1].clone(), c[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        gates, h0, c0, u, values, h, c = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *plain_gradients(ctx.cell, gates, (h0, c0), (u, None, None, None), grads)
        dy, dh, dc = map(fresh, grads)
        dgates = values.clone()
        launch(lstm_backward, (dgates, per_gate(u, 4), c, dy, dh, dc), values, h0)
        return None, dgates, dh, dc, dgates.flatten(0, 1).mT @ h[:, :-1].flatten(0, 1)


class FusedGRU(torch.autograd.Function):
    """gates (B, T, 3 H), h (B, H), U (3 H, H), c (3 H) -> y (B, T, H), last h."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, gates: Tensor, h0: Tensor, u: Tensor, bias: Tensor) -> Any:  # pyright: ignore
        values, h = fresh(gates), beginning(gates, h0)
        inner = gates.new_empty(*gates.shape[:2], h0.shape[1])
        matrices = per_gate(u, 3).mT.contiguous()
        launch(gru_forward, (values, matrices, bias.contiguous(), h, inner), values, h0)
        ctx.cell = cell
        ctx.save_for_backward(gates, h0, u, bias, values, h, inner)
        return h[:, 1:], h[:, -1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        gates, h0, u, bias, values, h, inner = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *plain_gradients(ctx.cell, gates, (h0,), (u, bias), grads)
        dy, dh = map(fresh, grads)
        dgates, dinner = values.clone(), inner.clone()
        launch(gru_backward, (dgates, per_gate(u, 3), h, dinner, dy, dh), values, h0)
        # U and c see the gradient of n from behind the reset gate
        own = torch.cat([dgates[..., : 2 * h0.shape[1]], dinner], -1).flatten(0, 1)
        return None, dgates, dh, own.mT @ h[:, :-1].flatten(0, 1), own.sum(0)


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


def beginning(gates: Tensor, first: Tensor) -> Tensor:
    """Room for a state before and after each token, (B, T + 1, H), with the first one filled in."""
    rows = gates.new_empty(gates.shape[0], gates.shape[1] + 1, first.shape[1])
    rows[:, 0] = first
    return rows


def fresh(part: Tensor) -> Tensor:
    """A contiguous copy to write on."""
    return part.clone(memory_format=torch.contiguous_format)


def launch(kernel: Any, arguments: tuple[Any, ...], gates: Tensor, h0: Tensor) -> None:
    batch, time, _ = gates.shape
    if batch:
        with torch.cuda.device_of(gates):
            run = kernel[(triton.cdiv(batch, ROWS),)]
            run(*arguments, batch, time, h0.shape[1], **tiles(h0.shape[1]))


def tiles(hidden: int) -> dict[str, int]:
    """Block sizes for a width; stages that fetch ahead would need more shared memory than there is."""
    side = max(16, triton.next_power_of_2(hidden))
    return {
        "BB": ROWS,
        "BH": side,
        "BK": min(SLICE, side),
        "num_warps": 4 if side < 64 else 8,
        "num_stages": 1,
    }


def per_gate(u: Tensor, gates: int) -> Tensor:
    """(gates H, H) -> (gates, H, H)."""
    return u.contiguous().view(gates, -1, u.shape[1])


def compiled_loop(
    cell: Cell, states: int, inputs: list[Any], lengths: Tensor | None = None
) -> tuple[Tensor, States]:
    """inputs: x (B, T, I), weight_ih, bias, `states` states, weights, all of one type -> y, final states.

    With lengths the loop runs once between the ends of two rows.

    The twin of `core.kernels.gated_loop.cpu.compiled_loop`. Cells other than the plain LSTM and the GRU with
    its reset after the product, wider ones, and float64 take the plain loop.
    """
    x, weight_ih, bias, *rest = inputs
    state, weights = tuple(rest[:states]), tuple(rest[states:])
    kind = fused_kind(cell, weights)
    if (
        kind is not None
        and x.is_cuda
        and x.dtype == torch.float32
        and len(x)
        and cudnn.is_available()
        and cudnn.enabled
    ):
        return cudnn_loop(cell, kind, x, weight_ih, bias, state, weights, lengths)
    ends = None if lengths is None else lengths.tolist()
    if lengths is not None and ends is not None and min(ends) < x.shape[1]:
        if any(later > earlier for earlier, later in pairwise(ends)):
            order = lengths.argsort(descending=True, stable=True)
            given = [x.index_select(0, order), weight_ih, bias, *(part[order] for part in state), *weights]
            y, final = compiled_loop(cell, states, given, lengths[order])
            back = order.argsort()
            return y.index_select(0, back), tuple(part[back] for part in final)
        x, y, rows = still(x, lengths), [], list(state)
        for start, stop, many in spans(ends):
            begin = [part[:many] for part in rows]
            part, after = compiled_loop(
                cell, states, [x[:many, start:stop], weight_ih, bias, *begin, *weights]
            )
            rows = [torch.cat([new, old[many:]]) for new, old in zip(after, rows, strict=True)]
            y.append(F.pad(part, (0, 0, 0, 0, 0, len(x) - many)))
        whole = torch.cat(y, 1)
        return F.pad(whole, (0, 0, 0, x.shape[1] - whole.shape[1])), tuple(rows)
    if kind is None or x.dtype != torch.float32 or state[0].shape[1] > WIDEST:
        return plain_loop(cell, x, weight_ih, bias, state, weights)
    with torch.autocast(x.device.type, enabled=False):
        gates = F.linear(x, weight_ih, bias)
    if kind == "lstm":
        y, *final = FusedLSTM.apply(cell, gates, *state, weights[0])  # pyright: ignore[reportGeneralTypeIssues]
    else:
        matrix, own = weights
        own = gates.new_zeros(gates.shape[-1]) if own is None else own
        y, *final = FusedGRU.apply(cell, gates, *state, matrix, own)  # pyright: ignore[reportGeneralTypeIssues]
    return y, tuple(final)


def spans(ends: list[int]) -> list[tuple[int, int, int]]:
    """Pieces (start, stop, rows) between which falling lengths drop rows."""
    found, start = [], 0
    for stop in sorted({end for end in ends if end}):
        found.append((start, stop, sum(end >= stop for end in ends)))
        start = stop
    return found


def fused_kind(cell: Cell, weights: Weights) -> str | None:
    """Which of the kernels here computes the cell."""
    if cell.kernel == "gru" and cell.options == (False,):
        return "gru"
    plain = cell.options == (0, 1, 2, 3, False, True, True) and all(part is None for part in weights[1:])
    return "lstm" if cell.kernel == "lstm" and plain else None
