"""A user as a recurrent state, linear traces and a few interests; slates as softmaxes around them.

    f_t   = [h_t, traces_t]                                   h: any unit of core over the steps so far
    trace = n / (c + .05),  n <- (1 - k) n + k x,  c <- (1 - k) c + k,  k = w_t sigmoid(rho)
    z_k   = free_k(f) + sum_j a_kj(f) trace_j + trace_fastest / 2
    P(slot) = sum_k w_k softmax([b_{kind,L} + c(f), -|z_k - v_a| + q_a + s_slot])
    p(item) = sum_k w_k softmax_i(-a |z_k - v_i| + b q_i + c ln((clicks_i + s) / (clicks_g + s)) + r_g)

x is the vector of the click, or the mean of the slate: where a search was, the user is, click or not. In the
likelihood of a step the net also sees the slate that is about to be judged (`context`); the recommending head
never does, since that slate does not exist yet. What it gives is what will be clicked later on. It learns how
much places, qualities and counts are worth and which groups repeat their items, but no value of an item: with
those it knew the training users by heart.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import registry
from core.kernels.linear_scan import linear_scan
from recsys.config import InterestConfig
from recsys.data import FIRST
from recsys.features import Steps
from recsys.models.items import ItemTable, Tables

SPEEDS = (0.8, 0.5, 0.18, 0.05, 0.35, 0.65)
"""Where the learned speeds of the traces begin."""
FLOOR = 1e-4
"""Of a squared distance before its root, whose gradient is infinite at 0."""
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

    def __init__(self, config: InterestConfig, group: Tensor, slots: int) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        self.items = ItemTable(group if config.groups else group * 0, config.dims)
        self.register_buffer("clicked", torch.zeros(len(group)))
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
        self.worth = nn.Parameter(torch.tensor([0.0, 0.5, 0.7, 1.0]))  # a (log), b, c, s (log)
        self.wanted_group = nn.Parameter(torch.zeros(self.items.centre.shape[0]))

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

    def encode(self, tables: Tables, steps: Steps) -> tuple[Tensor, Tensor]:
        """State before each step and after the last: h (B, T + 1, H), traces (B, T + 1, 2 R, D + 1)."""
        events, sources, weights = self.events(tables, steps)
        h, _ = self.unit(events)
        h = torch.cat([self.start.expand(len(h), 1, -1), h], 1)
        k = weights[:, :, :, None] * self.speed.sigmoid()  # (B, T, 2, R)
        filled = torch.cat([sources, torch.ones_like(sources[..., :1])], -1)  # (B, T, 2, D + 1)
        x = k[..., None] * filled[:, :, :, None]  # (B, T, 2, R, D + 1)
        decay = (1 - k)[..., None].expand(x.shape)
        n = linear_scan(decay.flatten(2), x.flatten(2))
        n = F.pad(n, (0, 0, 1, 0)).unflatten(2, (2 * len(self.speed), -1))  # (B, T + 1, 2 R, D + 1)
        return h, traces_of(n)

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

    def item_log_probs(self, tables: Tables, h: Tensor, traces: Tensor, own: Tensor | None = None) -> Tensor:
        """log p(item clicked later) (B, I) for states h (B, H); the reserved ids are far below 0.

        Args:
            own: (B, I) clicks of each user that the counts hold, taken out again where they are to be told.
        """
        seen = self.look(self.later, h, traces, None)
        group = self.items.group
        size = torch.bincount(group, minlength=len(self.wanted_group)).clamp_min(1)
        mean = torch.zeros(len(size)).index_add(0, group, self.clicked) / size
        smooth = self.worth[3].exp()
        left = self.clicked if own is None else self.clicked - own
        popular = (left + smooth).log() - (mean + smooth).log()[group]
        bias = self.worth[1] * tables.q + self.worth[2] * popular + self.wanted_group[group]
        bias = bias.masked_fill(torch.arange(len(group), device=bias.device) < FIRST, AWAY)
        logits = self.worth[0].exp() * near(seen.z, tables.v, tables.variance)
        logits = logits + (bias if own is None else bias[:, None])  # (B, K, I)
        return (seen.log_weight[..., None] + logits.log_softmax(-1)).logsumexp(-2)

    def judge(self, steps: Steps) -> Tensor:
        """log P(click at slot) (B, T, S), each step from the ones before, with the second moment."""
        tables = self.items.tables(moment=True)
        h, traces = self.encode(tables, steps)
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
        h, traces = self.encode(tables, steps)
        tables = self.items.tables() if user_only else tables
        rows, last = torch.arange(len(h), device=h.device), steps.ends
        return self.item_log_probs(tables, h[rows, last], traces[rows, last])

    def forward(self, steps: Steps, at_step: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Training: slots' log probabilities (B, T, S), items' (B, I) seen from a step (B,) each, and the
        divergence of the posterior from its prior.
        """
        tables = self.items.tables(noise)
        h, traces = self.encode(tables, steps)
        slots = self.slot_log_probs(tables, h[:, :-1], traces[:, :-1], steps)
        rows = torch.arange(len(h), device=h.device)
        means = self.items.tables()
        means = Tables(means.v.detach(), means.q.detach())
        clicked = ((steps.click >= FIRST) & steps.used).to(h)
        own = h.new_zeros(len(h), len(means.q)).scatter_add(1, steps.click, clicked)
        items = self.item_log_probs(means, h[rows, at_step], traces[rows, at_step], own)
        return slots, items, self.items.divergence()

    # One step at a time: the state is (unit state, sums of the traces), of fixed size per user.

    def initial_state(self, batch: int) -> tuple[Any, Tensor, Tensor]:
        """State of users of whom nothing is known."""
        like = self.start.new_zeros(batch, self.event_size)
        n = like.new_zeros(batch, 2 * len(self.speed) * (self.config.dims + 1))
        return self.unit.initial_state(like), self.start.expand(batch, -1), n

    def advance(self, tables: Tables, state: tuple[Any, Tensor, Tensor], step: Steps) -> Any:
        """State after one step (T = 1) that happened."""
        inner, _, n = state
        events, sources, weights = self.events(tables, step)
        h, inner = self.unit.step(events[:, 0], inner)
        k = (weights[:, 0, :, None] * self.speed.sigmoid())[..., None]  # (B, 2, R, 1)
        filled = torch.cat([sources, torch.ones_like(sources[..., :1])], -1)[:, 0]  # (B, 2, D + 1)
        n = n.view(len(n), 2, len(self.speed), -1)
        n = (1 - k) * n + k * filled[:, :, None]
        return inner, h, n.flatten(1)

    def parts(self, state: tuple[Any, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """h (B, H) and traces (B, 2 R, D + 1) of a state."""
        _, h, n = state
        return h, traces_of(n.unflatten(1, (2 * len(self.speed), -1)))


def head(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """A two-layer net whose output begins near 0."""
    net = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, outputs))
    with torch.no_grad():
        net[2].weight.mul_(0.3)
        net[2].bias.zero_()
    return net


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
