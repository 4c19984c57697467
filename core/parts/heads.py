"""Heads of the units with a matrix state: how many, and what is done to each."""

import torch
from torch import Tensor

from core.errors import ConfigError
from core.kernels.precision import at_least_single


def head_count(name: str, width: int, heads: int | None) -> int:
    """The given number of heads, or as many of width 64 and above as divide the width evenly.

    Raises:
        ConfigError: the number does not divide the width.
    """
    if heads is None:
        return default_heads(width)
    if heads < 1 or width % heads:
        raise ConfigError(f"{name} needs heads that divide the hidden width {width}, got {heads}")
    return heads


def default_heads(width: int, *others: int) -> int:
    """As many heads of width 64 and above as divide the width, and the other widths too."""
    counts = range(max(1, width // 64), 0, -1)
    return next(count for count in counts if all(part % count == 0 for part in (width, *others)))


def split(x: Tensor, heads: int) -> Tensor:
    """(.., h D) -> (.., h, D)."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads)


def empty_state(x: Tensor, heads: int, key: int, value: int) -> Tensor:
    """Zeros (B, h, K, V) for x (B, ..), in float32 at least: sums in half precision stop growing."""
    return x.new_zeros(x.shape[0], heads, key, value, dtype=torch.promote_types(x.dtype, torch.float32))


def unit_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(sum x^2 + eps) over the last axis, in float32 at least."""
    wide = at_least_single(x)
    return (wide * (wide.square().sum(-1, keepdim=True) + eps).rsqrt()).to(x.dtype)
