"""The items of an interest network in the order in which a request wants them: it reads a few blocks.

A score by the means is one number of the item's group and one of the item, log P(group) + log P(item | its
group), and the second is the same for everybody. So items lie group by group, the best first, in blocks: the
first of a block bounds all of it. With tau, the k-th best of the items that are drawn in full (`draws.py`),
another item i can enter a Thompson draw with chance

    p_i = P(|e| > w_i),  w_i = (tau - mean_i) / L_i        and no item of block b with more than
    p_b = P(|e| > w_b),  w_b = (tau - best mean of b) / (largest L of b)

Which (item, draw) of a block come forward under p_b is a walk of geometric steps, and each of them stays with
chance p_i / p_b: the law of a full draw, without a look at the others. All draws of a slate share the blocks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import chdtri

from recsys.models.interest import FLOOR, InterestNetwork
from recsys.retrieval import passes
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
    firsts: np.ndarray
    """(G + 1,) first item of every group, N behind the last."""
    v: np.ndarray
    """(N, D) means of the items' vectors, float32."""
    scale: np.ndarray
    """(N, D + 1) their spreads and, last, that of the quality, float32."""

    @staticmethod
    def of(network: InterestNetwork) -> "Shelf":
        """The shelf of a network; made once for its weights."""
        table = network.items
        key = (network.clicked.data_ptr(), network.clicked._version, table.log_scale._version,
               network.offered._version, network.favour._version)  # fmt: skip
        if network.shelf is None or network.shelf[0] != key:
            with torch.inference_mode():
                vector, quality = table.scales()
                v = table.tables().v.numpy()[FIRST:]
                scale = torch.cat([vector, quality[:, None]], 1).numpy()[FIRST:]
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
                np.searchsorted(group[order], np.arange(len(network.wanted) + 1)),
                v[order],
                scale[order],
            )
            network.shelf = (key, made)
        return network.shelf[1]

    def best(self, of_group: np.ndarray, count: int, hidden: np.ndarray) -> np.ndarray:
        """Places of the `count` best items, best first, ties by number, without the sorted `hidden` ones."""
        return passes.merged(of_group, self.firsts, self.within, self.order, count, hidden)

    def draws(
        self,
        user: "Ready",
        k: int,
        count: int,
        temperature: float,
        random: np.random.Generator,
        hidden: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of so many draws and their scores, (count, k) each, best first.

        Args:
            hidden: sorted numbers of items that are not shown.
        """
        of_group, dims = user.of_group, self.scale.shape[1]
        full = self.best(of_group, max(FULL, 4 * k), hidden)
        k = min(k, len(full))
        mean = of_group[self.group[full]] + self.within[full]
        e = random.standard_normal((count * len(full), dims), np.float32)
        score = mean + self.moved(user, full, e, temperature).reshape(count, -1)
        tau = float(np.partition(score, len(full) - k, 1)[:, len(full) - k].min())
        level = of_group[self.group[self.starts[:-1]]]
        draw, place, tail = passes.forward(
            level + self.within[self.starts[:-1]],
            self.furthest,
            self.starts,
            level,
            self.within,
            self.reach,
            tau,
            temperature,
            dims,
            count,
            int(random.integers(2**32)),
        )
        kept = ~np.isin(place, full)
        if len(hidden):
            kept &= ~np.isin(self.order[place], hidden)
        draw, place, tail = draw[kept], place[kept], tail[kept]
        direction = random.standard_normal((len(place), dims), np.float32)
        length = np.sqrt(chdtri(dims, np.maximum(tail, 1e-300)))
        direction *= (length / np.sqrt((direction**2).sum(1)))[:, None].astype(np.float32)
        other = of_group[self.group[place]] + self.within[place]
        other += self.moved(user, place, direction, temperature)
        return passes.picked(self.order[full], score, draw, self.order[place], other, k)

    def moved(self, user: "Ready", places: np.ndarray, e: np.ndarray, temperature: float) -> np.ndarray:
        """How far scores move with e (n, D + 1) in standard deviations, the places again and again: (n,)."""
        return passes.moves(user.z, user.weight, self.v, self.scale, places, e, temperature, FLOOR)


@dataclass(frozen=True)
class Ready:
    """What a request needs of one user's state."""

    of_group: np.ndarray
    """log P(group) (G,)"""
    z: np.ndarray
    """(K, D) interests of the recommending head, float32."""
    weight: np.ndarray
    """(K,)"""

    @staticmethod
    def of(network: InterestNetwork, state: Any) -> list["Ready"]:
        """For a batch of kept states: one pass for all."""
        with torch.inference_mode():
            groups, seen = network.group_log_probs(*network.parts(state))
            weight = seen.log_weight.exp()
        rows = groups.double().numpy(), seen.z.numpy(), weight.numpy()
        return [Ready(*row) for row in zip(*rows, strict=True)]


def blocks(group: np.ndarray) -> np.ndarray:
    """First item of every block of items (N,) that lie group by group."""
    borders = np.flatnonzero(np.diff(group)) + 1
    begins = np.concatenate([[0], borders])
    ends = np.append(borders, len(group))
    return np.concatenate([np.arange(a, b, BLOCK) for a, b in zip(begins, ends, strict=True)])
