"""A user as a recurrent state, linear traces and a few interests; slates as softmaxes around them.

    f_t   = [h_t, traces_t]                                   h: any unit of core over the steps so far
    trace = n / (c + .05),  n <- (1 - k) n + k x,  c <- (1 - k) c + k,  k = w_t sigmoid(rho)
    z_k   = free_k(f) + sum_j a_kj(f) trace_j + trace_fastest / 2
    P(slot) = sum_k w_k softmax([b_{kind,L} + c(f), -|z_k - v_a| + q_a + s_slot])

and for what will be clicked later on, group first, item within its group:

    P(g) ~ (sum_k w_k softmax_g(-|z_k - G_g|))^a R(g)^b exp(r_g)
    R    = (1 - m) N K / sum N + m pi,   N <- (1 - rho) N + groups of the click, of the search
    P(i | g) ~ (clicks_i + s)^c (offers_i + t)^d

and for what the log's own recommender puts on a slate, from which the items learn most about themselves:

    P(i offered) = (1 - e) sum_k w_k softmax_i(-a |z_k - v_i| + b q_i) + e / I

x is the vector of the click, or the mean of the slate: where a search was, the user is, click or not. In the
likelihood of a step the net also sees the slate that is about to be judged (`context`); the recommending head
never does, since that slate does not exist yet. R is a trace of groups: a person returns to several
places, one interest is one place. The head learns no value of an item, with those it knew the training users
by heart; a posterior draw moves an item by what it moves its score.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import registry
from core.kernels.linear_scan import linear_scan
from recsys.config import InterestConfig
from recsys.features import Steps
from recsys.models.items import FAVOUR, ItemTable, Tables, favoured
from recsys.slates import FIRST, RECOMMENDATION

SPEEDS = (0.8, 0.5, 0.18, 0.05, 0.35, 0.65)
"""Where the learned speeds of the traces begin."""
FLOOR = 1e-4
"""Of a squared distance before its root, whose gradient is infinite at 0."""
State = tuple[Any, Tensor, Tensor, Tensor]
"""Of the unit, its output, sums of the traces, traces of groups."""
AWAY = -1e9
"""Logit of an empty slot: distances reach 8 here, so -100 is not far enough."""


@dataclass(frozen=True)
class Interests:
    """Where a user may be looking: vectors (..., K, D), log weights (..., K), no-click offset (...)."""

    z: Tensor
    log_weight: Tensor
    nothing: Tensor


class InterestNetwork(nn.Module):
    """Steps (B, T, S) -> log probabilities of the slots (B, T, S), and scores of all items (B, I)."""

    clicked: Tensor
    offered: Tensor
    reserved: Tensor

    def __init__(self, config: InterestConfig, group: Tensor, slots: int) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        self.kept: tuple[Any, Tensor] | None = None
        self.shelf: tuple[Any, Any] | None = None  # of these weights, see recsys/retrieval/shelf.py
        self.items = ItemTable(group if config.groups else group * 0, config.dims, rank=config.rank)
        self.register_buffer("clicked", torch.zeros(len(group)))
        self.register_buffer("offered", torch.zeros(len(group)))
        reserved = torch.ones(self.items.centre.shape[0], dtype=torch.bool)
        reserved[self.items.group[FIRST:].unique()] = False
        self.register_buffer("reserved", reserved, persistent=False)
        dims, sources = config.dims, 2 * config.traces
        self.event_size = 3 * dims + 6
        self.unit = registry.build(config.unit, self.event_size, config.hidden)
        self.start = nn.Parameter(torch.zeros(int(self.unit.output_size)))
        self.speed = nn.Parameter(torch.tensor(SPEEDS[: config.traces]).logit())
        state = int(self.unit.output_size) + sources * (dims + 1)
        self.drop = nn.Dropout(config.dropout)
        context = 2 * dims + 4 if config.context else 0
        self.choose = head(state + context, config.width, config.interests * (dims + sources + 2) + 1)
        self.later = head(state, config.width, config.interests * (dims + sources + 1) + 1)
        self.nothing = nn.Parameter(torch.full((3, slots + 1), -2.5))
        self.slot = nn.Parameter(-0.4 * torch.arange(1, slots).float().clamp_min(1).log())
        groups = self.items.centre.shape[0]
        self.worth = nn.Parameter(torch.tensor([0.5, 0.5]))  # a, b
        self.favour = nn.Parameter(torch.tensor(FAVOUR))
        self.offer = head(state, config.width, config.interests * (dims + sources + 1) + 1)
        self.offers = nn.Parameter(torch.tensor([0.0, 0.0, -1.5]))  # a (log), b (log), e (logit)
        self.wanted = nn.Parameter(torch.zeros(groups))
        self.fade = nn.Parameter(torch.tensor([0.4, 0.4]).logit())  # of the trace of groups
        self.amount = nn.Parameter(torch.zeros(2))  # of a click, of a search (log)
        self.near = nn.Parameter(torch.tensor(0.5))  # sharpness of K (log)
        self.elsewhere = nn.Parameter(torch.tensor(0.15).logit())  # m
        self.popular = nn.Parameter(torch.zeros(groups))  # pi

    def events(self, tables: Tables, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """What happened at each step: (B, T, event_size), and the two sources of the traces.

        Gives the events, [clicked vector, slate mean] (B, T, 2, D), and their weights (B, T, 2).
        """
        mean, spread = about(tables, steps)
        clicked = (steps.click >= FIRST) & steps.used
        click = F.embedding(steps.click, tables.v) * clicked[..., None]
        used = (steps.lengths > 1).to(mean)
        parts = [click, mean, spread, clicked[..., None].to(mean), facts(steps, mean), used[..., None]]
        sources = torch.stack([click, mean], 2)
        return torch.cat(parts, -1), sources, torch.stack([clicked.to(mean), used], -1)

    def group_events(self, steps: Steps) -> tuple[Tensor, Tensor]:
        """Groups of the click and of the search (B, T, 2, G), and how much of the past stays (B, T, 2, 1)."""
        group, count = self.items.group, len(self.wanted)
        clicked = (steps.click >= FIRST) & steps.used
        click = F.one_hot(group[steps.click], count) * clicked[..., None]
        shown = steps.filled() & (steps.slate >= FIRST) & (steps.kind != RECOMMENDATION)[..., None]
        of = torch.where(shown, group[steps.slate], count)
        search = F.one_hot(of, count + 1).sum(2)[..., :count].float()
        search = search / search.sum(-1, keepdim=True).clamp_min(1)
        stays = 1 - self.fade.sigmoid() * steps.used[..., None]
        return torch.stack([click.float(), search], 2), stays[..., None]

    def encode(self, tables: Tables, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
        """State before each step and after the last.

        h (B, T + 1, H), traces (B, T + 1, 2 R, D + 1), traces of groups (B, T + 1, 2, G).
        """
        events, sources, weights = self.events(tables, steps)
        h, _ = self.unit(events)
        h = torch.cat([self.start.expand(len(h), 1, -1), h], 1)
        k = weights[:, :, :, None] * self.speed.sigmoid()  # (B, T, 2, R)
        filled = torch.cat([sources, torch.ones_like(sources[..., :1])], -1)  # (B, T, 2, D + 1)
        x = k[..., None] * filled[:, :, :, None]  # (B, T, 2, R, D + 1)
        decay = (1 - k)[..., None].expand(x.shape)
        n = linear_scan(decay.flatten(2), x.flatten(2))
        n = F.pad(n, (0, 0, 1, 0)).unflatten(2, (2 * len(self.speed), -1))  # (B, T + 1, 2 R, D + 1)
        seen, stays = self.group_events(steps)
        groups = linear_scan(stays.expand(seen.shape).flatten(2), seen.flatten(2))
        groups = F.pad(groups, (0, 0, 1, 0)).unflatten(2, (2, -1))  # (B, T + 1, 2, G)
        return h, traces_of(n), groups

    def look(self, net: nn.Module, h: Tensor, traces: Tensor, context: Tensor | None) -> Interests:
        """Interests of states h (..., H), traces (..., 2 R, D + 1), under a context (..., C) or none."""
        config = self.config
        state = [self.drop(h), traces.flatten(-2)]
        if context is not None:
            state.append(context)
        out = net(torch.cat(state, -1))
        many, extra = config.interests, net is self.choose
        size = config.dims + traces.shape[-2] + 1 + extra
        parts = out[..., :-1].unflatten(-1, (many, size))
        free, weight, rest = parts.split([config.dims, 1, size - config.dims - 1], -1)
        places = traces[..., :-1]
        if extra:  # the mean of the slate is one more place to be
            mean = (
                torch.zeros_like(places[..., :1, :]) if context is None else context[..., None, : config.dims]
            )
            places = torch.cat([places, mean], -2)
        z = free + rest @ places + 0.5 * traces[..., None, 0, :-1]
        return Interests(z, weight[..., 0].log_softmax(-1), out[..., -1])

    def context(self, tables: Tables, steps: Steps) -> Tensor | None:
        """What the slate about to be judged tells: mean, spread, kind, length; None when switched off."""
        if not self.config.context:
            return None
        mean, spread = about(tables, steps)
        return torch.cat([mean, spread, facts(steps, mean)], -1)

    def slot_log_probs(self, tables: Tables, h: Tensor, traces: Tensor, steps: Steps) -> Tensor:
        """log P(click at slot) (B, T, S) for the states before each step; empty slots are far below 0."""
        seen = self.look(self.choose, h, traces, self.context(tables, steps))
        scores = near(seen.z, F.embedding(steps.slate, tables.v), at(tables.variance, steps.slate))
        scores = scores + at(tables.q, steps.slate)[..., None, :]  # (B, T, K, S)
        width = steps.slate.shape[-1]
        slot = self.slot[: width - 1]
        if width - 1 > len(slot):
            slot = torch.cat([slot, slot[-1:].expand(width - 1 - len(slot))])
        length = steps.lengths.clamp(0, self.slots)
        nothing = self.nothing[steps.kind, length] + seen.nothing
        logits = torch.cat(
            [nothing[..., None, None].expand(*scores.shape[:-1], 1), scores[..., 1:] + slot], -1
        )
        logits = logits.masked_fill(~steps.filled()[..., None, :], AWAY)
        return (seen.log_weight[..., None] + logits.log_softmax(-1)).logsumexp(-2)

    def group_log_probs(self, h: Tensor, traces: Tensor, groups: Tensor) -> tuple[Tensor, Interests]:
        """log P(group of a later click) (B, G) for states of users, and their interests."""
        seen = self.look(self.later, h, traces, None)
        centre, weight = self.items.centre, groups * self.amount.exp()[:, None]
        places = near(seen.z, centre, None).masked_fill(self.reserved, AWAY).log_softmax(-1)
        places = (seen.log_weight[..., None] + places).logsumexp(-2)
        gap = (-near(centre, centre, None)).masked_fill(self.reserved, -AWAY)
        kernel = (-self.near.exp() * gap).softmax(1)
        total = weight.sum(-2)  # (B, G)
        back = (total @ kernel + 1e-3 / len(centre)) / (total.sum(-1, keepdim=True) + 1e-3)
        elsewhere = self.elsewhere.sigmoid()
        pi = self.popular.masked_fill(self.reserved, AWAY).softmax(0)
        back = ((1 - elsewhere) * back + elsewhere * pi).clamp_min(1e-9).log()
        logits = self.worth[0] * places + self.worth[1] * back + self.wanted
        return logits.masked_fill(self.reserved, AWAY).log_softmax(-1), seen

    def offer_log_probs(self, tables: Tables, h: Tensor, traces: Tensor) -> Tensor:
        """log P(item is put on a recommendation slate) (..., I) for states h (..., H)."""
        seen = self.look(self.offer, h, traces, None)
        sharp, keen, even = self.offers.unbind()
        scores = sharp.exp() * near(seen.z, tables.v, None) + keen.exp() * tables.q
        number = torch.arange(len(tables.q), device=h.device)
        scores = scores.masked_fill(number < FIRST, AWAY).log_softmax(-1)
        scores = (seen.log_weight[..., None] + scores).logsumexp(-2)
        anything = F.logsigmoid(even) - math.log(max(len(number) - FIRST, 1))
        return torch.logaddexp(F.logsigmoid(-even) + scores, anything).masked_fill(number < FIRST, AWAY)

    def item_log_probs(
        self,
        state: tuple[Tensor, Tensor, Tensor],
        own: tuple[Tensor, Tensor] | None = None,
        drawn: Tables | None = None,
    ) -> Tensor:
        """log p(item clicked later) (B, I) for states h, traces, groups; reserved ids are far below 0.

        Args:
            own: (B, I) clicks and offers of each user that the counts hold, taken out again where clicks are
                to be told.
            drawn: a posterior draw of the items; each is moved by what its score moves.
        """
        of_group, seen = self.group_log_probs(*state)
        group = self.items.group
        if own is None and drawn is None and not self.training:
            return of_group[..., group] + self.within_group()
        clicks, offers = (0, 0) if own is None else own
        within = favoured(self.favour, self.clicked - clicks, self.offered - offers)  # (I,) or (B, I)
        within = within.masked_fill(torch.arange(len(group), device=group.device) < FIRST, AWAY)
        if drawn is not None:
            means = self.items.tables()
            moved = near(seen.z, drawn.v, None) - near(seen.z, means.v, None)
            moved = (seen.log_weight.exp()[..., None] * moved).sum(-2)
            within = within + moved + drawn.q - means.q
        total = within.new_zeros(*within.shape[:-1], len(self.wanted)).index_add(-1, group, within.exp())
        return of_group[..., group] + within - total.clamp_min(1e-30).log()[..., group]

    def within_group(self) -> Tensor:
        """log p(item | its group) (I,) by the counts; worked out again only when they have changed."""
        if torch.compiler.is_compiling() and self.kept is not None:  # in a graph it is a constant
            return self.kept[1]
        key = (self.clicked.data_ptr(), self.clicked._version, self.offered._version, self.favour._version)
        if self.kept is None or self.kept[0] != key:
            group = self.items.group
            within = favoured(self.favour, self.clicked, self.offered)
            within = within.masked_fill(torch.arange(len(group), device=group.device) < FIRST, AWAY)
            total = torch.zeros(len(self.wanted), device=group.device).index_add(0, group, within.exp())
            self.kept = (key, within - total.clamp_min(1e-30).log()[group])
        return self.kept[1]

    def judge(self, steps: Steps) -> Tensor:
        """log P(click at slot) (B, T, S), each step from the ones before, with the second moment."""
        tables = self.items.tables(moment=True)
        h, traces, _ = self.encode(tables, steps)
        return self.slot_log_probs(tables, h[:, :-1], traces[:, :-1], steps)

    def draw(self, generator: torch.Generator, temperature: float = 1.0) -> Tensor | None:
        """What makes one draw of everything unknown; None is the means."""
        return None if temperature == 0 else temperature * self.items.noise(generator)

    def rank(self, steps: Steps, draw: Tensor | None = None, user_only: bool = False) -> Tensor:
        """Scores of all items (B, I) after all steps, by the means or by a draw.

        Args:
            user_only: the draw moves the user's state alone; items are scored by their means.
        """
        tables = self.items.tables(draw)
        state = self.last(steps, tables)
        return self.item_log_probs(state, None, None if user_only or draw is None else tables)

    def last(self, steps: Steps, tables: Tables | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """h, traces and groups after all steps, by the items' means unless other tables are given."""
        rows, last = torch.arange(len(steps.slate), device=steps.slate.device), steps.ends
        h, traces, groups = self.encode(self.items.tables() if tables is None else tables, steps)
        return h[rows, last], traces[rows, last], groups[rows, last]

    def rank_state(self, state: State, draw: Tensor | None = None) -> Tensor:
        """Scores of all items (B, I) for states that `advance` made, by the means or by a draw."""
        return self.item_log_probs(self.parts(state), None, None if draw is None else self.items.tables(draw))

    def forward(
        self, steps: Steps, at_step: Tensor, offered: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training: slots' log probabilities (B, T, S), items' (B, M, I) to be clicked as seen from M steps
        (B, M), items' (B, N, I) to be offered at N steps (B, N), and the divergence of the posterior.
        """
        tables = self.items.tables(noise)
        h, traces, groups = self.encode(tables, steps)
        slots = self.slot_log_probs(tables, h[:, :-1], traces[:, :-1], steps)
        rows = torch.arange(len(h), device=h.device)[:, None]
        none = h.new_zeros(len(h), len(self.clicked))
        clicked = ((steps.click >= FIRST) & steps.used).to(h)
        shown = (steps.offered & steps.counted[..., None]).to(h).flatten(1)
        own = none.scatter_add(1, steps.click, clicked), none.scatter_add(1, steps.slate.flatten(1), shown)
        state = (h[rows, at_step], traces[rows, at_step], groups[rows, at_step])
        later = self.item_log_probs(state, (own[0][:, None], own[1][:, None]))
        offers = self.offer_log_probs(tables, h[rows, offered], traces[rows, offered])
        return slots, later, offers, self.items.divergence()

    # One step at a time: the state is (unit state, sums of the traces), of fixed size per user.

    def initial_state(self, batch: int) -> State:
        """State of users of whom nothing is known."""
        like = self.start.new_zeros(batch, self.event_size)
        n = like.new_zeros(batch, 2 * len(self.speed) * (self.config.dims + 1))
        groups = like.new_zeros(batch, 2, len(self.wanted))
        return self.unit.initial_state(like), self.start.expand(batch, -1), n, groups

    def advance(self, tables: Tables, state: State, step: Steps) -> State:
        """State after one step (T = 1) that happened."""
        inner, _, n, groups = state
        events, sources, weights = self.events(tables, step)
        h, inner = self.unit.step(events[:, 0], inner)
        k = (weights[:, 0, :, None] * self.speed.sigmoid())[..., None]  # (B, 2, R, 1)
        filled = torch.cat([sources, torch.ones_like(sources[..., :1])], -1)[:, 0]  # (B, 2, D + 1)
        n = n.unflatten(1, (2, len(self.speed), -1))
        n = (1 - k) * n + k * filled[:, :, None]
        seen, stays = self.group_events(step)
        return inner, h, n.flatten(1), stays[:, 0] * groups + seen[:, 0]

    def parts(self, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """h (B, H), traces (B, 2 R, D + 1) and traces of groups (B, 2, G) of a state."""
        _, h, n, groups = state
        return h, traces_of(n.unflatten(1, (2 * len(self.speed), -1))), groups


def head(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """A two-layer net whose output begins near 0."""
    last = nn.Linear(width, outputs)
    with torch.no_grad():
        last.weight.mul_(0.3)
        last.bias.zero_()
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), last)


def traces_of(n: Tensor) -> Tensor:
    """Sums (..., D + 1) with their weights last -> means (..., D) and weights."""
    return torch.cat([n[..., :-1] / (n[..., -1:] + 0.05), n[..., -1:]], -1)


def about(tables: Tables, steps: Steps) -> tuple[Tensor, Tensor]:
    """Mean and spread (B, T, D) of the vectors on a slate; zeros for an empty one."""
    shown = steps.filled() & (steps.slate >= FIRST)
    weight = shown.to(tables.v) / shown.sum(-1, keepdim=True).clamp_min(1)
    v = F.embedding(steps.slate, tables.v)
    mean = (weight[..., None, :] @ v)[..., 0, :]
    square = (weight[..., None, :] @ v.square())[..., 0, :]
    return mean, ((square - mean.square()).clamp_min(0) + FLOOR).sqrt()


def facts(steps: Steps, like: Tensor) -> Tensor:
    """Kind as one-hot and ln L / 3, (B, T, 4)."""
    length = steps.lengths.clamp_min(1).to(like).log() / 3
    return torch.cat([F.one_hot(steps.kind, 3).to(like), length[..., None]], -1)


def near(z: Tensor, v: Tensor, variance: Tensor | None) -> Tensor:
    """-|z - v| for z (..., K, D) and v (..., N, D) -> (..., K, N), with the second moment where given."""
    square = z.square().sum(-1, keepdim=True) + v.square().sum(-1)[..., None, :] - 2 * z @ v.mT
    if variance is not None:
        square = square + variance[..., None, :]
    return -square.clamp_min(FLOOR).sqrt()


def at(values: Tensor | None, items: Tensor) -> Any:
    """Values (I,) of items (...)."""
    return None if values is None else F.embedding(items, values[:, None])[..., 0]
