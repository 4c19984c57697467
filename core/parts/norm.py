"""Root-mean-square norms: plain, over groups of channels, and with a gate.

rms(x) = x / sqrt(mean x^2 + eps)
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.precision import at_least_single


class RMSNorm(nn.Module):
    """rms(x) * weight over the last axis.

    Args:
        eps: added to the mean square.
        groups: each of them (width / groups channels) is normalised apart.
        one_plus: multiply by 1 + weight, as Gemma does.
    """

    def __init__(self, width: int, eps: float = 1e-6, *, groups: int = 1, one_plus: bool = False) -> None:
        super().__init__()
        if groups < 1 or width % groups:
            raise ConfigError(f"{groups} groups do not divide a width of {width}")
        self.width, self.eps, self.groups, self.one_plus = width, eps, groups, one_plus
        self.weight = nn.Parameter(torch.zeros(width) if one_plus else torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        weight = 1 + self.weight if self.one_plus else self.weight
        if self.groups == 1:
            return rms(x, self.eps, weight)
        return (rms(x.unflatten(-1, (self.groups, -1)), self.eps).flatten(-2) * weight).to(x.dtype)


class GatedRMSNorm(RMSNorm):
    """rms(x silu(gate)) * weight, as in Mamba-2; eps and groups as in `RMSNorm`.

    Args:
        norm_first: rms(x) * weight silu(gate) instead.
    """

    def __init__(self, width: int, eps: float = 1e-5, *, groups: int = 1, norm_first: bool = False) -> None:
        super().__init__(width, eps, groups=groups)
        self.norm_first = norm_first

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.norm_first:
            return super().forward(x) * F.silu(gate)
        return super().forward(x * F.silu(gate))


def rms(x: Tensor, eps: float, weight: Tensor | None = None) -> Tensor:
    """rms(x) * weight over the last axis, computed in float32 at least, in the type of x."""
    wide = at_least_single(x)
    y = F.rms_norm(wide, x.shape[-1:], None if weight is None else weight.to(wide.dtype), eps)
    return y.to(x.dtype)
