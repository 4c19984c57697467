"""Exact Thompson draws of distance scores that draw hardly any item.

An item's place is m_i + S_i e with e ~ N(0, I) of n numbers. Distances are 1-Lipschitz, so its score moves by
at most L_i |e|, L_i^2 = (spread_g max_d s_id)^2 + (quality's spread)^2. With tau, the k-th best of the items
that are drawn in full (the best by their means), item i can enter only if

    |e| > w_i = (tau - mean_i) / L_i,        |e|^2 ~ chi^2_n

With chance p_i = P(|e| > w_i) its length is drawn given that it exceeds w_i, its direction is even over the
sphere, and the score is worked out; otherwise nothing is drawn. The k best have exactly the law of a full
draw. Items with w_i > c are not looked at one by one: how many of them exceed c is binomial.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import chdtrc, chdtri
from torch import Tensor
from torch.nn import functional as F

from recsys.features import Steps
from recsys.models.interest import InterestNetwork, near
from recsys.slates import FIRST

FULL = 256
"""Items drawn in full, by their means; four for each that is wanted, if that is more."""
FAR = 6.5
"""c, in standard deviations of a single number, for up to nine numbers; grows with the root of more."""

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Items (n,) and their e (n, D) -> scores (n,)."""


@dataclass(frozen=True)
class Field:
    """Which items can win at all, worked out once for all draws of a request."""

    means: np.ndarray
    """(I,) scores at e = 0; -inf is never shown."""
    best: np.ndarray
    """Items that are drawn in full."""
    near: np.ndarray
    """Items that may come close, with the chance that they do."""
    chance: np.ndarray
    floor: float
    """Lowest mean of the best: where tau falls below it, everything is drawn."""
    far: int
    """Items beyond c."""

    @staticmethod
    def of(means: np.ndarray, reach: np.ndarray, dims: int, k: int) -> "Field":
        """For scores at e = 0 (I,), how far each moves at most for a unit of |e| (I,), and k wanted items."""
        count = int(np.isfinite(means).sum())
        first = min(count, max(FULL, 4 * k))
        best = np.sort(np.argpartition(-means, first - 1)[:first]) if first < len(means) else np.arange(first)
        floor = float(means[best].min())
        edge = far_edge(dims)
        gap = floor - means
        near_ = gap <= edge * reach
        near_[best] = False
        near_ = np.flatnonzero(near_ & np.isfinite(means))
        needed = np.maximum(gap[near_], 0.0) / np.maximum(reach[near_], 1e-12)
        return Field(means, best, near_, chdtrc(dims, needed**2), floor, count - first - len(near_))


def far_edge(dims: int) -> float:
    """c for so many numbers."""
    return FAR * max(1.0, (dims / 9) ** 0.5)


def thinned(
    field: Field, dims: int, k: int, random: np.random.Generator, score: Score
) -> tuple[np.ndarray, np.ndarray, int]:
    """The k best items of one draw, their scores, best first, and how many items were drawn."""
    first = len(field.best)
    k = min(k, first)
    items, values = [field.best], [score(field.best, random.standard_normal((first, dims)))]
    tau = np.partition(values[0], first - k)[first - k]
    if tau < field.floor:  # what was passed over might come in: nobody is
        others = np.setdiff1d(np.flatnonzero(np.isfinite(field.means)), field.best, assume_unique=True)
        items.append(others)
        values.append(score(others, random.standard_normal((len(others), dims))))
    else:
        chosen, length = exceeding(field, dims, random)
        direction = random.standard_normal((len(chosen), dims))
        direction *= (length / np.linalg.norm(direction, axis=1))[:, None]
        items.append(chosen)
        values.append(score(chosen, direction))
    found, figure = np.concatenate(items), np.concatenate(values)
    order = np.lexsort((found, -figure))[:k]
    return found[order], figure[order], len(found)


def exceeding(field: Field, dims: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Items that are long enough to come close, and how long they are."""
    luck = random.random(len(field.near))
    kept = luck < field.chance
    places, chances = [field.near[kept]], [luck[kept]]
    if field.far:
        beyond = float(chdtrc(dims, far_edge(dims) ** 2))
        count = int(random.binomial(field.far, beyond))
        if count:
            others = np.isfinite(field.means)
            others[field.best] = others[field.near] = False
            places.append(random.choice(np.flatnonzero(others), count, replace=False))
            chances.append(beyond * random.random(count))
    return np.concatenate(places), np.sqrt(chdtri(dims, np.maximum(np.concatenate(chances), 1e-300)))


@dataclass(frozen=True)
class ItemDraws:
    """One user's interests, from whom any item's score can be drawn."""

    network: InterestNetwork
    z: Tensor
    """(K, D)"""
    weight: Tensor
    """(K,)"""
    field: Field
    temperature: float

    @staticmethod
    def of(
        network: InterestNetwork,
        parts: tuple[Tensor, Tensor, Tensor],
        means: np.ndarray,
        k: int,
        temperature: float,
        known: np.ndarray | None = None,
    ) -> "ItemDraws":
        """For h, traces, groups of one user and the scores (I,) of the items' means.

        Args:
            known: items that are drawn elsewhere, and not here.
        """
        seen = network.look(network.later, parts[0], parts[1], None)
        vector, quality = network.items.scales()
        reach = temperature * (vector.amax(1).square() + quality.square()).sqrt().double().numpy()
        left = means
        if known is not None:
            left = means.copy()
            left[known] = -np.inf
        field = Field.of(left, reach, vector.shape[1] + 1, k)
        return ItemDraws(network, seen.z[0], seen.log_weight[0].exp(), field, temperature)

    @property
    def dims(self) -> int:
        """Numbers of an item: its vector and its quality."""
        return self.z.shape[1] + 1

    def score(self, means: np.ndarray, items: np.ndarray, e: np.ndarray) -> np.ndarray:
        """Scores (n,) of items (n,) at e (n, D), in standard deviations of their posterior."""
        table, rows = self.network.items, torch.from_numpy(items)
        step = table.log_scale[rows].exp() * torch.from_numpy(e).float()
        spread = table.log_spread.exp()[table.group[rows]][:, None]
        v = F.embedding(table.group[rows], table.centre) + spread * table.mean[rows, :-1]
        moved = near(self.z, v + spread * step[:, :-1], None) - near(self.z, v, None)  # (K, n)
        shift = self.weight @ moved + table.log_quality.exp() * step[:, -1]
        return means[items] + shift.double().numpy()

    def drawn(self, k: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """The k best items of one draw, their scores, and how many were drawn."""

        def score(items: np.ndarray, e: np.ndarray) -> np.ndarray:
            return self.score(self.field.means, items, self.temperature * e)

        return thinned(self.field, self.dims, k, random, score)


def draw_user(
    network: InterestNetwork, steps: Steps, temperature: float, random: np.random.Generator
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[np.ndarray, np.ndarray]]:
    """The state of one user under a draw of the items in their history, and what was drawn for those.

    The items that went into the state and the ones that are scored are then of the same draw.
    """
    table = network.items
    rows = steps.slate[steps.filled() & (steps.slate >= FIRST)].unique()
    e = temperature * random.standard_normal((len(rows), table.mean.shape[1]))
    moved = table.mean[rows] + table.log_scale[rows].exp() * torch.from_numpy(e).float()
    tables = table.placed(table.mean.index_put((rows,), moved))
    return network.last(steps, tables), (rows.numpy(), e)
