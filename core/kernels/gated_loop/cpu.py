"""Gated loops on a CPU: what is the same for every cell around its compiled forward and backward.

Inside everything is time first and contiguous, so that a step touches one block of memory, states of all
tokens are one matrix, and the gradients of all weights are one product each after the loop.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.kernels.gated_loop.cell import Cell
from core.kernels.gated_loop.cells import gru, lem, lstm, mgu, para, rnn, slstm
from core.kernels.gated_loop.definition import plain_loop
from core.kernels.gated_loop.rows import clear_behind, empty, inside, lay_back, lay_out
from core.kernels.matmul import add_outer, add_rows, multiply_panels, multiply_rows, pack

KERNELS: dict[str, Any] = {
    "gru": gru,
    "lem": lem,
    "lstm": lstm,
    "mgu": mgu,
    "para": para,
    "rnn": rnn,
    "slstm": slstm,
}
"""What `Cell.kernel` names."""
PIECE = 1 << 21
"""Numbers in the gates of a piece of a sequence, when they are kept for backward."""
PASSING = 1 << 18
"""The same when they are not: so few stay in the cache, and memory does not grow with the sequence."""
ONE_TOKEN = np.ones(1 << 12, np.int64)
UNEVEN, PARTS = 1 << 16, 4
"""Gates of rows of different length are cut into so many parts, none smaller: the products over all tokens
then leave rows out that ended before, too."""
FEW = 6
"""Rows up to which packing a matrix costs more than it saves."""


def compiled_loop(
    cell: Cell, states: int, inputs: list[Tensor | None], lengths: Tensor | None = None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """inputs: x (B, T, I), weight_ih, bias, `states` states, weights, all of one type -> y, final states.

    With lengths a row that ended costs nothing: its y is zero, its states are those of its end, and what x
    holds there does not matter.
    """
    check_sizes(inputs, states)
    ends = None if lengths is None else lengths.cpu().numpy().astype(np.int64)
    if ends is not None and not len(ends):
        ends = None
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in inputs):
        y, *final = CompiledLoop.apply(cell, states, ends, *inputs)  # pyright: ignore[reportGeneralTypeIssues]
        return y, tuple(final)
    x, weight_ih, bias, *rest = arrays(inputs)
    batch = Batch(len(x), x.shape[1], ends)
    y, final, _ = pieces(cell, x, weight_ih, bias, rest[:states], rest[states:], batch, keep=False)
    return torch.from_numpy(y), tuple(map(torch.from_numpy, final))


class Batch:
    """Rows in the order in which compiled loops want them: by falling length, so that ended ones drop out.

    Without lengths, or where they fall already, nothing is moved.
    """

    def __init__(self, rows: int, time: int, ends: np.ndarray | None) -> None:
        self.rows, self.time = rows, time
        self.ends = np.full(rows, time, np.int64) if ends is None else ends
        self.order: np.ndarray | None = None
        if ends is not None and (ends[1:] > ends[:-1]).any():
            self.order = np.argsort(-ends, kind="stable")
            self.ends = ends[self.order]
        self.longest = int(self.ends[0]) if rows else time
        self.uneven = rows > 0 and int(self.ends[-1]) < time

        self.places = np.arange(rows) if self.order is None else self.order

    def sorted(self, part: np.ndarray) -> np.ndarray:
        """Rows of part (B, ..) copied in our order, or the array itself."""
        return part if self.order is None else part[self.order]

    def back(self, part: np.ndarray) -> np.ndarray:
        """The same in the caller's order."""
        return part if self.order is None else part[np.argsort(self.order)]

    def tokens(self, x: np.ndarray, start: int, stop: int, ends: np.ndarray) -> np.ndarray:
        """Tokens start .. stop of x (B, T, D) -> (T', B', D) of the rows that have some, zero beyond."""
        if not self.uneven:
            return np.ascontiguousarray(x[:, start:stop].swapaxes(0, 1))
        tokens = empty(x, stop - start, len(ends), x.shape[2])
        lay_out(x, start, self.places, ends, tokens)
        return tokens

    def room(self, like: np.ndarray, width: int) -> np.ndarray:
        """Room for (B, T, width), zero beyond the lengths; time lies outermost where all rows are as long."""
        if not self.uneven:
            return empty(like, self.time, self.rows, width).swapaxes(0, 1)
        room = empty(like, self.rows, self.time, width)
        clear_behind(room, self.places, self.ends)
        return room

    def place(self, part: np.ndarray, start: int, ends: np.ndarray, room: np.ndarray) -> None:
        """The way back of `tokens`: part (T', B', D) into room (B, T, D)."""
        if self.uneven:
            lay_back(part, start, self.places, ends, room)
        else:
            room.swapaxes(0, 1)[start : start + len(part)] = part

    def cut(self, weight_ih: np.ndarray, numbers: int) -> list[tuple[int, int, np.ndarray]]:
        """Pieces (start, stop, lengths of their rows) with at most so many numbers in the gates."""
        token = max(1, self.rows * len(weight_ih))
        if self.uneven:
            numbers = min(numbers, max(UNEVEN, token * self.longest // PARTS))
        length = max(1, numbers // token)
        return [
            (start, min(start + length, self.longest), inside(self.ends, start, start + length))
            for start in range(0, self.longest, length)
        ]


def check_sizes(inputs: list[Any], states: int) -> None:
    """Compiled loops trust the sizes of a token and of the batch: wrong ones would read foreign memory."""
    x, weight_ih = inputs[0], inputs[1]
    if x.shape[-1] != weight_ih.shape[1] or any(len(part) != len(x) for part in inputs[3 : 3 + states]):
        given = [tuple(part.shape) for part in inputs[3 : 3 + states]]
        raise ValueError(
            f"a gated loop expects x of width {weight_ih.shape[1]} and as many rows in its states; "
            f"got x {tuple(x.shape)} and states {given}"
        )


class CompiledLoop(torch.autograd.Function):
    """A cell's compiled forward and backward, with the input projection and its gradients."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, states: int, ends: Any, *inputs: Tensor | None) -> Any:  # pyright: ignore
        x, weight_ih, bias, *rest = arrays(inputs)
        batch = Batch(len(x), x.shape[1], ends)
        y, final, kept = pieces(cell, x, weight_ih, bias, rest[:states], rest[states:], batch, keep=True)
        ctx.cell, ctx.states, ctx.batch, ctx.ends, ctx.given = cell, states, batch, ends, len(inputs)
        flat = [torch.from_numpy(part) for parts in kept for part in parts]
        ctx.save_for_backward(*inputs, *flat)
        ctx.pieces = len(kept)
        # a view, so that torch refuses to change in place what is kept for backward
        return torch.from_numpy(y.swapaxes(0, 1)).transpose(0, 1), *map(torch.from_numpy, final)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *dfinal: Tensor) -> Any:  # pyright: ignore
        saved = ctx.saved_tensors  # read once: checkpointing hands them out once only
        inputs, intermediate = saved[: ctx.given], saved[ctx.given :]
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            gradients = plain_gradients(ctx.cell, ctx.states, ctx.ends, inputs, needed, (dy, *dfinal))
            return None, None, None, *gradients
        x, weight_ih, bias, *rest = arrays(inputs)
        kept = arrays(intermediate)
        weights = packed(rest[ctx.states :], transposed=False)
        dweights = [None if part is None else np.zeros_like(part) for part in rest[ctx.states :]]
        batch: Batch = ctx.batch
        dstate = [np.array(batch.sorted(part.numpy()), order="C") for part in dfinal]
        each = len(kept) // max(1, ctx.pieces)
        cuts = batch.cut(weight_ih, PIECE)
        dx = batch.room(x, x.shape[2]) if needed[0] else None
        d_weight = np.zeros_like(weight_ih) if needed[1] else None
        d_bias = np.zeros_like(bias) if needed[2] else None
        back, nothing = pack(weight_ih), np.zeros((1, x.shape[2]), x.dtype)
        for index, (begin, end, ends) in reversed(list(enumerate(cuts))):
            tokens, *mine = kept[index * each : (index + 1) * each]
            given = batch.tokens(dy.numpy(), begin, end, ends)
            # views: rows that ended before keep the gradient of their final state
            here = [part[: len(ends)] for part in dstate]
            dgates = kernel(ctx.cell).backward(mine, weights, ctx.cell.options, ends, given, here, dweights)
            rows = dgates.reshape(-1, dgates.shape[-1])
            if dx is not None:
                part = empty(x, *tokens.shape) if batch.uneven else dx.swapaxes(0, 1)[begin:end]
                multiply_panels(rows, back, nothing, part.reshape(len(rows), -1))
                if batch.uneven:
                    batch.place(part, begin, ends, dx)
            if d_weight is not None:
                add_outer(rows, tokens.reshape(len(rows), -1), d_weight)
            if d_bias is not None:
                add_rows(rows, d_bias)
        gradients = [dx, d_weight, d_bias, *map(batch.back, dstate), *dweights]
        return None, None, None, *(part if part is None else torch.from_numpy(part) for part in gradients)


def pieces(
    cell: Cell,
    x: np.ndarray,
    weight_ih: np.ndarray,
    bias: Any,
    state: list[Any],
    weights: list[Any],
    batch: Batch,
    *,
    keep: bool,
) -> tuple[np.ndarray, Any, list[Any]]:
    """x (B, T, I) -> y (B, T, P), final state, and what each piece kept, its tokens first."""
    few = batch.time * batch.rows <= FEW
    matrix = weight_ih if few else pack(weight_ih.T)
    ready = weights if few else packed(weights, transposed=True)
    state = [np.ascontiguousarray(batch.sorted(part)) for part in state]
    y, spare, kept = None, None, []
    for start, stop, own in batch.cut(weight_ih, PIECE if keep else PASSING):
        shape = stop - start, len(own), len(weight_ih)
        if keep or spare is None:
            gates = empty(x, *shape)
            spare = gates.reshape(-1)
        else:  # the room of the piece before: memory that is asked for anew costs as much as the product
            gates = spare[: math.prod(shape)].reshape(shape)
        if keep or few or batch.uneven or batch.rows > FEW:
            here = batch.tokens(x, start, stop, own)
            project(here, matrix, bias, gates)
        else:
            here = x
            project_rows(x[:, start:stop], matrix, bias, gates)
        begin = [part[: len(own)] for part in state]
        part, after, needed = kernel(cell).forward(gates, begin, ready, cell.options, own)
        if keep:
            kept.append((here, *needed))
        if stop - start == batch.time and not batch.uneven:
            return part.swapaxes(0, 1), [batch.back(part) for part in after], kept
        if y is None:
            y = batch.room(x, part.shape[2])
        batch.place(part, start, own, y)
        rest = [old[len(own) :] for old in state]
        state = [np.concatenate(both) if len(both[1]) else both[0] for both in zip(after, rest, strict=True)]
    return y, [batch.back(part) for part in state], kept  # pyright: ignore[reportReturnType]


def plain_gradients(
    cell: Cell,
    states: int,
    ends: np.ndarray | None,
    inputs: Any,
    needed: tuple[bool, ...],
    cotangents: tuple[Tensor, ...],
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, through the plain loop."""
    # views: if one input was computed from another, its gradient must not flow on into that one here
    views: list[Any] = [part if part is None else part.view_as(part) for part in inputs]
    x, weight_ih, bias, *rest = views
    lengths = None if ends is None else torch.from_numpy(ends)
    y, final = plain_loop(cell, x, weight_ih, bias, tuple(rest[:states]), tuple(rest[states:]), lengths)
    wanted = [part for part, need in zip(views, needed, strict=True) if need]
    found = iter(torch.autograd.grad((y, *final), wanted, cotangents, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def compiled_step(cell: Cell, states: int, inputs: list[Tensor | None]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One token without gradients, x (B, I): no packing for few rows, and as little Python as can be."""
    check_sizes(inputs, states)
    x, weight_ih, bias, *rest = arrays(inputs)
    few = len(x) <= FEW
    matrix = weight_ih if few else pack(weight_ih.T)
    weights = rest[states:] if few else packed(rest[states:], transposed=True)
    gates = empty(x, 1, len(x), len(weight_ih))
    project(x[None], matrix, bias, gates)
    state = [np.ascontiguousarray(part) for part in rest[:states]]
    y, final, _ = kernel(cell).forward(gates, state, weights, cell.options, one_token(len(x)))
    return torch.from_numpy(y[0]), tuple(map(torch.from_numpy, final))


def one_token(rows: int) -> np.ndarray:
    """Lengths of the rows of a single step."""
    return ONE_TOKEN[:rows] if rows <= len(ONE_TOKEN) else np.ones(rows, np.int64)


def project(tokens: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, gates: np.ndarray) -> None:
    """gates (T, B, size) = tokens (T, B, I) @ matrix + bias; matrix is packed, or rows (size, I)."""
    time, batch, width = tokens.shape
    bias = np.zeros(gates.shape[2], tokens.dtype) if bias is None else bias
    product = multiply_panels if matrix.ndim == 3 else multiply_rows
    product(tokens.reshape(-1, width), matrix, bias[None], gates.reshape(time * batch, -1))


def project_rows(x: np.ndarray, panels: np.ndarray, bias: np.ndarray | None, gates: np.ndarray) -> None:
    """The same of a few long rows x (B, T, I), which are not turned for it."""
    bias = np.zeros(gates.shape[2], x.dtype) if bias is None else bias
    for b, row in enumerate(x):
        multiply_panels(row, panels, bias[None], gates[:, b])


def packed(weights: list[Any], *, transposed: bool) -> list[Any]:
    """Matrices among the weights as panels, for a @ W^T or a @ W; stacked matrices as stacked panels."""

    def ready(weight: Any) -> Any:
        if weight is None or weight.ndim == 1:
            return weight
        if weight.ndim == 2:
            return pack(weight.T if transposed else weight)
        return np.stack([ready(part) for part in weight])

    return [ready(weight) for weight in weights]


def kernel(cell: Cell) -> Any:
    """The cell's compiled forward and backward."""
    return KERNELS[str(cell.kernel)]


def arrays(tensors: Any) -> list[Any]:
    """The memory of tensors as numpy arrays; None stays None."""
    return [tensor if tensor is None else tensor.numpy(force=True) for tensor in tensors]
