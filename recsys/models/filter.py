"""The user's state as a posterior: a particle filter learned through its own likelihood.

    g_0 ~ pi, z_0 ~ N(G_{g_0}, s_n^2 I)
    each step with probability p_j:  g ~ pi, z ~ N(G_g, s_n^2 I);  otherwise  z <- z + s_d xi
    a search shows the items of a group with P(g | z) = softmax_g(-a |z - G_g| + l_g)
    P(slot) = softmax([b_{kind,L}, -|z - v_i| + q_i + s_slot]);  after a click  z <- z + gamma (v - z)

Jumps are guided: at a search one is proposed oftener, to a group drawn from what the slate shows, and the
weights pay for it. Where the effective number of particles falls below .6 P they are drawn again by
systematic resampling with log w <- log w - stopgrad(log w) - log P, so that gradients flow through weights.
Particles are reparametrised; discrete choices carry gradient through the weights only.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.config import FilterConfig
from recsys.features import Steps
from recsys.models.interest import AWAY, at, near
from recsys.models.items import FAVOUR, ItemTable, Tables, favoured
from recsys.slates import FIRST, SEARCH

GUIDED, BLIND = 0.25, 0.08
"""Chance of proposing a jump at a search, and elsewhere."""
MIXED = 0.1
"""Share of a guided proposal that is the plain prior of groups."""
WORN = 0.6
"""Effective share of particles below which they are drawn again."""
LEAN, LEANING, USERS = 1.0, 30, 25
"""Power of what a user's place says of items within a group, particles that are asked, users at a time."""
AHEAD = 14
"""Steps that a recommendation is for."""

State = tuple[Tensor, Tensor, Tensor]
"""Particles z (B, P, D), log weights (B, P), steps so far (B,)."""
Random = Callable[[tuple[int, ...]], Tensor]


