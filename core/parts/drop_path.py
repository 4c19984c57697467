"""Stochastic depth: a residual branch is left out for whole samples (Huang et al. 2016, arXiv 1603.09382)."""

import torch
from torch import Tensor, nn

from core.errors import ConfigError


class DropPath(nn.Module):
    """x (B, ...) -> x with whole rows zero with chance `rate`, the rest scaled up; nothing in evaluation.

    Draws from torch's generator of the device, so a resumed run draws the same.

    Raises:
        ConfigError: a rate outside 0 <= rate < 1.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ConfigError(f"a drop-path rate lies in 0 <= rate < 1, got {rate}.")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0 or not len(x):
            return x
        keep = 1 - self.rate
        chosen = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < keep
        return x * (chosen.to(x.dtype) / keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
