"""The probabilistic slate model of Eide, Leslie, Frigessi (arXiv 2104.15046) with its variational posterior.

    v_i ~ N(mu_g, sigma_g^2),  mu_g ~ N(0, kappa_mu^2),  sigma_g ~ N(0, kappa_sigma^2) used as max(|.|, .001)
    s(z, v) = -|z - v|  or  z.v
    P(click = k) = softmax([b_L, |alpha| s(z_t, v_a1), ..., |alpha| s(z_t, v_a(L-1))])
    ELBO = log p(clicks) U / (B tau_l) + (log p(theta) + log p(h_0)) / tau_p - log q(theta) - log q(h_0)

h_0 of a batch is not scaled by U / B. The amortised h_0 is a weighted mean of the vectors of the first
training clicks. `compat` keeps two traits of the published code that golden cases have: the first real item
does not count as a click, and the spread of h_0 sees clicks of evaluation steps.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.config import PaperConfig
from recsys.features import Steps
from recsys.models.user import GATES, NAMES, UnitStates, sites, states
from recsys.models.variational import Draw, MeanField, normal
from recsys.slates import FIRST, NOTHING, UNKNOWN

EMPTY, HIGHEST = -100.0, 20.0
"""Logit of a slot without an item, and the bounds of every logit."""
KEPT = 20
"""Clicks of a kept state. The start of a user model is a mean of the first clicks, which no step could mend,
so the clicks themselves are what is kept: the last ones, as a server remembers them."""


@dataclass(frozen=True)
class Terms:
    """The terms of the ELBO: scaled log densities by site, and their sum."""

    log_p: Draw
    log_q: Draw
    click: Tensor
    """Scaled log likelihood of the clicks."""

    @property
    def elbo(self) -> Tensor:
        return self.click + sum(self.log_p.values()) - sum(self.log_q.values())  # pyright: ignore[reportReturnType]


class SlateNetwork(nn.Module):
    """Steps (B, T, S) -> logits of the slots (B, T, S); latent sites under a mean-field posterior."""

    group: Tensor

    def __init__(self, config: PaperConfig, group: Tensor, slots: int) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        self.register_buffer("group", group.long() if config.groups else group.long() * 0)
        items, groups = len(group), int(self.group.max()) + 1
        shapes: dict[str, tuple[int, ...]] = {
            "groupvec": (groups, config.dims),
            "groupscale": (groups, config.dims),
            "itemvec": (items, config.dims),
            "bias_noclick": (slots + 1,),
        }
        if config.kind_bias:
            shapes["bias_kind"] = (3,)
        if config.slot_bias:
            shapes["bias_slot"] = (slots,)
        if config.prior_mult:
            shapes["softmax_mult"] = ()
        shapes |= sites(config.user, config.dims)
        self.posterior = MeanField(shapes, inside=("gamma",))
        self.unit = None if config.user in NAMES else UnitStates(config.user, config.dims, config.dims)
        self.log_spread = nn.Parameter(torch.tensor(0.2).log())  # of the amortised h_0
        self.lists: Any = None  # neighbour lists of the items, where a server has made them

    def prior(self, draw: Draw) -> Draw:
        """log p of a draw, a sum per site."""
        config = self.config
        scale = draw["groupscale"].abs().clamp_min(0.001)
        log_p = {
            "groupvec": normal(draw["groupvec"], 0.0, config.prior_group).sum(),
            "groupscale": normal(draw["groupscale"], 0.0, config.prior_spread).sum(),
            "itemvec": normal(draw["itemvec"], draw["groupvec"][self.group], scale[self.group]).sum(),
        }
        for name in ("bias_noclick", "bias_kind", "bias_slot"):
            if name in draw:
                log_p[name] = normal(draw[name], 0.0, config.prior_bias).sum()
        if "softmax_mult" in draw:
            log_p["softmax_mult"] = normal(draw["softmax_mult"], 1.0, config.prior_mult).sum()
        if "gamma" in draw:
            log_p["gamma"] = normal(draw["gamma"], 0.5, 0.3).sum()
        for name in GATES:
            if name in draw:
                log_p[name] = normal(draw[name], 0.0, config.prior_rnn).sum()
        return log_p

    def start(self, click: Tensor, learned: Tensor, itemvec: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and spread of h_0 (B, D) from clicks (B, T), of which `learned` (B, T) belong to training."""
        config = self.config
        v = F.embedding(click, self.posterior.mean["itemvec"] if itemvec is None else itemvec)
        clicked = click > FIRST if config.compat else click >= FIRST
        early = clicked & learned
        number = early.cumsum(1).to(v)
        weight = early / (number.clamp_min(0 if config.compat else 1) ** config.decay + 1e-5)
        weight = weight / (weight.sum(1, keepdim=True) + 1e-5)
        mean = (weight[..., None] * v).sum(1)
        even = (clicked if config.compat else early).to(v)
        even = even / (even.sum(1, keepdim=True) + (1e-5 if config.compat else 1e-9))
        centre = v.mean(1, keepdim=True) if config.compat else (even[..., None] * v).sum(1, keepdim=True)
        square = (even[..., None] * (v - centre).square()).sum(1)
        return mean, self.log_spread.exp() * (square + 1e-6).sqrt()

    def states(self, draw: Draw, click: Tensor, start: Tensor) -> Tensor:
        """z before each step and after the last, (B, T + 1, D), for clicks (B, T)."""
        v, clicked = F.embedding(click, draw["itemvec"]), click >= FIRST
        if self.unit is not None:
            return self.unit(v, clicked, start)
        return states(self.config.user, v, clicked, start, draw)

    def score(self, z: Tensor, v: Tensor) -> Tensor:
        """s(z, v) for z (..., D) and v (..., N, D) -> (..., N)."""
        product = (v @ z[..., None])[..., 0]
        if self.config.score == "dot":
            return product
        square = z.square().sum(-1, keepdim=True) - 2 * product + v.square().sum(-1)
        return -square.clamp_min(1e-10).sqrt()

    def logits(self, draw: Draw, z: Tensor, steps: Steps) -> Tensor:
        """Logits of the slots (B, T, S) for states z (B, T, D)."""
        scores = self.score(z, F.embedding(steps.slate, draw["itemvec"]))
        scores = draw["softmax_mult"].abs() * scores if "softmax_mult" in draw else scores
        if "bias_slot" in draw:
            scores = scores + draw["bias_slot"][: scores.shape[-1]]
        scores = scores.masked_fill(steps.slate <= UNKNOWN, EMPTY)
        nothing = draw["bias_noclick"][steps.lengths.clamp(0, self.slots)]
        if "bias_kind" in draw:
            nothing = nothing + draw["bias_kind"][steps.kind]
        nothing = torch.where(steps.slate[..., 0] == NOTHING, nothing, 0.0)
        return torch.cat([nothing[..., None], scores[..., 1:]], -1).clamp(EMPTY, HIGHEST)

    def against_all(self, steps: Steps, generator: torch.Generator | None = None) -> Steps:
        """The alternative likelihood: the slate becomes uniform items with the click in slot 1."""
        shape, items = steps.slate.shape, len(self.group)
        slate = torch.randint(FIRST, items, shape, generator=generator).to(steps.slate)
        slate[..., 0] = NOTHING
        clicked = steps.click >= FIRST
        slate[..., 1] = torch.where(clicked, steps.click, slate[..., 1])
        slate = slate * steps.used[..., None]
        return replace(
            steps,
            slate=slate,
            click_idx=clicked.long(),
            lengths=steps.used * shape[-1],
        )

    def step_log_likelihood(self, logits: Tensor, steps: Steps) -> Tensor:
        """log P(click) of each step (B, T)."""
        return logits.log_softmax(-1).gather(-1, steps.click_idx[..., None])[..., 0]

    def terms(
        self,
        draw: Draw,
        h0: Tensor,
        steps: Steps,
        click: Tensor,
        learned: Tensor,
        phase: Tensor,
        users: int,
    ) -> Terms:
        """Every term of the ELBO for one draw.

        Args:
            h0: (B, D) drawn start of each user.
            click: (B, T) clicked items, 0 padding, 2 unknown.
            learned: (B, T) steps of training, the ones that h_0 may see.
            phase: (B, T) steps that count in the likelihood.
            users: in the whole data; the likelihood is scaled by users / B.
        """
        config = self.config
        z = self.states(draw, click, h0)
        judged = steps
        if config.likelihood == "all":
            judged = self.against_all(steps)
        each = self.step_log_likelihood(self.logits(draw, z[:, :-1], judged), judged)
        total = (each * phase * steps.counted).sum()
        log_p = self.prior(draw)
        log_q = self.posterior.log_density(draw)
        if config.user != "markov":
            mean, scale = self.start(click, learned)
            log_p["h0"] = normal(h0, 0.0, config.prior_user).sum()
            log_q["h0"] = normal(h0, mean, scale).sum()
        tau = config.prior_temperature
        return Terms(
            {name: value / tau for name, value in log_p.items()},
            log_q,
            total * users / len(click) / config.likelihood_temperature,
        )

    def item_scores(self, draw: Draw, z: Tensor) -> Tensor:
        """Scores of all items (B, I) for states z (B, D)."""
        return self.score(z, draw["itemvec"])

    def judge(self, steps: Steps, start: int = 5) -> Tensor:
        """log P(click at slot) (B, T, S) by the means; h_0 sees the clicks before step `start` alone."""
        draw = self.posterior.means()
        early = torch.arange(steps.slate.shape[1], device=steps.slate.device) < start
        click = steps.click * steps.used
        h0, _ = self.start(click, early & steps.used, draw["itemvec"])
        z = self.states(draw, click, h0)
        logits = self.logits(draw, z[:, :-1], steps).masked_fill(~steps.filled(), EMPTY)
        return logits.log_softmax(-1)

    def draw(self, generator: torch.Generator, temperature: float = 1.0) -> tuple[Draw, Any]:
        """A draw of every site, and what h_0 is drawn with: (generator, temperature)."""
        return self.posterior.draw(generator, temperature), (generator, temperature)

    def rank(self, steps: Steps, draw: Any = None, user_only: bool = False) -> Tensor:
        """Scores of all items (B, I) after all steps, by the means or by a draw."""
        values, source = (self.posterior.means(), None) if draw is None else draw
        means = self.posterior.means()
        click = steps.click * steps.used
        mean, scale = self.start(click, steps.used, means["itemvec"])
        if source is not None and source[1] > 0:
            mean = mean + source[1] * scale * torch.randn(mean.shape, generator=source[0])
        values = means if user_only else values
        return self.item_scores(values, self.states(values, click, mean)[:, -1])

    def initial_state(self, batch: int) -> Tensor:
        """Clicks (B, KEPT) of users who have not begun."""
        return torch.zeros(batch, KEPT, dtype=torch.long)

    def advance(self, tables: Any, state: Tensor, step: Steps) -> Tensor:
        """State after one step (T = 1) that happened; `tables` is None."""
        click = step.click * step.used
        moved = torch.cat([state[:, 1:], click], 1)
        return torch.where(click >= FIRST, moved, state)

    def user(self, state: Tensor) -> Tensor:
        """z (B, D) of kept states, by the means."""
        means = self.posterior.means()
        start, _ = self.start(state, state >= FIRST, means["itemvec"])
        return self.states(means, state, start)[:, -1]

    def rank_state(self, state: Tensor, draw: Any = None) -> Tensor:
        """Scores of all items (B, I) for kept states: one of the means, so a draw moves the items alone."""
        return self.item_scores(self.posterior.means() if draw is None else draw[0], self.user(state))
