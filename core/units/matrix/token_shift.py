"""What the RWKV units share: the previous token beside each token, head counts, and initial ramps."""

import torch
from torch import Tensor

from core.errors import ConfigError


def shifted(x: Tensor, before: Tensor) -> Tensor:
    """x (B, T, I), the token before the first (B, I) -> the previous token at each place."""
    return torch.cat([before.to(x.dtype).unsqueeze(1), x[:, :-1]], 1)


def head_count(name: str, width: int, heads: int | None) -> int:
    """The given number of heads, or one for 64 channels, after checking that it divides the width."""
    heads = max(1, width // 64) if heads is None else heads
    if heads < 1 or width % heads:
        raise ConfigError(f"{name} needs heads that divide its width {width}, got {heads}")
    return heads


def ramp(width: int) -> Tensor:
    """0 .. 1 over the channels as (1, 1, width), the base of the published initial values."""
    return (torch.arange(width) / max(1, width - 1)).view(1, 1, -1)
