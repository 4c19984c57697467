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

PIECE = 1 << 18
"""Numbers in the gates of a piece of sequence, when nothing is kept for backward: they stay in the cache."""
FEW = 6
"""Rows up to which packing a matrix costs more than it saves."""
SMALL = 1 << 13
"""Numbers in an array below which its alignment matters less than the time it takes to get it from torch."""


def compiled_loop(cell: Cell, states: int, inputs: list[Tensor | None]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """inputs: x (B, T, I), weight_ih, bias, `states` states, weights, all of one type -> y, final states."""
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in inputs):
        y, *final = CompiledLoop.apply(cell, states, *inputs)  # pyright: ignore[reportGeneralTypeIssues]
        return y, tuple(final)
    return without_gradient(cell, states, inputs)


class CompiledLoop(torch.autograd.Function):
    """A cell's compiled forward and backward, with the input projection and its gradients."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, states: int, *inputs: Tensor | None) -> Any:  # pyright: ignore
        x, weight_ih, bias, *rest = arrays(inputs)
        ready = packed(rest[states:], transposed=True)
        tokens = np.ascontiguousarray(x.swapaxes(0, 1))  # (T, B, I)
        gates = project(tokens, pack(weight_ih.T), bias, len(weight_ih))
        state = [np.ascontiguousarray(part) for part in rest[:states]]
        y, final, kept = kernel(cell).forward(gates, state, ready, cell.options)
        ctx.cell, ctx.states, ctx.given = cell, states, len(inputs)
        ctx.save_for_backward(*inputs, torch.from_numpy(tokens), *map(torch.from_numpy, kept))
        return torch.from_numpy(y).transpose(0, 1), *map(torch.from_numpy, final)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *dfinal: Tensor) -> Any:  # pyright: ignore
        inputs, intermediate = ctx.saved_tensors[: ctx.given], ctx.saved_tensors[ctx.given :]
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *plain_gradients(ctx.cell, ctx.states, inputs, needed, (dy, *dfinal))
        _, weight_ih, bias, *rest = arrays(inputs)
        tokens, *kept = arrays(intermediate)
        dgates, *others = kernel(ctx.cell).backward(
            kept,
            packed(rest[ctx.states :], transposed=False),
            ctx.cell.options,
            np.ascontiguousarray(dy.numpy().swapaxes(0, 1)),
            [np.array(part.numpy(), order="C") for part in dfinal],
        )
        rows = dgates.reshape(-1, dgates.shape[-1])
        gradients: list[Any] = [None, None, None]
        if needed[0]:
            dx = empty(rows, *tokens.shape)
            nothing = np.zeros((1, dx.shape[-1]), dx.dtype)
            multiply_panels(rows, pack(weight_ih), nothing, dx.reshape(len(rows), -1))
            gradients[0] = dx.swapaxes(0, 1)
        if needed[1]:
            gradients[1] = np.zeros_like(weight_ih)
            add_outer(rows, tokens.reshape(len(rows), -1), gradients[1])
        if needed[2]:
            gradients[2] = np.zeros_like(bias)
            add_rows(rows, gradients[2])
        for part in others:
            gradients += part
        return None, None, *(part if part is None else torch.from_numpy(part) for part in gradients)


def plain_gradients(
    cell: Cell, states: int, inputs: Any, needed: tuple[bool, ...], cotangents: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, through the plain loop."""
    # views: if one input was computed from another, its gradient must not flow on into that one here
    views = [part if part is None else part.view_as(part) for part in inputs]
    x, weight_ih, bias, *rest = views
    y, final = plain_loop(cell, x, weight_ih, bias, tuple(rest[:states]), tuple(rest[states:]))
    wanted = [part for part, need in zip(views, needed, strict=True) if need]
    found = iter(torch.autograd.grad((y, *final), wanted, cotangents, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def without_gradient(
    cell: Cell, states: int, inputs: list[Tensor | None]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Nothing is kept: a long sequence goes through in pieces whose gates stay in the cache."""
    x, weight_ih, bias, *rest = arrays(inputs)
    forward = kernel(cell).forward
    batch, time, _ = x.shape
    if batch * time <= FEW:
        matrix, weights = weight_ih, rest[states:]
    else:
        matrix, weights = pack(weight_ih.T), packed(rest[states:], transposed=True)
    state = [np.ascontiguousarray(part) for part in rest[:states]]
    piece = max(1, PIECE // max(1, batch * len(weight_ih)))
    pieces = []
    for start in range(0, time, piece):
        tokens = np.ascontiguousarray(x[:, start : start + piece].swapaxes(0, 1))
        gates = project(tokens, matrix, bias, len(weight_ih))
        y, state, _ = forward(gates, state, weights, cell.options)
        pieces.append(torch.from_numpy(y))
    y = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return y.transpose(0, 1), tuple(map(torch.from_numpy, state))


def compiled_step(cell: Cell, states: int, inputs: list[Tensor | None]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One token without gradients, x (B, I): no packing for few rows, and as little Python as can be."""
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
