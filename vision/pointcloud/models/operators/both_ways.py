"""Any core unit along groups of voxels, in both directions.

An operator takes groups (G, T, C) and how many tokens of each are its own (G,), and gives (G, T, C) with its
residual included.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.kernels.choice import memory_on
from core.kernels.jit import compiled
from core.parts.drop_path import DropPath
from core.registry import build
from vision.pointcloud.rows import loops


class Mirror(torch.autograd.Function):
    """x (G, T, C) with the first `filled` (G,) tokens of each group reversed; the way back does the same."""

    @staticmethod
    def forward(ctx, x: Tensor, filled: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(filled)
        return turned_round(x, filled)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001
        return mirrored(grads[0].contiguous(), *ctx.saved_tensors), None


def turned_round(x: Tensor, filled: Tensor) -> Tensor:
    """Groups with the tokens that they own in reversed order; what pads their ends stays."""
    if loops(x):
        out = torch.empty_like(x)
        mirror_loop(x.detach().numpy(), filled.numpy(), out.numpy())
        return out
    place = torch.arange(x.shape[1], device=x.device)
    mirror = filled[:, None] - 1 - place
    rows = (
        torch.where(mirror >= 0, mirror, place) + torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    )
    return x.reshape(-1, x.shape[2]).index_select(0, rows.flatten()).view_as(x)


@compiled
def mirror_loop(x, filled, out):  # noqa: ANN001, ANN201
    """out (G, T, C) = x with the first `filled` tokens of each group reversed."""
    for g in range(len(x)):
        for t in range(x.shape[1]):
            source = filled[g] - 1 - t if t < filled[g] else t
            for c in range(x.shape[2]):
                out[g, t, c] = x[g, source, c]


@compiled
def turn_round_loop(x, filled):  # noqa: ANN001, ANN201
    """The same in place."""
    for g in range(len(x)):
        for t in range(filled[g] // 2):
            for c in range(x.shape[2]):
                x[g, t, c], x[g, filled[g] - 1 - t, c] = x[g, filled[g] - 1 - t, c], x[g, t, c]


@compiled
def sum_loop(y, y_group, y_token, z, z_group, z_token, filled, out):  # noqa: ANN001, ANN201
    """out (G, T, C) = y + mirrored z; y and z are rows (G T, C), a group and a token so many rows apart."""
    for g in range(len(out)):
        for t in range(out.shape[1]):
            source = filled[g] - 1 - t if t < filled[g] else t
            first, other = g * y_group + t * y_token, g * z_group + source * z_token
            for c in range(out.shape[2]):
                out[g, t, c] = y[first, c] + z[other, c]


def rows_of(x: Tensor) -> tuple[np.ndarray, int, int]:
    """Rows (G T, C) of x (G, T, C) as they lie, and how many of them a group and a token are apart."""
    if x.transpose(0, 1).is_contiguous():  # units that loop over time leave it outermost
        return x.transpose(0, 1).flatten(0, 1).numpy(), 1, len(x)
    return x.contiguous().flatten(0, 1).numpy(), x.shape[1], 1


def mirrored(x: Tensor, filled: Tensor) -> Tensor:
    """Groups (G, T, C) with the tokens that they own reversed; what pads their ends stays."""
    y = Mirror.apply(x, filled)
    assert isinstance(y, Tensor)
    return y


class BothWays(nn.Module):
    """x + W(forward(LN x) + backward(LN x)) of two core units, the second on the reversed tokens.

    The reversal is within the tokens that a group owns: what pads the end never comes before them.
    """

    def __init__(self, unit: str, width: int, drop_path: float = 0.0, **options: Any) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.forth = build(unit, width, width, **options)
        self.back = build(unit, width, width, **options)
        self.out = nn.Linear(width, width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, filled: Tensor) -> Tensor:
        normed = self.norm(x)
        y, _ = self.forth(normed)
        if torch.is_grad_enabled() or memory_on([x]) != "cpu" or not loops(x):
            z, _ = self.back(mirrored(normed, filled))
            return x + self.drop_path(self.out(y + mirrored(z, filled)))
        # in place from here on: memory that is asked for anew costs more than the sums
        turn_round_loop(normed.numpy(), filled.numpy())
        z, _ = self.back(normed)
        sum_loop(*rows_of(y), *rows_of(z), filled.numpy(), normed.numpy())
        change = self.drop_path(self.out(normed))
        return change.add_(x) if change.dtype == x.dtype else x + change
