"""The items of an interest network in the order in which a request wants them: it reads a few blocks.

A score by the means is one number of the item's group and one of the item, log P(group) + log P(item | its
group), and the second is the same for everybody. So items lie group by group, the best first, in blocks: the
first of a block bounds all of it. With tau, the k-th best of the items that are drawn in full (`draws.py`),
another item i can enter a Thompson draw with chance

    p_i = P(|e| > w_i),  w_i = (tau - mean_i) / L_i        and no item of block b with more than
    p_b = P(|e| > w_b),  w_b = (tau - best mean of b) / (largest L of b)

How many of a block come forward under p_b is binomial, and each of them stays with chance p_i / p_b: the law
of a full draw, without a look at the others. All draws of a slate share the blocks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import chdtrc, chdtri
from torch import Tensor
from torch.nn import functional as F

from recsys.models.interest import InterestNetwork, near
from recsys.slates import FIRST

BLOCK = 64
FULL = 96
"""Items that are drawn in full, by their means; four for each that is wanted, if that is more."""


@dataclass(frozen=True)
class Shelf:
    """Items of one snapshot; `order` (N,) are their numbers, group by group, best first within each."""

    order: np.ndarray
    group: np.ndarray
    """(N,) of the items in this order."""
    within: np.ndarray
    """(N,) log P(item | group)."""
    reach: np.ndarray
    """(N,) L: how far a score moves at most for a unit of |e|."""
    starts: np.ndarray
    """(B,) first item of every block, N behind the last."""
    furthest: np.ndarray
    """(B,) largest L of a block."""

    @staticmethod
    def of(network: InterestNetwork) -> "Shelf":
        """The shelf of a network; made once for its weights."""
        table = network.items
        key = (network.clicked.data_ptr(), network.clicked._version, table.log_scale._version,
               network.worth._version)  # fmt: skip
        if network.shelf is None or network.shelf[0] != key:
            with torch.inference_mode():
                vector, quality = table.scales()
                reach = (vector.amax(1).square() + quality.square()).sqrt().double().numpy()[FIRST:]
                within = network.within_group().double().numpy()[FIRST:]
            group = table.group.numpy()[FIRST:]
            order = np.lexsort((np.arange(len(group)), -within, group))
            starts = blocks(group[order])
            made = Shelf(
                FIRST + order,
                group[order],
                within[order],
                reach[order],
                np.append(starts, len(order)),
                np.maximum.reduceat(reach[order], starts),
            )
            network.shelf = (key, made)
        return network.shelf[1]

    def means(self, of_group: np.ndarray) -> np.ndarray:
        """(B,) best score of every block, for log P(group) (G,)."""
        first = self.starts[:-1]
        return of_group[self.group[first]] + self.within[first]

    def best(self, of_group: np.ndarray, count: int, hidden: np.ndarray) -> np.ndarray:
        """Places of the `count` best items, best first, ties by number, without the numbers `hidden`."""
        top, need, edge = self.means(of_group), count + len(hidden), -np.inf
        if need < len(top):
            edge = -np.partition(-top, need - 1)[need - 1]  # the firsts of so many blocks are no worse
        chosen = np.flatnonzero(top >= edge)
        places = spans(self.starts[chosen], self.starts[chosen + 1])
        score = of_group[self.group[places]] + self.within[places]
        places, score = places[score >= edge], score[score >= edge]
        if len(hidden):
            score = np.where(np.isin(self.order[places], hidden), -np.inf, score)
        order = np.lexsort((self.order[places], -score))[:count]
        return places[order][np.isfinite(score[order])]

    def draws(
        self,
        network: InterestNetwork,
        user: "Ready",
        k: int,
        count: int,
        temperature: float,
        random: np.random.Generator,
        hidden: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of so many draws and their scores, (count, k) each, best first.

        Args:
            hidden: numbers of items that are not shown.
        """
        of_group = user.of_group
        full = self.best(of_group, max(FULL, 4 * k), hidden)
        k = min(k, len(full))
        dims = network.items.mean.shape[1]
        source = Moves(network, user.z, user.weight, temperature)
        mean = of_group[self.group[full]] + self.within[full]
        items = self.order[full]
        e = random.standard_normal((count, len(full), dims))
        moved = source(np.tile(items, count), e.reshape(-1, dims))
        score = mean + moved.reshape(count, -1)
        tau = float(np.partition(score, len(full) - k, 1)[:, len(full) - k].min())
        draw, place, length = self.forward(of_group, tau, temperature, dims, count, random)
        kept = ~np.isin(place, full) & ~np.isin(self.order[place], hidden)
        draw, place, length = draw[kept], place[kept], length[kept]
        direction = random.standard_normal((len(place), dims))
        direction *= (length / np.linalg.norm(direction, axis=1))[:, None]
        other = of_group[self.group[place]] + self.within[place] + source(self.order[place], direction)
        found, value = np.empty((count, k), np.int64), np.empty((count, k))
        for number in range(count):
            mine = draw == number
            numbers = np.concatenate([items, self.order[place[mine]]])
            values = np.concatenate([score[number], other[mine]])
            best = np.lexsort((numbers, -values))[:k]
            found[number], value[number] = numbers[best], values[best]
        return found, value

    def forward(
        self,
        of_group: np.ndarray,
        tau: float,
        temperature: float,
        dims: int,
        count: int,
        random: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draws, places and lengths |e| of the items that come far enough to reach `tau`."""
        gap = np.maximum(tau - self.means(of_group), 0) / np.maximum(temperature * self.furthest, 1e-12)
        bound = chdtrc(dims, gap**2)
        sizes = np.diff(self.starts)
        number = random.binomial(sizes * count, bound)  # of the cells (item, draw) of every block
        hit = np.flatnonzero(number)
        block, cell = distinct(hit, number[hit], sizes[hit] * count, random)
        place, draw = self.starts[block] + cell // count, cell % count
        mean = of_group[self.group[place]] + self.within[place]
        own = chdtrc(
            dims, (np.maximum(tau - mean, 0) / np.maximum(temperature * self.reach[place], 1e-12)) ** 2
        )
        luck = random.random(len(place)) * bound[block]
        kept = luck < own
        return draw[kept], place[kept], np.sqrt(chdtri(dims, np.maximum(luck[kept], 1e-300)))


@dataclass(frozen=True)
class Ready:
    """What a request needs of one user's state."""

    of_group: np.ndarray
    """log P(group) (G,)"""
    z: Tensor
    """(K, D) interests of the recommending head."""
    weight: Tensor
    """(K,)"""

    @staticmethod
    def of(network: InterestNetwork, state: Any) -> list["Ready"]:
        """For a batch of kept states: one pass for all."""
        with torch.inference_mode():
            groups, seen = network.group_log_probs(*network.parts(state))
            weight = seen.log_weight.exp()
        rows = groups.double().numpy()
        return [Ready(*row) for row in zip(rows, seen.z, weight, strict=True)]


@dataclass(frozen=True)
class Moves:
    """How far the scores of items move with their e, for one user's interests z (K, D), weight (K,)."""

    network: InterestNetwork
    z: Tensor
    weight: Tensor
    temperature: float

    def __call__(self, items: np.ndarray, e: np.ndarray) -> np.ndarray:
        """Items (n,) and their e (n, D + 1) in standard deviations -> (n,)."""
        table, rows = self.network.items, torch.from_numpy(items)
        step = table.log_scale[rows].exp() * torch.from_numpy(self.temperature * e).float()
        spread = table.log_spread.exp()[table.group[rows]][:, None]
        v = F.embedding(table.group[rows], table.centre) + spread * table.mean[rows, :-1]
        moved = near(self.z, v + spread * step[:, :-1], None) - near(self.z, v, None)  # (K, n)
        return (self.weight @ moved + table.log_quality.exp() * step[:, -1]).double().numpy()


def distinct(
    block: np.ndarray, number: np.ndarray, cells: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """So many different cells of each block, evenly: (blocks, cells). Where two are the same, all of that
    block are drawn again; where many are wanted they are dealt.
    """
    crowded = np.flatnonzero(number**2 > cells)
    dealt = [random.choice(cells[one], number[one], replace=False) for one in crowded.tolist()]
    owner = np.repeat(crowded, number[crowded])
    rest = np.flatnonzero(number**2 <= cells)
    found, owners = [np.zeros(0, np.int64), *dealt], [owner]
    while len(rest):
        mine = np.repeat(rest, number[rest])
        cell = (random.random(len(mine)) * cells[mine]).astype(np.int64)
        both = np.lexsort((cell, mine))
        same = (np.diff(mine[both]) == 0) & (np.diff(cell[both]) == 0)
        again = np.unique(mine[both][1:][same])
        good = ~np.isin(mine, again)
        found.append(cell[good])
        owners.append(mine[good])
        rest = again
    return block[np.concatenate(owners)], np.concatenate(found)


def blocks(group: np.ndarray) -> np.ndarray:
    """First item of every block of items (N,) that lie group by group."""
    borders = np.flatnonzero(np.diff(group)) + 1
    begins = np.concatenate([[0], borders])
    ends = np.append(borders, len(group))
    return np.concatenate([np.arange(a, b, BLOCK) for a, b in zip(begins, ends, strict=True)])


def spans(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """All numbers of first..last - 1, one span after the other."""
    sizes = last - first
    return np.repeat(first - np.append(0, sizes.cumsum()[:-1]), sizes) + np.arange(sizes.sum())
