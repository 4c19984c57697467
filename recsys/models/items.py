"""Items around their groups, with a mean-field posterior.

    v_i = G_{g(i)} + exp(s_{g(i)}) e_i        e_i ~ N(0, I)
    q_i = exp(l) e'_i                          e'_i ~ N(0, 1)

q(e), q(e') are independent normals. The groups' vectors are points, or with a rank r > 0 have a posterior:

    G = G^ + s * x + U z,    x ~ N(0, I), z ~ N(0, I_r),  against G ~ N(0, kappa^2 I)

all groups in one: mean-field draws explore too little along the directions in which groups move together.

One draw of the whole table serves a batch: with a draw per gather the
click that goes into the state and the click that is scored would be different items.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys.slates import FIRST

KAPPA = 4.632
"""Spread of the groups' prior, the published one."""

FAVOUR = (0.7, 1.5, 0.5, 1.5)
"""Where c, log s, d and log t begin."""


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

    def __init__(
        self, group: Tensor, dims: int, spread: float = 0.5, scale: float = 0.4, rank: int = 0
    ) -> None:
        super().__init__()
        items, groups = len(group), int(group.max()) + 1
        self.rank = rank
        self.register_buffer("group", group.long())
        self.centre = nn.Parameter(torch.randn(groups, dims))
        self.log_spread = nn.Parameter(torch.full((groups,), spread).log())
        self.mean = nn.Parameter(0.1 * torch.randn(items, dims + 1))
        self.log_scale = nn.Parameter(torch.full((items, dims + 1), scale).log())
        self.log_quality = nn.Parameter(torch.tensor(spread).log())
        if rank:
            self.group_scale = nn.Parameter(torch.full((groups, dims), 0.05).log())
            self.group_factor = nn.Parameter(0.02 * torch.randn(groups, dims, rank))

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Of the standard normals of one draw: a row an item, a row a group, as many rows as the rank."""
        items, wide = self.mean.shape
        return (items + len(self.centre) + self.rank, wide) if self.rank else (items, wide)

    def tables(self, noise: Tensor | None = None, moment: bool = False) -> Tables:
        """Means, or the draw that standard normal noise of `noise_shape` makes.

        Args:
            moment: with means, also the variances that the second moment of a distance needs.
        """
        items = len(self.mean)
        e = self.mean if noise is None else self.mean + self.log_scale.exp() * noise[:items]
        variance = None
        if moment:
            spread = self.log_spread.exp()[self.group]  # (I,)
            variance = spread.square() * (2 * self.log_scale[:, :-1]).exp().sum(-1)
        centre = None
        if self.rank and noise is not None:
            own, shared = noise[items : -self.rank, :-1], noise[-self.rank :, 0]
            centre = self.centre + self.group_scale.exp() * own + self.group_factor @ shared
        elif self.rank and variance is not None:
            spread_of_group = (2 * self.group_scale).exp().sum(-1) + self.group_factor.square().sum((-1, -2))
            variance = variance + spread_of_group[self.group]
        return self.placed(e, variance, centre)

    def placed(self, e: Tensor, variance: Tensor | None = None, centre: Tensor | None = None) -> Tables:
        """The items whose places within their groups are e (I, D + 1), quality last."""
        spread = self.log_spread.exp()[self.group]  # (I,)
        where = nn.functional.embedding(self.group, self.centre if centre is None else centre)
        v = where + spread[:, None] * e[:, :-1]
        return Tables(v, self.log_quality.exp() * e[:, -1], variance)

    def noise(self, generator: torch.Generator | None = None) -> Tensor:
        """Standard normals of `noise_shape` for a draw."""
        return torch.randn(self.noise_shape, generator=generator, dtype=self.mean.dtype)

    def scales(self) -> tuple[Tensor, Tensor]:
        """Posterior standard deviations of v (I, D) and of q (I,)."""
        scale = self.log_scale.exp()
        return self.log_spread.exp()[self.group][:, None] * scale[:, :-1], self.log_quality.exp() * scale[
            :, -1
        ]

    def divergence(self) -> Tensor:
        """KL of the posterior from the prior, summed over items, and the groups' where they have one."""
        mean, log_scale = self.mean[FIRST:], self.log_scale[FIRST:]
        items = 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
        return items + self.group_divergence() if self.rank else items

    def group_divergence(self) -> Tensor:
        """KL of N(G^, diag(s^2) + U U^T) from N(0, kappa^2 I); the determinant by the matrix lemma."""
        variance, factor = (2 * self.group_scale).exp().flatten(), self.group_factor.flatten(0, 1)
        inner = torch.eye(self.rank).to(factor) + factor.T @ (factor / variance[:, None])
        log_det = variance.log().sum() + torch.linalg.slogdet(inner)[1]
        trace = variance.sum() + factor.square().sum()
        count = variance.numel()
        apart = (trace + self.centre.square().sum()) / KAPPA**2
        return 0.5 * (apart - count + 2 * count * math.log(KAPPA) - log_det)


def favoured(favour: Tensor, clicks: Tensor, offers: Tensor) -> Tensor:
    """log of (clicks + s)^c (offers + t)^d (..., I): how an item is wanted within its group.

    What the recommender of a log has offered tells of an item what few clicks cannot: it knew more.
    """
    c, s, d, t = favour.unbind()
    return c * (clicks + s.exp()).log() + d * (offers + t.exp()).log()
