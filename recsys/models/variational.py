"""Mean-field posterior: an independent normal for every number of every latent site.

    q(theta) = prod N(theta_j; m_j, s_j^2),   theta = m + s * noise

A site whose mean must lie in (0, 1) keeps the logit of it; scales are kept as logarithms.
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

Draw = dict[str, Tensor]
"""Site -> values, its means or one draw."""


class MeanField(nn.Module):
    """Posterior over named sites of these shapes. `inside` names the sites whose mean lies in (0, 1)."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], inside: Iterable[str] = ()) -> None:
        super().__init__()
        self.inside = frozenset(inside)
        self.mean = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
        )
        self.log_scale = nn.ParameterDict(
            {name: nn.Parameter(torch.full(shape, -3.0)) for name, shape in shapes.items()}
        )

    def means(self) -> Draw:
        """Posterior means."""
        return {name: mean.sigmoid() if name in self.inside else mean for name, mean in self.mean.items()}

    def scales(self) -> Draw:
        """Posterior standard deviations."""
        return {name: value.exp() for name, value in self.log_scale.items()}

    def draw(self, generator: torch.Generator | None = None, temperature: float = 1.0) -> Draw:
        """One draw, the spread times `temperature`; 0 gives the means."""
        means = self.means()
        if temperature == 0:
            return means
        return {
            name: means[name]
            + temperature * scale * torch.randn(scale.shape, generator=generator, dtype=scale.dtype).to(scale)
            for name, scale in self.scales().items()
        }

    def log_density(self, draw: Draw) -> Draw:
        """log q of a draw, a sum per site."""
        means, scales = self.means(), self.scales()
        return {name: normal(draw[name], means[name], scales[name]).sum() for name in scales}

    @torch.no_grad()
    def put(self, name: str, mean: Tensor, scale: Tensor) -> None:
        """Set a site."""
        self.mean[name].copy_(mean.logit() if name in self.inside else mean)
        self.log_scale[name].copy_(scale.log())


def normal(x: Tensor, mean: Tensor | float, scale: Tensor | float) -> Tensor:
    """log N(x; mean, scale^2), elementwise."""
    log_scale = scale.log() if isinstance(scale, Tensor) else math.log(scale)
    return -0.5 * ((x - mean) / scale) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)


def divergence(
    mean: Tensor, scale: Tensor, prior_mean: Tensor | float, prior_scale: Tensor | float
) -> Tensor:
    """KL(N(mean, scale^2) || N(prior_mean, prior_scale^2)), elementwise."""
    ratio = scale / prior_scale
    return 0.5 * (ratio.square() + ((mean - prior_mean) / prior_scale) ** 2 - 1 - 2 * ratio.log())


def hierarchy_divergence(
    item_mean: Tensor,
    item_scale: Tensor,
    group_mean: Tensor,
    group_scale: Tensor,
    group: Tensor,
    spread: Tensor,
    prior: float,
) -> tuple[Tensor, Tensor]:
    """KL of the hierarchical prior in closed form, for known spreads of the groups: (groups, items).

    Items (I, D) around groups (G, D): E_q(mu) KL(q(v_i) || N(mu_g, spread_g^2)), where the spread of q(mu)
    adds its variance to the squared distance; groups against N(0, prior^2).
    """
    groups = divergence(group_mean, group_scale, 0.0, prior).sum()
    items = divergence(item_mean, item_scale, group_mean[group], spread[group])
    items = items + 0.5 * (group_scale[group] / spread[group]).square()
    return groups, items.sum()
