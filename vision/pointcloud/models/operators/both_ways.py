"""Any core unit along groups of voxels, in both directions.

An operator takes groups (G, T, C) and how many tokens of each are its own (G,), and gives (G, T, C) with its
residual included.
"""

from typing import Any

import torch
from torch import Tensor, nn

from core.parts.drop_path import DropPath
from core.registry import build


class Exchange(torch.autograd.Function):
    """x (G, T, C) with its tokens exchanged by an involution (G, T); the way back exchanges too."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor) -> Tensor:  # noqa: ANN001
        ctx.save_for_backward(places)
        return taken(x, places)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor, None]:  # noqa: ANN001
        return taken(grads[0], *ctx.saved_tensors), None


def taken(x: Tensor, places: Tensor) -> Tensor:
    """Rows of every group, (G, T, C)."""
    rows = places + torch.arange(len(x), device=x.device)[:, None] * x.shape[1]
    return x.reshape(-1, x.shape[2]).index_select(0, rows.flatten()).view_as(x)


def mirrored(x: Tensor, filled: Tensor) -> Tensor:
    """Groups (G, T, C) with the tokens that they own reversed; what pads their ends stays."""
    place = torch.arange(x.shape[1], device=x.device)
    mirror = filled[:, None] - 1 - place
    y = Exchange.apply(x, torch.where(mirror >= 0, mirror, place))
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
        z, _ = self.back(mirrored(normed, filled))
        return x + self.drop_path(self.out(y + mirrored(z, filled)))
