"""The functions that people, commands, pages and servers call: load a model, recommend, update, judge.

model = load_model()
answer = recommend(model, [1318, 379, 1189], k=10, policy="inslate", seed=0)
answer.items
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, DataError, WeightsError
from core.training.batches import mix
from recsys.baselines import popular
from recsys.features import Steps
from recsys.history import History, parse_history, steps_from
from recsys.models.interest import InterestNetwork
from recsys.models.slate import SlateNetwork
from recsys.policies import slates as policy_slates
from recsys.retrieval.draws import ItemDraws, draw_user
from recsys.slates import FIRST, Catalogue
from recsys.trained import LINEAR, Trained

LARGEST_LIST = 100 << 20
"""Bytes of a list of item ids."""
POLICIES = (
    "greedy",
    "ts",
    "inslate",
    "inslate_strict",
    "inslate_h0",
    "frozen",
    "eps",
    "random",
    "popularity",
    "plackett_luce",
)
TEMPERATURES = {
    "ts": 0.3,
    "inslate": 0.3,
    "inslate_strict": 0.3,
    "inslate_h0": 0.3,
    "frozen": 0.3,
    "eps": 0.1,
}
"""Where the spread (or epsilon) begins; 1 doubles the regret while items are unknown."""
EXACT = ("greedy", "popularity", "random", "eps", "plackett_luce")
"""Policies whose propensities are known without drawing."""


@dataclass(frozen=True)
class Filter:
    """Which items may be shown."""

    candidates: frozenset[int] | None = None
    """Only these, or None: all."""
    deny: frozenset[int] = frozenset()
    seen: str = "keep"
    """"keep" or "drop" what the user has clicked."""
    cap: int | None = None
    """Most items of one group in a slate."""


@dataclass(frozen=True)
class Slate:
    """An answer: what to show, best first, and everything that is needed to make it again."""

    user: str
    items: list[str | int]
    scores: list[float]
    groups: list[int]
    propensities: list[float | None]
    """P(item at its slot), given the slots before it for exact ones; None is unknown."""
    draws: int
    """How many repeated draws the propensities were estimated from; 0: exact, or not asked for."""
    policy: str
    temperature: float
    seed: int
    period: int
    served_by: str = "model"
    unknown: int = 0
    """Ids of the history that the model does not know."""
    why: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "why" or self.why}


def recommend(
    model: Trained,
    history: Any,
    k: int = 10,
    policy: str = "greedy",
    seed: int = 0,
    *,
    user: str = "",
    period: int = 0,
    temperature: float | None = None,
    keep: Filter | None = None,
    repeats: int = 0,
    explain: bool = False,
    state: Any = None,
) -> Slate:
    """A slate of k items for a user known by a history alone.

    Args:
        history: item ids, or slates with clicks, oldest first (see `recsys.history.parse_history`).
        seed, user, period: draws are functions of these three; a reload shows the same slate.
        temperature: factor of the posterior's spread, epsilon of `eps`, temperature of `plackett_luce`.
        repeats: estimate the propensities of drawing policies from so many repeated draws.
        explain: also mean, spread, group and draw of every item.
        state: a recurrent state of this user to rank from, in place of the history.

    Raises:
        ConfigError: no such policy.
        DataError: a history that cannot be read, or fewer items than k after the filters.
    """
    if policy not in POLICIES:
        raise ConfigError(f"no policy {policy!r}; there are {', '.join(POLICIES)}.")
    temperature = TEMPERATURES.get(policy, 1.0) if temperature is None else temperature
    if temperature < 0 or not np.isfinite(temperature):
        raise ConfigError(f"temperature is a number of at least 0, got {temperature}.")
    if policy == "eps" and temperature > 1:
        raise ConfigError(f"epsilon is a chance between 0 and 1, got {temperature}.")
    if k < 1:
        raise ConfigError(f"a slate has at least one item, got k = {k}.")
    found = history if isinstance(history, History) else parse_history(list(history), model.catalogue, user)
    user = user or found.user
    allowed = allowed_items(model, found, keep or Filter())
    if int(allowed.sum()) < k:
        raise DataError(f"{k} items are asked for, {int(allowed.sum())} may be shown after the filters.")
    steps = steps_from([found])
    chooser = Chooser(model, steps, allowed, k, policy, temperature, keep.cap if keep else None, state)
    key = 0 if policy == "frozen" else mix(stable(user), period)
    with torch.inference_mode():
        items, chances, used = chooser.slate(mix(seed, key))
        draws = 0
        if chances is None and repeats > 0:
            chances = chooser.estimate(items, seed, key, repeats)
            draws = repeats
        means = chooser.scores(None)
        why = explained(model, chooser, items, means, used) if explain else []
    listed = [float(means[item]) for item in items]
    return Slate(
        user=user,
        items=[model.catalogue.name(item) for item in items],
        scores=listed,
        groups=[int(model.catalogue.group[item]) for item in items],
        propensities=[None] * k if chances is None else chances,
        draws=draws,
        policy=policy,
        temperature=temperature,
        seed=seed,
        period=period,
        unknown=found.unknown,
        why=why,
    )


class Chooser:
    """One user's scores, drawn as a policy asks for them."""

    def __init__(
        self,
        model: Trained,
        steps: Steps,
        allowed: np.ndarray,
        k: int,
        policy: str,
        temperature: float,
        cap: int | None,
        state: Any = None,
    ) -> None:
        self.model, self.steps, self.allowed, self.state = model, steps, allowed, state
        self.k, self.policy, self.temperature, self.cap = k, policy, temperature, cap
        self.means: np.ndarray | None = None

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

    def drawn(self, seed: int) -> np.ndarray:
        """Drawn scores (draws, I): one draw for `ts` and `frozen`, one per slot in the slate."""
        count = 1 if self.policy in ("ts", "frozen") else self.k
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


