"""Gated loops on a CPU: what is the same for every cell around its compiled forward and backward.

Inside everything is time first and contiguous, so that a step touches one block of memory, states of all
tokens are one matrix, and the gradients of all weights are one product each after the loop.
"""

import math
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.kernels.gated_loop import Cell, plain_loop
from core.kernels.gated_loop_matmul import add_outer, add_rows, multiply_panels, multiply_rows, pack

PIECE = 1 << 21
"""Numbers in the gates of a piece of a sequence, when they are kept for backward."""
PASSING = 1 << 18
"""The same when they are not: so few stay in the cache, and memory does not grow with the sequence."""
FEW = 6
"""Rows up to which packing a matrix costs more than it saves."""
SMALL = 1 << 13
"""Numbers in an array below which its alignment matters less than the time it takes to get it from torch."""


def compiled_loop(cell: Cell, states: int, inputs: list[Tensor | None]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """inputs: x (B, T, I), weight_ih, bias, `states` states, weights, all of one type -> y, final states."""
    check_sizes(inputs, states)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in inputs):
        y, *final = CompiledLoop.apply(cell, states, *inputs)  # pyright: ignore[reportGeneralTypeIssues]
        return y, tuple(final)
    x, weight_ih, bias, *rest = arrays(inputs)
    y, final, _ = pieces(cell, x.swapaxes(0, 1), weight_ih, bias, rest[:states], rest[states:], keep=False)
    return torch.from_numpy(y).transpose(0, 1), tuple(map(torch.from_numpy, final))


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
    def forward(ctx: Any, cell: Cell, states: int, *inputs: Tensor | None) -> Any:  # pyright: ignore
        x, weight_ih, bias, *rest = arrays(inputs)
        tokens = np.ascontiguousarray(x.swapaxes(0, 1))  # (T, B, I)
        y, final, kept = pieces(cell, tokens, weight_ih, bias, rest[:states], rest[states:], keep=True)
        ctx.cell, ctx.states, ctx.given = cell, states, len(inputs)
        flat = [torch.from_numpy(part) for parts in kept for part in parts]
        ctx.save_for_backward(*inputs, torch.from_numpy(tokens), *flat)
        ctx.pieces = len(kept)
        return torch.from_numpy(y).transpose(0, 1), *map(torch.from_numpy, final)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *dfinal: Tensor) -> Any:  # pyright: ignore
        inputs, intermediate = ctx.saved_tensors[: ctx.given], ctx.saved_tensors[ctx.given :]
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *plain_gradients(ctx.cell, ctx.states, inputs, needed, (dy, *dfinal))
        _, weight_ih, bias, *rest = arrays(inputs)
        tokens, *kept = arrays(intermediate)
        weights = packed(rest[ctx.states :], transposed=False)
        dweights = [None if part is None else np.zeros_like(part) for part in rest[ctx.states :]]
        dstate = [np.array(part.numpy(), order="C") for part in dfinal]
        dy_t, each = dy.numpy().swapaxes(0, 1), len(kept) // ctx.pieces
        dx = empty(tokens, *tokens.shape) if needed[0] else None
        d_weight = np.zeros_like(weight_ih) if needed[1] else None
        d_bias = np.zeros_like(bias) if needed[2] else None
        back, nothing = pack(weight_ih), np.zeros((1, tokens.shape[2]), tokens.dtype)
        length = piece_length(tokens, weight_ih, PIECE)
        for index in reversed(range(ctx.pieces)):
            span = slice(index * length, (index + 1) * length)
            mine = kept[index * each : (index + 1) * each]
            given = np.ascontiguousarray(dy_t[span])
            dgates = kernel(ctx.cell).backward(mine, weights, ctx.cell.options, given, dstate, dweights)
            rows = dgates.reshape(-1, dgates.shape[-1])
            if dx is not None:
                multiply_panels(rows, back, nothing, dx[span].reshape(len(rows), -1))
            if d_weight is not None:
                add_outer(rows, tokens[span].reshape(len(rows), -1), d_weight)
            if d_bias is not None:
                add_rows(rows, d_bias)
        gradients = [None if dx is None else dx.swapaxes(0, 1), d_weight, d_bias, *dstate, *dweights]
        return None, None, *(part if part is None else torch.from_numpy(part) for part in gradients)