class FilterNetwork(nn.Module):
    """Steps (B, T, S) -> log probabilities of the slots (B, T, S), and scores of all items (B, I)."""

    clicked: Tensor
    offered: Tensor

    def __init__(self, config: FilterConfig, group: Tensor, slots: int) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        self.items = ItemTable(group, config.dims)
        groups = self.items.centre.shape[0]
        self.popular = nn.Parameter(torch.zeros(groups))
        self.liked = nn.Parameter(torch.zeros(groups))
        self.pull = nn.Parameter(torch.tensor(config.pull).logit())
        self.jump = nn.Parameter(torch.tensor(config.jump).logit())
        self.log_drift = nn.Parameter(torch.tensor(config.drift).log())
        self.log_spread = nn.Parameter(torch.tensor(config.spread).log())
        self.log_sharp = nn.Parameter(torch.tensor(config.sharpness).log())
        self.nothing = nn.Parameter(torch.full((3, slots + 1), -2.5))
        self.slot = nn.Parameter(-0.4 * torch.arange(1, slots).float().clamp_min(1).log())
        self.register_buffer("clicked", torch.zeros(len(group)))
        self.register_buffer("offered", torch.zeros(len(group)))
        self.favour = nn.Parameter(torch.tensor(FAVOUR), requires_grad=False)  # the network's
        # the groups of reserved ids are nowhere, unless real items are among them
        reserved = torch.ones(groups, dtype=torch.bool)
        reserved[group[FIRST:].unique()] = False
        self.register_buffer("reserved", reserved, persistent=False)

    def groups(self) -> tuple[Tensor, Tensor, Tensor]:
        """log pi (G,), and log proposals of a guided jump (G shown, G) with their own log M."""
        reserved = self.get_buffer("reserved")
        log_pi = self.popular.masked_fill(reserved, AWAY).log_softmax(0)
        centre, dims = self.items.centre, self.items.centre.shape[1]
        gap = (centre[:, None] - centre).square().sum(-1) + (2 * self.log_spread).exp() * dims
        liked = self.liked.masked_fill(reserved, AWAY)
        shows = (-self.log_sharp.exp() * gap.clamp_min(1e-6).sqrt() + liked).log_softmax(1)
        guided = (log_pi[:, None] + shows).log_softmax(0).T  # (shown, to)
        guided = torch.logaddexp(guided + math.log(1 - MIXED), log_pi + math.log(MIXED))
        return log_pi, guided, liked

    def shown_group(self, steps: Steps) -> Tensor:
        """(B, T) the group that most of a slate belongs to is that of its first item."""
        first = steps.slate[..., 1] if steps.slate.shape[-1] > 1 else steps.slate[..., 0]
        return self.items.group[first]

    def initial_state(self, batch: int, particles: int | None = None) -> State:
        """Users of whom nothing is known; their particles are drawn at their first step."""
        count = particles or self.config.judges
        z = self.items.centre.new_zeros(batch, count, self.config.dims)
        even = z.new_full((batch, count), -math.log(count))
        return z, even, torch.zeros(batch, dtype=torch.int64)

    def moved(self, state: State, step: Steps, random: "Dice") -> tuple[Tensor, Tensor]:
        """Particles and log weights before step (T = 1) is judged: jump or drift, and what the search says.

        The weights are not normalised: their sum is the evidence of the slate.
        """
        z, log_w, age = state
        log_pi, guided, liked = random.tables
        shown = self.shown_group(step)[:, 0]
        search = ((step.kind[:, 0] == SEARCH) & (step.lengths[:, 0] > 1))[:, None]
        fresh = (age == 0)[:, None]
        proposal = torch.where(search, guided[shown], log_pi)  # (B, G)
        rate = torch.where(search, GUIDED, BLIND).to(z)
        leaves = (random.uniform(log_w.shape) < rate) | fresh
        chances = proposal.detach().exp()
        target = random.choose(chances, log_w.shape[1])  # (B, P)
        arrive = F.embedding(target, self.items.centre)
        noise = random.normal(tuple(z.shape))
        jumped = arrive + self.log_spread.exp() * noise
        drifted = z + self.log_drift.exp() * noise
        z = torch.where(leaves[..., None], jumped, drifted)
        log_jump = F.logsigmoid(self.jump)
        cost = log_pi[target] - proposal.gather(1, target)
        went = torch.where(fresh, cost, log_jump + cost - rate.log())
        stayed = F.logsigmoid(-self.jump) - (1 - rate).log()
        log_w = log_w + torch.where(leaves, went, stayed)
        chance = (self.log_sharp.exp() * near(z, self.items.centre, None) + liked).log_softmax(-1)
        told = chance.gather(-1, shown[:, None, None].expand(-1, z.shape[1], 1))[..., 0]
        return z, log_w + told * search

    def slot_log_probs(self, tables: Tables, z: Tensor, step: Steps) -> Tensor:
        """log P(slot | z) (B, P, S) of step (T = 1) for particles z (B, P, D)."""
        slate = step.slate[:, 0]
        scores = near(z, F.embedding(slate, tables.v), at(tables.variance, slate))
        scores = scores + at(tables.q, slate)[:, None]
        width = slate.shape[-1]
        slot = self.slot[: width - 1]
        if width - 1 > len(slot):
            slot = torch.cat([slot, slot[-1:].expand(width - 1 - len(slot))])
        length = step.lengths[:, 0].clamp(0, self.slots)
        nothing = self.nothing[step.kind[:, 0], length]
        logits = torch.cat([nothing[:, None, None].expand(*scores.shape[:-1], 1), scores[..., 1:] + slot], -1)
        return logits.masked_fill(~step.filled()[:, 0][:, None], AWAY).log_softmax(-1)

    def absorb(
        self, tables: Tables, z: Tensor, log_w: Tensor, log_slot: Tensor, step: Steps, random: "Dice"
    ) -> tuple[Tensor, Tensor]:
        """Particles and normalised log weights after the click of step (T = 1)."""
        slot, click = step.click_idx[:, 0], step.click[:, 0]
        taken = log_slot.gather(-1, slot[:, None, None].expand(-1, z.shape[1], 1))[..., 0]
        counted = step.counted[:, 0][:, None]
        log_w = (log_w + taken * counted).log_softmax(1)
        v = F.embedding(click, tables.v)[:, None]
        clicked = ((click >= FIRST) & step.used[:, 0])[:, None, None]
        z = torch.where(clicked, z + self.pull.sigmoid() * (v - z), z)
        return self.resampled(z, log_w, random)

    def resampled(self, z: Tensor, log_w: Tensor, random: "Dice") -> tuple[Tensor, Tensor]:
        """Systematic resampling of the rows that need it."""
        count = z.shape[1]
        weight = log_w.detach().exp()
        worn = 1 / weight.square().sum(1) < WORN * count
        place = (torch.arange(count) + random.uniform((len(z), 1))) / count
        chosen = torch.searchsorted(weight.cumsum(1), place.contiguous()).clamp_max(count - 1)
        chosen = torch.where(worn[:, None], chosen, torch.arange(count))
        z = z.gather(1, chosen[..., None].expand_as(z))
        picked = log_w.gather(1, chosen)
        even = picked - picked.detach() - math.log(count)
        return z, torch.where(worn[:, None], even, picked)

    def step(self, tables: Tables, state: State, step: Steps, random: "Dice") -> tuple[State, Tensor, Tensor]:
        """State after step (T = 1), log P(slot) (B, S) before it, evidence of its slate (B,)."""
        z, log_w = self.moved(state, step, random)
        evidence = log_w.logsumexp(1)
        log_w = log_w - evidence[:, None]
        log_slot = self.slot_log_probs(tables, z, step)
        judged = (log_w[..., None] + log_slot).logsumexp(1)
        z, log_w = self.absorb(tables, z, log_w, log_slot, step, random)
        used = step.used[:, 0]
        z = torch.where(used[:, None, None], z, state[0])
        log_w = torch.where(used[:, None], log_w, state[1])
        return (z, log_w, state[2] + used), judged, evidence * used

    def run(
        self, tables: Tables, steps: Steps, particles: int, random: "Dice"
    ) -> tuple[State, Tensor, Tensor]:
        """All steps: the state after them, log P(slot) (B, T, S), evidence of the slates (B, T)."""
        random.tables = self.groups()
        state = self.initial_state(len(steps.slate), particles)
        judged, evidence = [], []
        for t in range(steps.slate.shape[1]):
            state, slots, told = self.step(tables, state, one_step(steps, t), random)
            judged.append(slots)
            evidence.append(told)
        return state, torch.stack(judged, 1), torch.stack(evidence, 1)

    def forward(self, steps: Steps, seed: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Training: slots (B, T, S), evidence (B, T), divergence of the posterior from its prior."""
        tables = self.items.tables(noise)
        _, slots, evidence = self.run(tables, steps, self.config.particles, Dice(int(seed)))
        return slots, evidence, self.items.divergence()

    def judge(self, steps: Steps) -> Tensor:
        """log P(click at slot) (B, T, S), each step from the ones before, with the second moment."""
        tables = self.items.tables(moment=True)
        return self.run(tables, steps, self.config.judges, Dice(0))[1]

    def draw(self, generator: torch.Generator, temperature: float = 1.0) -> tuple[Tensor | None, Any]:
        """A draw of the items, and the generator that picks the particle."""
        noise = None if temperature == 0 else temperature * self.items.noise(generator)
        return noise, (generator, temperature)

    def rank(self, steps: Steps, draw: Any = None, user_only: bool = False) -> Tensor:
        """Scores of all items (B, I): the chance that their group is shown times the choice within it."""
        noise, source = (None, None) if draw is None else draw
        z, log_w, random = self.placed(steps)
        if source is not None and source[1] > 0:  # a state drawn from its posterior
            z, log_w = picked(z, log_w, source[0])
        return self.item_scores(
            z, log_w, random, None if user_only or noise is None else self.items.tables(noise)
        )

    def placed(self, steps: Steps) -> tuple[Tensor, Tensor, "Dice"]:
        """Particles z (B, P, D) after all steps, their log weights (B, P), and the dice."""
        random = Dice(0)
        (z, log_w, age), _, _ = self.run(self.items.tables(), steps, self.config.judges, random)
        return self.begun(z, age, random), log_w, random

    def placed_state(self, state: State) -> tuple[Tensor, Tensor, "Dice"]:
        """The same of states that `advance` made."""
        z, log_w, age = state
        random = Dice(int(age.sum()) + 7919)
        random.tables = self.groups()
        return self.begun(z, age, random), log_w, random

    def begun(self, z: Tensor, age: Tensor, random: "Dice") -> Tensor:
        """Particles z (B, P, D), those of users of whom nothing is known from the prior over groups."""
        if not bool((age == 0).any()):
            return z
        where = random.choose(random.tables[0].exp().expand(len(z), -1), z.shape[1])
        prior = F.embedding(where, self.items.centre)
        prior = prior + self.log_spread.exp() * random.normal(tuple(z.shape))
        return torch.where((age == 0)[:, None, None], prior, z)

    def rank_state(self, state: State, draw: Any = None) -> Tensor:
        """Scores of all items (B, I) for states that `advance` made, by the means or by a draw."""
        z, log_w, random = self.placed_state(state)
        noise, source = (None, None) if draw is None else draw
        if source is not None and source[1] > 0:
            z, log_w = picked(z, log_w, source[0])
        return self.item_scores(z, log_w, random, None if noise is None else self.items.tables(noise))

    def item_scores(self, z: Tensor, log_w: Tensor, random: "Dice", drawn: Tables | None = None) -> Tensor:
        """log score of all items (B, I) for particles z (B, P, D): the group to come, within it the clicks.

        A particle jumps away with the time: of the next steps, the mean share behind a jump is the groups'
        own. Within a group the counts lean towards where the user is. A draw moves an item by what it moves
        its score.
        """
        of_group, leaning = self.look(z, log_w, random)
        group = self.items.group
        within = favoured(self.favour, self.clicked, self.offered) + LEAN * leaning
        within = within.masked_fill(torch.arange(len(group)) < FIRST, AWAY)
        if drawn is not None:
            means = self.items.tables()
            moved = near(z, drawn.v, None) - near(z, means.v, None)  # (B, P, I)
            within = within + (log_w.exp()[..., None] * moved).sum(1) + drawn.q - means.q
        total = torch.zeros_like(of_group).index_add(-1, group, within.exp())
        return of_group[:, group] + within - total.clamp_min(1e-30).log()[..., group]

    def look(self, z: Tensor, log_w: Tensor, random: "Dice") -> tuple[Tensor, Tensor]:
        """log P(group of a later click) (B, G), and what `leaning` says of the items (B, I)."""
        log_pi, _, liked = random.tables
        shows = (self.log_sharp.exp() * near(z, self.items.centre, None) + liked).softmax(-1)
        of_group = (log_w.exp()[..., None] * shows).sum(1)  # (B, G)
        stays = torch.sigmoid(-self.jump) ** torch.arange(1, AHEAD + 1)
        away = 1 - stays.mean()
        of_group = (1 - away) * of_group + away * log_pi.exp()
        return of_group.clamp_min(1e-30).log(), self.leaning(z, log_w, shows)

    def leaning(self, z: Tensor, log_w: Tensor, shows: Tensor) -> Tensor:
        """log E[P(item | group, z) | the group is shown] (B, I) by distance alone, with the second moment.

        Args:
            shows: (B, P, G) chance of each group for each particle.
        """
        tables, group = self.items.tables(moment=True), self.items.group
        few = min(LEANING, z.shape[1])
        place = ((torch.arange(few) + 0.5) / few).expand(len(z), few)
        chosen = torch.searchsorted(log_w.exp().cumsum(1), place.contiguous()).clamp_max(z.shape[1] - 1)
        z = z.gather(1, chosen[..., None].expand(-1, -1, z.shape[2]))
        shows = shows.gather(1, chosen[..., None].expand(-1, -1, shows.shape[2])).clamp_min(1e-30)
        found = []
        for places, chance in zip(z.split(USERS), shows.split(USERS), strict=True):
            near_by = near(places, tables.v, tables.variance).exp()  # (b, few, I)
            near_by = near_by * (torch.arange(len(group)) >= FIRST)
            total = torch.zeros_like(chance).index_add(-1, group, near_by).clamp_min(1e-30)
            share = ((chance / total)[..., group] * near_by).sum(1) / chance.sum(1)[:, group]
            found.append(share.clamp_min(1e-30).log())
        return torch.cat(found)

    def advance(self, tables: Tables, state: State, step: Steps) -> State:
        """State after one step (T = 1) that happened; draws are functions of how many came before."""
        random = Dice(int(state[2].sum()) + 1)
        random.tables = self.groups()
        return self.step(tables, state, step, random)[0]


class Dice:
    """What a filter draws from; `tables` are the groups of this pass."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.tables: tuple[Tensor, ...] = (torch.zeros(0),) * 3

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self.generator)

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def choose(self, chances: Tensor, count: int) -> Tensor:
        """(B, count) categories of chances (B, G), stratified over the particles."""
        place = (torch.arange(count) + self.uniform((len(chances), count))) / count
        place = place.gather(1, self.uniform((len(chances), count)).argsort(1))
        found = torch.searchsorted(chances.cumsum(1).contiguous(), place.contiguous())
        return found.clamp_max(chances.shape[1] - 1)


def one_step(steps: Steps, t: int) -> Steps:
    """Step t alone, T = 1."""
    return Steps(
        steps.slate[:, t : t + 1],
        steps.click_idx[:, t : t + 1],
        steps.lengths[:, t : t + 1],
        steps.kind[:, t : t + 1],
        steps.counted[:, t : t + 1],
    )


def picked(z: Tensor, log_w: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One particle of each user by its weight: (B, 1, D) and zeros (B, 1)."""
    chosen = torch.multinomial(log_w.exp(), 1, generator=generator)
    return z.gather(1, chosen[..., None].expand(-1, -1, z.shape[2])), torch.zeros(len(z), 1)
