"""Rows of different length copied between batches: only what they hold, zeros elsewhere.

A gather and its mask are several passes over padded tokens, which for the fastest units cost as much as the
unit. On a CPU one copy of the valid tokens does both, and so does its gradient, which is the other copy.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.choice import beyond_operators

Rows = tuple[tuple[int, int], ...]
"""(place in the whole batch, length) of each row of a part."""


def taken(x: Tensor, rows: Rows, longest: int) -> Tensor:
    """Some rows of x (B, T, D) up to their lengths -> (rows, longest, D), zero beyond, whatever was there."""
    if by_copy(x):
        return TakenRows.apply(x, rows, longest)  # pyright: ignore[reportReturnType]
    places = torch.tensor([place for place, _ in rows], device=x.device)
    return masked(x[:, :longest].index_select(0, places), rows)


def placed(parts: list[Tensor], rows: list[Rows], batch: int, time: int) -> Tensor:
    """The way back: parts (rows, longest, D) -> (B, T, D), zero where there is nothing."""
    if by_copy(*parts):
        return Placed.apply(rows, batch, time, *parts)  # pyright: ignore[reportReturnType]
    whole = parts[0].new_zeros(batch, time, parts[0].shape[2])
    for part, own in zip(parts, rows, strict=True):
        places = torch.tensor([place for place, _ in own], device=part.device)
        missing = time - part.shape[1]
        whole = whole.index_copy(0, places, F.pad(masked(part, own), (0, 0, 0, missing)))
    return whole


def masked(part: Tensor, rows: Rows) -> Tensor:
    ends = torch.tensor([end for _, end in rows], device=part.device)
    padding = torch.arange(part.shape[1], device=part.device) >= ends[:, None]
    return part.masked_fill(padding[..., None], 0)


def by_copy(*parts: Tensor) -> bool:
    """Whether the memory can be copied: plain tensors on a CPU."""
    return all(part.is_cpu for part in parts) and not (
        torch.compiler.is_compiling() or beyond_operators(*parts)
    )


def memory(x: Tensor) -> np.ndarray:
    """The numbers of x as an array; numpy has no bfloat16, so those as their bits."""
    x = x.detach()
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()


class TakenRows(torch.autograd.Function):
    """`taken` by one copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Rows, longest: int) -> Tensor:  # pyright: ignore
        ctx.rows, ctx.shape = rows, x.shape
        out = x.new_empty(len(rows), longest, x.shape[2])
        source, target = memory(x), memory(out)
        for own, (place, end) in enumerate(rows):
            target[own, :end] = source[place, :end]
            target[own, end:] = 0
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        return Placed.apply([ctx.rows], ctx.shape[0], ctx.shape[1], grad), None, None


class Placed(torch.autograd.Function):
    """`placed` by one copy."""

    @staticmethod
    def forward(ctx: Any, rows: list[Rows], batch: int, time: int, *parts: Tensor) -> Tensor:  # pyright: ignore
        ctx.rows, ctx.longest = rows, [part.shape[1] for part in parts]
        out = parts[0].new_empty(batch, time, parts[0].shape[2])
        target, empty = memory(out), np.ones(batch, bool)
        for part, own in zip(parts, rows, strict=True):
            source = memory(part)
            for index, (place, end) in enumerate(own):
                target[place, :end] = source[index, :end]
                target[place, end:] = 0
                empty[place] = False
        target[empty] = 0
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore
        parts = (
            TakenRows.apply(grad, own, longest) for own, longest in zip(ctx.rows, ctx.longest, strict=True)
        )
        return None, None, None, *parts