def pieces(
    cell: Cell,
    tokens: np.ndarray,
    weight_ih: np.ndarray,
    bias: Any,
    state: list[Any],
    weights: list[Any],
    *,
    keep: bool,
) -> tuple[np.ndarray, Any, list[Any]]:
    """tokens (T, B, I) -> y (T, B, P), final state, and what each piece kept."""
    time, batch, _ = tokens.shape
    few = time * batch <= FEW
    matrix = weight_ih if few else pack(weight_ih.T)
    ready = weights if few else packed(weights, transposed=True)
    state = [np.ascontiguousarray(part) for part in state]
    length = piece_length(tokens, weight_ih, PIECE if keep else PASSING)
    y, kept = None, []
    for start in range(0, time, length):
        here = np.ascontiguousarray(tokens[start : start + length])
        gates = project(here, matrix, bias, len(weight_ih))
        part, state, needed = kernel(cell).forward(gates, state, ready, cell.options)
        if keep:
            kept.append(needed)
        if length >= time:
            return part, state, kept
        y = empty(tokens, time, batch, part.shape[2]) if y is None else y
        y[start : start + length] = part
    return y, state, kept  # pyright: ignore[reportReturnType]


def piece_length(tokens: np.ndarray, weight_ih: np.ndarray, numbers: int) -> int:
    """Tokens whose gates are so many numbers."""
    return max(1, numbers // max(1, tokens.shape[1] * len(weight_ih)))


def plain_gradients(
    cell: Cell, states: int, inputs: Any, needed: tuple[bool, ...], cotangents: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, through the plain loop."""
    # views: if one input was computed from another, its gradient must not flow on into that one here
    views: list[Any] = [part if part is None else part.view_as(part) for part in inputs]
    x, weight_ih, bias, *rest = views
    y, final = plain_loop(cell, x, weight_ih, bias, tuple(rest[:states]), tuple(rest[states:]))
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
    gates = project(x[None], matrix, bias, len(weight_ih))
    state = [np.ascontiguousarray(part) for part in rest[:states]]
    y, final, _ = kernel(cell).forward(gates, state, weights, cell.options)
    return torch.from_numpy(y[0]), tuple(map(torch.from_numpy, final))


def project(tokens: np.ndarray, matrix: np.ndarray, bias: np.ndarray | None, size: int) -> np.ndarray:
    """tokens (T, B, I) @ matrix + bias -> gates (T, B, size); matrix is packed, or rows (size, I)."""
    time, batch, width = tokens.shape
    gates = empty(tokens, time, batch, size)
    bias = np.zeros(size, tokens.dtype) if bias is None else bias
    product = multiply_panels if matrix.ndim == 3 else multiply_rows
    product(tokens.reshape(-1, width), matrix, bias[None], gates.reshape(time * batch, -1))
    return gates


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
    """The module with the cell's compiled forward and backward."""
    return imported(str(cell.kernel))


imported = cache(import_module)


def arrays(tensors: Any) -> list[Any]:
    """The memory of tensors as numpy arrays; None stays None."""
    return [tensor if tensor is None else tensor.numpy(force=True) for tensor in tensors]


def empty(like: np.ndarray, *shape: int) -> np.ndarray:
    """An array of the same type; torch's memory starts at a cache line, numpy's does not."""
    if math.prod(shape) < SMALL:
        return np.empty(shape, like.dtype)
    return torch.empty(shape, dtype=torch.float32 if like.dtype == np.float32 else torch.float64).numpy()