def allowed_items(model: Trained, history: History, keep: Filter) -> np.ndarray:
    """(I,) bool: what the filters leave."""
    allowed = np.ones(len(model.catalogue), bool)
    allowed[:FIRST] = False
    if keep.candidates is not None:
        only = np.zeros_like(allowed)
        only[[item for item in keep.candidates if item < len(only)]] = True
        allowed &= only
    allowed[[item for item in keep.deny if item < len(allowed)]] = False
    if keep.seen not in ("keep", "drop"):
        raise ConfigError(f"seen is keep or drop, got {keep.seen!r}.")
    if keep.seen == "drop":
        allowed[history.clicked] = False
    return allowed


def explained(
    model: Trained, chooser: Chooser, items: Sequence[int], means: np.ndarray, drawn: np.ndarray | None
) -> list[dict[str, Any]]:
    """Mean, spread, group and draw of every item of a slate."""
    repeats = [
        chooser.scores(model.network.draw(torch.Generator().manual_seed(number), 1.0)) for number in range(8)
    ]
    chosen = np.array(items, np.int64)
    spread = dict(zip(items, np.std(np.stack(repeats)[:, chosen], 0), strict=True))
    return [
        {
            "item": model.catalogue.name(item),
            "group": int(model.catalogue.group[item]),
            "mean": float(means[item]),
            "spread": float(spread[item]),
            "draw": None if drawn is None else float(drawn[min(slot, len(drawn) - 1), item]),
            "clicks": int(model.counts.clicked[item]),
            "shown": int(model.counts.shown[item]),
        }
        for slot, item in enumerate(items)
    ]


def popular_slate(model: Trained, k: int) -> list[str | int]:
    """The k most clicked items, for users and stores of which nothing is known."""
    return [model.catalogue.name(int(item)) for item in popular(model.counts, k)]


def similar(model: Trained, item: Any, k: int = 10, keep: Filter | None = None) -> list[dict[str, Any]]:
    """The nearest items by posterior means.

    Raises:
        DataError: the model does not know the item.
    """
    number = int(model.catalogue.numbers([item])[0])
    if number < FIRST:
        raise DataError(f"item {item!r} is not in the catalogue of these weights.")
    v = item_vectors(model.network)
    distance = (v - v[number]).norm(dim=1).numpy()
    allowed = allowed_items(model, History(()), keep or Filter())
    allowed[number] = False
    order = policy_slates.top(np.where(allowed, -distance, -np.inf), min(k, int(allowed.sum())))[0]
    return [
        {
            "item": model.catalogue.name(int(near)),
            "distance": float(distance[near]),
            "group": int(model.catalogue.group[near]),
        }
        for near in order
    ]


def item_vectors(network: Any) -> Tensor:
    """Posterior means of the items (I, D)."""
    with torch.inference_mode():
        if isinstance(network, SlateNetwork):
            return network.posterior.mean["itemvec"]
        return network.items.tables().v


def stable(text: str) -> int:
    """A 63-bit number of a text, the same in every process."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def read_ids(path: str | Path, catalogue: Catalogue) -> frozenset[int]:
    """Items of a file with one external id a line; ids that the catalogue does not have are left out."""
    from core.files import read_bytes

    words = read_bytes(path, LARGEST_LIST).decode("utf-8", "replace").split()
    return frozenset(int(number) for number in catalogue.numbers(words) if number >= FIRST)


def linear_beside(model: Trained) -> Trained | None:
    """The bundled linear model where it knows the same catalogue, to stand among the baselines."""
    try:
        linear = Trained.load(LINEAR)
    except WeightsError:
        return None
    same = len(linear.catalogue) == len(model.catalogue)
    return linear if same and (linear.catalogue.group == model.catalogue.group).all() else None
