"""Compiled passes over a shelf (`shelf.py`): its best items, what of it comes forward, how far items move."""

import heapq
import math

import numpy as np

from core.kernels.jit import compiled
from recsys.retrieval.exact import worse


@compiled(fastmath=False)
def tail(square: float, dims: int) -> float:
    """P(|e|^2 > square) of a standard normal e of so many dimensions: chi-squared, as finite sums."""
    half = 0.5 * square
    if dims % 2:
        total = math.erfc(math.sqrt(half))
        term = math.exp(-half) * math.sqrt(half) / 0.886226925452758  # Gamma(3/2)
        for j in range(1, (dims - 1) // 2 + 1):
            total += term
            term *= half / (j + 0.5)
        return min(total, 1.0)
    total, term = 0.0, math.exp(-half)
    for j in range(dims // 2):
        total += term
        term *= half / (j + 1)
    return min(total, 1.0)


@compiled(fastmath=False)
def holds(numbers: np.ndarray, one: int) -> bool:
    """Whether sorted numbers have this one."""
    place = np.searchsorted(numbers, one)
    return bool(place < len(numbers) and numbers[place] == one)


@compiled(fastmath=False)
def merged(
    of_group: np.ndarray,
    firsts: np.ndarray,
    within: np.ndarray,
    order: np.ndarray,
    count: int,
    hidden: np.ndarray,
) -> np.ndarray:
    """Places of the best `count` items, ties by number; those of a group lie best first from `firsts` on."""
    heap = [(0.0, 0, 0, 0) for _ in range(0)]
    for group in range(len(firsts) - 1):
        place = firsts[group]
        if place < firsts[group + 1]:
            heap.append((-(of_group[group] + within[place]), order[place], place, group))  # pyright: ignore
    heapq.heapify(heap)
    found, number = np.empty(count, np.int64), 0
    while number < count and len(heap):
        value, item, place, group = heap[0]
        if place + 1 < firsts[group + 1]:
            after = place + 1
            heapq.heapreplace(heap, (-(of_group[group] + within[after]), order[after], after, group))
        else:
            heapq.heappop(heap)
        if value < math.inf and not holds(hidden, item):
            found[number] = place
            number += 1
    return found[:number]


@compiled(fastmath=False)
def forward(
    means: np.ndarray,
    furthest: np.ndarray,
    starts: np.ndarray,
    level: np.ndarray,
    within: np.ndarray,
    reach: np.ndarray,
    tau: float,
    temperature: float,
    dims: int,
    count: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws, places and tails of what comes far enough to reach `tau`: the law of `count` full draws.

    Of a block with best score `means` each (item, draw) comes forward with the chance of its largest reach,
    so most of a block is passed over with one uniform; those that do stay with the chance of their own.

    Args:
        level: (B,) log P(group) of each block; a score is this and `within`.
    """
    np.random.seed(seed)  # noqa: NPY002
    size, number = 256, 0
    draws, places, tails = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size)
    for block in range(len(means)):
        gap = max(tau - means[block], 0.0) / max(temperature * furthest[block], 1e-12)
        bound = tail(gap * gap, dims)
        if bound <= 0.0:
            continue
        cells = (starts[block + 1] - starts[block]) * count
        rate = math.log1p(-bound) if bound < 1.0 else -np.inf
        cell = -1
        while True:
            skipped = math.log(1 - np.random.random()) / rate  # noqa: NPY002
            if skipped >= cells:
                break
            cell += 1 + int(skipped)
            if cell >= cells:
                break
            place = starts[block] + cell // count
            own = max(tau - level[block] - within[place], 0.0) / max(temperature * reach[place], 1e-12)
            luck = np.random.random() * bound  # noqa: NPY002
            if luck >= tail(own * own, dims):
                continue
            if number == size:
                size *= 2
                draws, places = np.append(draws, draws), np.append(places, places)
                tails = np.append(tails, tails)
            draws[number], places[number], tails[number] = cell % count, place, luck
            number += 1
    return draws[:number], places[:number], tails[:number]


@compiled(fastmath=False)
def moves(
    z: np.ndarray,
    weight: np.ndarray,
    v: np.ndarray,
    scale: np.ndarray,
    places: np.ndarray,
    e: np.ndarray,
    temperature: float,
    least: float,
) -> np.ndarray:
    """How far scores (n,) move with e (n, D + 1): interests z (K, D) of weight (K,), means v (N, D) and
    spreads (N, D + 1) of the items at these places, quality last.
    """
    out, dims = np.empty(len(e)), v.shape[1]
    for row in range(len(e)):
        place = places[row % len(places)]
        total = temperature * scale[place, dims] * e[row, dims]
        for k in range(len(z)):
            before, after = 0.0, 0.0
            for dim in range(dims):
                gap = z[k, dim] - v[place, dim]
                before += gap * gap
                gap -= temperature * scale[place, dim] * e[row, dim]
                after += gap * gap
            total += weight[k] * (math.sqrt(max(before, least)) - math.sqrt(max(after, least)))
        out[row] = total
    return out


@compiled(fastmath=False)
def picked(
    full: np.ndarray, score: np.ndarray, draws: np.ndarray, items: np.ndarray, values: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of every draw, best first, ties by number: of `full` (F,) with scores (count, F), and of the
    items that came forward in some draws.
    """
    count, wide = score.shape
    found, best = np.empty((count, k), np.int64), np.full((count, k), -np.inf)
    for draw in range(count):
        held = 0
        for one in range(wide + len(draws)):
            if one < wide:
                item, value = full[one], score[draw, one]
            else:
                if draws[one - wide] != draw:
                    continue
                item, value = items[one - wide], values[one - wide]
            if held == k and not worse(best[draw, k - 1], found[draw, k - 1], value, item):  # pyright: ignore
                continue
            at = min(held, k - 1)
            while at > 0 and worse(best[draw, at - 1], found[draw, at - 1], value, item):  # pyright: ignore
                best[draw, at], found[draw, at] = best[draw, at - 1], found[draw, at - 1]
                at -= 1
            best[draw, at], found[draw, at] = value, item
            held = min(held + 1, k)
    return found, best
