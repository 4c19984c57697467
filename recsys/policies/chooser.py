"""One user's scores, drawn as a policy asks for them.

A kept state is one of the items' means, so its scores are a number of the group and one of the item, and a
`Shelf` answers without a look at most items; for the paper's products and distances neighbour lists do, where
a server has made them. A history is read anew under each draw.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from core.errors import DataError
from core.training.batches import mix
from recsys.features import Steps
from recsys.models.interest import InterestNetwork
from recsys.models.slate import SlateNetwork
from recsys.policies import slates as policy_slates
from recsys.retrieval.draws import ItemDraws, draw_user
from recsys.retrieval.shelf import Ready, Shelf
from recsys.slates import FIRST
from recsys.trained import Trained

READ: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "ts": policy_slates.read_ranks,
    "frozen": policy_slates.read_ranks,
    "inslate": policy_slates.read_ranks,
    "inslate_strict": policy_slates.read_strictly,
}
"""How a slate is read from the best items of each draw."""
MOST_HIDDEN = 2000
"""Filters that hide more items than these look at every item."""


class Chooser:
    """One user's scores, drawn as a policy asks for them."""

    def __init__(
        self,
        model: Trained,
        steps: Steps | None,
        allowed: np.ndarray,
        k: int,
        policy: str,
        temperature: float,
        cap: int | None,
        state: Any = None,
        explains: bool = False,
        ready: Ready | None = None,
    ) -> None:
        self.explains = explains
        self.model, self.steps, self.allowed, self.state = model, steps, allowed, state
        self.k, self.policy, self.temperature, self.cap = k, policy, temperature, cap
        self.means: np.ndarray | None = None
        self.hidden = np.flatnonzero(~allowed[FIRST:]) + FIRST
        network = model.network
        self.shelf = None
        self.near: np.ndarray | None = None
        if (
            state is None
            or cap is not None
            or not (policy == "greedy" or (policy in READ and temperature > 0))
        ):
            return
        if isinstance(network, InterestNetwork):
            # groups of low rank would move all their items
            if not network.items.rank and len(self.hidden) <= MOST_HIDDEN:
                self.shelf = Shelf.of(network)
                self.ready = Ready.of(network, state)[0] if ready is None else ready
        elif isinstance(network, SlateNetwork) and network.lists is not None:
            with torch.inference_mode():
                self.z = network.user(state)[0].numpy()
            near = network.lists.candidates(self.z)
            near = near[allowed[FIRST:][near]]
            self.near = near if len(near) >= k else None  # few are left: look at every item

    def listed(self, items: Sequence[int]) -> list[float]:
        """Scores of these items by the means."""
        chosen = np.array(items, np.int64)
        if self.near is not None:
            lists = self.model.network.lists
            return lists.scores(self.z, lists.means[chosen - FIRST]).tolist()
        if self.shelf is None:
            return self.scores(None)[chosen].tolist()
        within = self.model.network.within_group().numpy()[chosen].astype(np.float64)
        return (self.ready.of_group[self.model.catalogue.group[chosen]] + within).tolist()

    def scores(self, draw: Any, user_only: bool = False) -> np.ndarray:
        """(I,) by means or a draw; what may not be shown is -inf."""
        if draw is None and self.means is not None:
            return self.means
        network = self.model.network
        if self.state is not None:  # a kept state is one of the means; draws move the items alone
            values = network.rank_state(self.state, None if user_only else draw)[0].double().numpy()
        else:
            values = network.rank(self.steps, draw, user_only)[0].double().numpy()
        values = np.where(self.allowed, values, -np.inf)
        if draw is None:
            self.means = values
        return values

    def slate(self, seed: int) -> tuple[list[int], list[float | None] | None, np.ndarray | None]:
        """Items, exact chances where the policy has them, and the drawn scores (draws, I) if any."""
        policy, k = self.policy, self.k
        numbers = np.random.default_rng(seed)
        if self.shelf is not None:
            return self.from_shelf(self.shelf, numbers)
        if self.near is not None:
            return self.from_lists(self.near, numbers)
        wide = k if self.cap is None else int(min(self.allowed.sum(), k * 40 + 200))
        chances, drawn = None, None
        if policy in ("greedy", "popularity"):
            values = self.scores(None) if policy == "greedy" else self.popularity()
            order, chances = policy_slates.top(values, wide), np.ones((1, wide))
        elif policy == "random":
            order, chances = policy_slates.uniform(self.scores(None)[None], wide, numbers)
        elif policy == "eps":
            order, chances = policy_slates.epsilon_greedy(
                self.scores(None)[None], wide, self.temperature, numbers
            )
        elif policy == "plackett_luce":
            order, chances = policy_slates.plackett_luce(
                self.scores(None)[None], wide, self.temperature, numbers
            )
        else:
            drawn = self.drawn(seed)
            way: Callable[..., np.ndarray] = {
                "inslate_strict": policy_slates.in_slate_strict,
            }.get(policy, policy_slates.in_slate)
            if policy in ("ts", "frozen"):
                order = policy_slates.top(drawn[0], wide)
            else:
                need = max(wide, len(drawn))
                spread = drawn if wide == k else np.concatenate([drawn] * -(-need // len(drawn)))
                order = way(spread[:, None], min(wide, int(self.allowed.sum())))
            if self.temperature == 0:
                chances = np.ones(order.shape)
        items = order[0].tolist()
        if self.cap is not None:
            items = self.capped(items)
            chances = None  # the cap makes a slot depend on the groups before it
        return items, None if chances is None else chances[0].tolist(), drawn

    def from_shelf(
        self, shelf: Shelf, random: np.random.Generator
    ) -> tuple[list[int], list[float | None] | None, np.ndarray | None]:
        """The same without a look at most items, for a kept state, which is one of the means."""
        k = self.k
        if self.policy == "greedy":
            best = shelf.order[shelf.best(self.ready.of_group, k, self.hidden)]
            return best.tolist(), self.certain, None
        items, values = shelf.draws(self.ready, k, self.draws, self.temperature, random, self.hidden)
        return self.read(items, values)

    def from_lists(
        self, near: np.ndarray, random: np.random.Generator
    ) -> tuple[list[int], list[float | None] | None, np.ndarray | None]:
        """The same from the items that neighbour lists hold."""
        lists = self.model.network.lists
        if self.policy == "greedy":
            return (FIRST + lists.best(self.z, near, self.k)).tolist(), self.certain, None
        values = lists.drawn(self.z, near, random, self.temperature, self.draws)
        order = np.argsort(-values, 1, kind="stable")[:, : self.k]
        return self.read(FIRST + near[order], np.take_along_axis(values, order, 1))

    @property
    def certain(self) -> list[float | None]:
        """Chances of a slate that nothing else could have been."""
        return [1.0] * self.k

    @property
    def draws(self) -> int:
        """How many draws a slate is read from."""
        return 1 if self.policy in ("ts", "frozen") else self.k

    def read(self, items: np.ndarray, values: np.ndarray) -> tuple[list[int], None, np.ndarray | None]:
        """The slate from the k best items of each draw and their scores, (draws, k) each."""
        slate = items[0] if self.draws == 1 else READ[self.policy](items[:, None], self.k)[0]
        rows = np.full((self.draws, len(self.allowed)), -np.inf) if self.explains else None
        if rows is not None:
            np.put_along_axis(rows, items, values, 1)
        return slate.tolist(), None, rows

    def drawn(self, seed: int) -> np.ndarray:
        """Drawn scores (draws, I): one draw for `ts` and `frozen`, one per slot in the slate."""
        count = self.draws
        alone = self.policy == "inslate_h0"
        rows = []
        network = self.model.network
        thin = isinstance(network, InterestNetwork) and not network.items.rank  # groups move all their items
        if thin and not alone and self.temperature:
            return self.thinned(network, [mix(seed, number) for number in range(count)])
        for number in range(count):
            generator = torch.Generator().manual_seed(mix(seed, number))
            draw = self.model.network.draw(generator, self.temperature)
            rows.append(self.scores(draw, alone))
        return np.stack(rows)

    def thinned(self, network: InterestNetwork, seeds: Sequence[int]) -> np.ndarray:
        """Drawn scores (draws, I) of which only those that matter were drawn; the law is the full draw's."""
        wide = self.k if self.cap is None else self.k * 40 + 200
        rows = np.full((len(seeds), len(self.allowed)), -np.inf)
        source = None
        if self.state is not None:  # a kept state is one of the means; draws move the items alone
            parts = network.parts(self.state)
            source = ItemDraws.of(network, parts, self.scores(None), wide, self.temperature)
        for row, seed in zip(rows, seeds, strict=True):
            random = np.random.default_rng(seed)
            if source is None or self.state is None:
                assert self.steps is not None
                parts, (known, e) = draw_user(network, self.steps, self.temperature, random)
                scores = network.item_log_probs(parts)[0].double().numpy()
                means = np.where(self.allowed, scores, -np.inf)
                source = ItemDraws.of(network, parts, means, wide, self.temperature, known)
                row[known] = source.score(means, known, e)
            items, values, _ = source.drawn(wide, random)
            row[items] = values
        return rows

    def popularity(self) -> np.ndarray:
        """(I,) clicks."""
        return np.where(self.allowed, self.model.counts.clicked.double().numpy(), -np.inf)

    def capped(self, items: list[int]) -> list[int]:
        """The first k with at most `cap` of a group.

        Raises:
            DataError: there are not as many.
        """
        kept: list[int] = []
        count: dict[int, int] = {}
        for item in items:
            group = int(self.model.catalogue.group[item])
            if count.get(group, 0) < (self.cap or 0):
                kept.append(item)
                count[group] = count.get(group, 0) + 1
            if len(kept) == self.k:
                return kept
        raise DataError(
            f"with at most {self.cap} items of a group only {len(kept)} of {self.k} can be shown."
        )

    def estimate(self, items: list[int], seed: int, key: int, repeats: int) -> list[float | None]:
        """P(item at its slot) from repeated draws; never seen is unknown, not 0."""
        hits = np.zeros(self.k)
        for number in range(1, repeats + 1):
            again, _, _ = self.slate(mix(seed, key, number))
            hits += np.array(again) == np.array(items)
        return [float(hit / repeats) if hit else None for hit in hits]
