"""The interest network and the filter that started from it, asked together.

    P(slot)       = (P_network + P_filter) / 2
    P(group)      ~ P_network^a P_filter^(1 - a)
    P(i | group)  ~ (clicks and offers of i) P_filter(i | group, where the user is)^b

The network knows a point for a user and all that a GRU finds in clicks and slates; the filter knows how sure
it is, and that users jump. They err apart: the mean is likelier than either, and the twenty best hold more.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from recsys.config import PairConfig
from recsys.features import Steps
from recsys.models.filter import Dice, FilterNetwork
from recsys.models.interest import AWAY, InterestNetwork
from recsys.models.items import ItemTable, favoured
from recsys.slates import FIRST

State = tuple[Any, Any]


class PairNetwork(nn.Module):
    """Steps (B, T, S) -> log probabilities of the slots (B, T, S), and scores of all items (B, I)."""

    def __init__(self, config: PairConfig, group: Tensor, slots: int) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        self.network = InterestNetwork(config.network, group, slots)
        self.filter = FilterNetwork(config.filter, group, slots)

    @property
    def items(self) -> ItemTable:
        """The network's table, which stands for both where vectors or groups are asked for."""
        return self.network.items

    def tables(self) -> tuple[Any, Any]:
        """Items of both by the means, for `advance`."""
        return self.network.items.tables(), self.filter.items.tables()

    def initial_state(self, batch: int) -> State:
        """Users of whom nothing is known."""
        return self.network.initial_state(batch), self.filter.initial_state(batch)

    def advance(self, tables: tuple[Any, Any], state: State, step: Steps) -> State:
        """State after one step (T = 1) that happened."""
        pairs = zip((self.network, self.filter), tables, state, strict=True)
        one, two = (part.advance(table, own, step) for part, table, own in pairs)
        return one, two

    def judge(self, steps: Steps) -> Tensor:
        """log P(click at slot) (B, T, S), each step from the ones before."""
        return torch.logaddexp(self.network.judge(steps), self.filter.judge(steps)) - math.log(2)

    def draw(self, generator: torch.Generator, temperature: float = 1.0) -> Tensor | None:
        """A draw of the network: what it moves its scores by, it moves these by."""
        return self.network.draw(generator, temperature)

    def rank(self, steps: Steps, draw: Tensor | None = None, user_only: bool = False) -> Tensor:
        """Scores of all items (B, I) after all steps, by the means or by a draw."""
        groups, _ = self.network.group_log_probs(*self.network.last(steps))
        scores = self.scores(groups, *self.filter.placed(steps))
        if draw is None:
            return scores
        return scores + self.network.rank(steps, draw, user_only) - self.network.rank(steps)

    def rank_state(self, state: State, draw: Tensor | None = None) -> Tensor:
        """Scores of all items (B, I) for states that `advance` made."""
        groups, _ = self.network.group_log_probs(*self.network.parts(state[0]))
        scores = self.scores(groups, *self.filter.placed_state(state[1]))
        if draw is None:
            return scores
        return scores + self.network.rank_state(state[0], draw) - self.network.rank_state(state[0])

    def scores(self, groups: Tensor, z: Tensor, log_w: Tensor, random: Dice) -> Tensor:
        """log score (B, I) from the network's groups (B, G) and the filter's particles."""
        config, own = self.config, self.network
        others, leaning = self.filter.look(z, log_w, random)
        of_group = (config.trust * groups + (1 - config.trust) * others).log_softmax(-1)
        group = own.items.group
        within = favoured(own.favour, own.clicked, own.offered) + config.lean * leaning
        within = within.masked_fill(torch.arange(len(group)) < FIRST, AWAY)
        total = torch.zeros_like(of_group).index_add(-1, group, within.exp())
        return of_group[:, group] + within - total.clamp_min(1e-30).log()[:, group]
