"""Items around their groups, with a mean-field posterior.

    v_i = G_{g(i)} + exp(s_{g(i)}) e_i        e_i ~ N(0, I)
    q_i = exp(l) e'_i                          e'_i ~ N(0, 1)

q(e), q(e') are independent normals. One draw of the whole table serves a batch: with a draw per gather the
click that goes into the state and the click that is scored would be different items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.data import FIRST


@dataclass(frozen=True)
class Tables:
    """The items of one draw, or their means."""

    v: Tensor
    """(I, D)"""
    q: Tensor
    """(I,) quality."""
    variance: Tensor | None = None
    """(I,) trace of the posterior's covariance of v, where `v` are means and the likelihood wants it."""


class ItemTable(nn.Module):
    """Posterior of vectors (I, D) and qualities (I,) of the items of a catalogue with groups (I,)."""

    group: Tensor

    def __init__(self, group: Tensor, dims: int, spread: float = 0.5, scale: float = 0.4) -> None:
        super().__init__()
        items, groups = len(group), int(group.max()) + 1
        self.register_buffer("group", group.long())
        self.centre = nn.Parameter(torch.randn(groups, dims))
        self.log_spread = nn.Parameter(torch.full((groups,), spread).log())
        self.mean = nn.Parameter(0.1 * torch.randn(items, dims + 1))
        self.log_scale = nn.Parameter(torch.full((items, dims + 1), scale).log())
        self.log_quality = nn.Parameter(torch.tensor(spread).log())

    def tables(self, noise: Tensor | None = None, moment: bool = False) -> Tables:
        """Means, or the draw that standard normal noise (I, D + 1) makes.

        Args:
            moment: with means, also the variances that the second moment of a distance needs.
        """
        e = self.mean if noise is None else self.mean + self.log_scale.exp() * noise
        spread = self.log_spread.exp()[self.group]  # (I,)
        v = nn.functional.embedding(self.group, self.centre) + spread[:, None] * e[:, :-1]
        variance = None
        if moment:
            variance = spread.square() * (2 * self.log_scale[:, :-1]).exp().sum(-1)
        return Tables(v, self.log_quality.exp() * e[:, -1], variance)

    def noise(self, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal (I, D + 1) for a draw."""
        return torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)

    def scales(self) -> tuple[Tensor, Tensor]:
        """Posterior standard deviations of v (I, D) and of q (I,)."""
        scale = self.log_scale.exp()
        return self.log_spread.exp()[self.group][:, None] * scale[:, :-1], self.log_quality.exp() * scale[
            :, -1
        ]

    def divergence(self) -> Tensor:
        """KL of the posterior from the prior, summed over items."""
        mean, log_scale = self.mean[FIRST:], self.log_scale[FIRST:]
        return 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
