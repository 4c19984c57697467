"""The functions that people, commands, pages and servers call: load a model, recommend, update, judge.

model = load_model()
answer = recommend(model, [1318, 379, 1189], k=10, policy="inslate", seed=0)
answer.items
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, DataError, WeightsError
from core.training.batches import mix
from recsys.baselines import popular
from recsys.history import History, parse_history, steps_from
from recsys.models.slate import SlateNetwork
from recsys.policies import slates as policy_slates
from recsys.policies.chooser import Chooser
from recsys.retrieval.shelf import Ready
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
    ready: Ready | None = None,
) -> Slate:
    """A slate of k items for a user known by a history alone.

    Args:
        history: item ids, or slates with clicks, oldest first (see `recsys.history.parse_history`).
        seed, user, period: draws are functions of these three; a reload shows the same slate.
        temperature: factor of the posterior's spread, epsilon of `eps`, temperature of `plackett_luce`.
        repeats: estimate the propensities of drawing policies from so many repeated draws.
        explain: also mean, spread, group and draw of every item.
        state: a recurrent state of this user to rank from, in place of the history.
        ready: what `Ready.of` made of that state, where a server did so for many users at once.

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
    if np.count_nonzero(allowed) < k:
        raise DataError(
            f"{k} items are asked for, {np.count_nonzero(allowed)} may be shown after the filters."
        )
    steps = steps_from([found]) if state is None else None
    cap = keep.cap if keep else None
    chooser = Chooser(model, steps, allowed, k, policy, temperature, cap, state, explain, ready)
    key = 0 if policy == "frozen" else mix(stable(user), period)
    with torch.inference_mode():
        items, chances, used = chooser.slate(mix(seed, key))
        draws = 0
        if chances is None and repeats > 0:
            chances = chooser.estimate(items, seed, key, repeats)
            draws = repeats
        listed = chooser.listed(items)
        why = explained(model, chooser, items, chooser.scores(None), used) if explain else []
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
