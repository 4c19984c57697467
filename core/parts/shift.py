"""What the RWKV units share: the previous token beside each token, the norm of heads, initial ramps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def shifted(x: Tensor, before: Tensor) -> Tensor:
    """x (B, T, I), the token before the first (B, I) -> the previous token at each place."""
    return torch.cat([before.to(x.dtype).unsqueeze(1), x[:, :-1]], 1)


def last(x: Tensor) -> Tensor:
    """The last token (B, I) of x (B, T, I), copied: a view would keep the whole sequence in memory."""
    return x[:, -1].clone()


def group_norm(o: Tensor, norm: nn.GroupNorm) -> Tensor:
    """o (.., h, V) -> (.., h V): each head normalised, then one weight and bias a channel."""
    return torch.addcmul(norm.bias, F.layer_norm(o, o.shape[-1:], eps=norm.eps).flatten(-2), norm.weight)


def ramp(width: int) -> Tensor:
    """0 .. 1 over the channels (width,), the base of the published initial values."""
    return torch.arange(width) / max(1, width - 1)
