"""What the blocks with attention share: nobody looks ahead, heads divide the width."""

import torch
from torch import Tensor

from core.errors import ConfigError


def ahead(x: Tensor) -> Tensor:
    """(L, L) bool for x (B, L, ...): True where the key comes after the query."""
    length = x.shape[1]
    return torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)


def check_heads(hidden: int, heads: int) -> None:
    """Raises ConfigError where the heads cannot share the width evenly."""
    if hidden % heads:
        raise ConfigError(f"hidden = {hidden} must be a multiple of heads = {heads}.")
