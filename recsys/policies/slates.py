"""Slates out of scores: the best, in-slate Thompson sampling, exploring at random.

Scores are (B, I) over internal item numbers, or (K, B, I) with one posterior draw per slot; an item that may
not be shown has -inf. Slates are (B, K). Ties go to the lower number, everywhere.
"""

import numpy as np
from numpy.random import Generator

from core.errors import DataError


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best of each row (B, I), best first."""
    scores = np.atleast_2d(scores)
    require(scores, k)
    if k * 8 >= scores.shape[1]:
        return np.argsort(-scores, 1, kind="stable")[:, :k]
    # everything level with the k-th best takes part, so that ties at the edge go to the lower number
    edge = -np.partition(-scores, k - 1, 1)[:, k - 1 : k]
    slates = np.empty((len(scores), k), np.int64)
    for row, (values, limit) in enumerate(zip(scores, edge[:, 0], strict=True)):
        candidates = np.flatnonzero(values >= limit)
        slates[row] = candidates[np.argsort(-values[candidates], kind="stable")[:k]]
    return slates


def in_slate(scores: np.ndarray, k: int) -> np.ndarray:
    """In-slate Thompson sampling of draws (K, B, I), read rank by rank.

    The best item of draw 1, of draw 2, ..., of draw K, the second best of draw 1, ...; the slate is the first
    k distinct items of that list. After a duplicate later slots shift by one draw.
    """
    return read_ranks(np.stack([top(draw, k) for draw in scores]), k)


def read_ranks(best: np.ndarray, k: int) -> np.ndarray:
    """The slates (B, k) of in-slate sampling from the best items (K, B, k) of each draw, best first."""
    slates = np.empty((best.shape[1], k), np.int64)
    for row in range(len(slates)):
        order = best[:, row].T.ravel()  # rank-major
        _, first = np.unique(order, return_index=True)
        slates[row] = order[np.sort(first)[:k]]
    return slates


def in_slate_strict(scores: np.ndarray, k: int) -> np.ndarray:
    """Slot j holds the best item of draw j that the slate does not have yet, for draws (K, B, I)."""
    return read_strictly(np.stack([top(draw, k) for draw in scores[:k]]), k)


def read_strictly(best: np.ndarray, k: int) -> np.ndarray:
    """The strict slates (B, k) from the best items (k, B, k) of each draw, best first."""
    slates = np.empty((best.shape[1], k), np.int64)
    for row in range(len(slates)):
        taken: list[int] = []
        for draw in best[:, row]:
            taken.append(next(int(item) for item in draw if int(item) not in taken))
        slates[row] = taken
    return slates


def epsilon_greedy(
    scores: np.ndarray, k: int, epsilon: float, generator: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Per slot with probability epsilon a uniform item, else the best, each not yet in the slate.

    Gives slates (B, K) and the probability of each slot's item given the slots before it.
    """
    require(scores, k)
    order = top(scores, k)
    slates, chances = np.empty((len(scores), k), np.int64), np.empty((len(scores), k))
    for row, values in enumerate(scores):
        allowed = np.flatnonzero(np.isfinite(values))
        taken: list[int] = []
        for slot in range(k):
            best = next(int(item) for item in order[row] if int(item) not in taken)
            free = len(allowed) - slot
            item = best
            if generator.random() < epsilon:
                item = int(generator.choice(allowed))
                while item in taken:
                    item = int(generator.choice(allowed))
            chances[row, slot] = epsilon / free + (1 - epsilon) * (item == best)
            taken.append(item)
        slates[row] = taken
    return slates, chances


def uniform(scores: np.ndarray, k: int, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Items at random without replacement: slates (B, K), and the probability of each slot's item."""
    require(scores, k)
    slates, chances = np.empty((len(scores), k), np.int64), np.empty((len(scores), k))
    for row, values in enumerate(scores):
        allowed = np.flatnonzero(np.isfinite(values))
        slates[row] = generator.choice(allowed, k, replace=False)
        chances[row] = 1 / (len(allowed) - np.arange(k))
    return slates, chances


def plackett_luce(
    scores: np.ndarray, k: int, temperature: float, generator: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Slot by slot with P(item) ~ exp(score / temperature) among those left; 0 gives the best.

    Gives slates (B, K) and the probability of each slot's item given the slots before it: their products
    are exact propensities of prefixes and of the slate.
    """
    require(scores, k)
    if temperature == 0:
        slates = top(scores, k)
        return slates, np.ones(slates.shape)
    logits = scores / temperature
    slates = top(logits + generator.gumbel(size=scores.shape), k)
    return slates, slate_chances(logits, slates)


def slate_chances(logits: np.ndarray, slates: np.ndarray) -> np.ndarray:
    """P(item of slot l | slots before it) (B, K) of slates (B, K) under Plackett-Luce logits (B, I)."""
    peak = logits.max(1, keepdims=True)
    weight = np.exp(logits - peak)
    chosen = np.take_along_axis(weight, slates, 1)
    before = np.cumsum(chosen, 1) - chosen
    return chosen / np.maximum(weight.sum(1, keepdims=True) - before, 1e-300)


def require(scores: np.ndarray, k: int) -> None:
    """Enough items are left for k slots.

    Raises:
        DataError: fewer than k items of a row may be shown.
    """
    if k < 1:
        raise DataError(f"a slate has at least one slot, got {k}.")
    fewest = int(np.isfinite(scores).sum(1).min()) if len(scores) else k
    if fewest < k:
        raise DataError(f"{k} items are asked for, {fewest} may be shown after the filters.")
