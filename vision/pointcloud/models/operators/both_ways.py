"""Any core unit along groups of voxels, in both directions.

An operator takes groups (G, T, C) and how many tokens of each are its own (G,), and gives (G, T, C) with its
residual included.
"""

from typing import Any

import torch
from torch import Tensor, nn

from core.parts.drop_path import DropPath
from core.registry import build


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
        place = torch.arange(x.shape[1], device=x.device)
        mirror = filled[:, None] - 1 - place
        mirror = torch.where(mirror >= 0, mirror, place)[..., None].expand_as(normed)
        z, _ = self.back(normed.gather(1, mirror))
        return x + self.drop_path(self.out(y + z.gather(1, mirror)))
