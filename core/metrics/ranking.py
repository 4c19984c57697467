"""Ranking metrics at k over scores, relevance or ranks.

Two doors. `rank_of` and `at_ranks` for one target per row (leave one out, next item): the rank is 1 + the
items above, ties in the middle, before or after it. `at_relevance` for several relevant items per row, in the
definitions of trec_eval (AP divides by all relevant items, nDCG has a linear gain).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from core.errors import ConfigError

Ties = Literal["middle", "optimistic", "conservative"]


def rank_of(scores: np.ndarray, target: np.ndarray, ties: Ties = "middle") -> np.ndarray:
    """Rank (B,) from 1 of the target (B,) among scores (B, I); -inf marks what is not in the list.

    Raises:
        ConfigError: an unknown manner of ties.
        ValueError: shapes that do not fit.
    """
    if ties not in ("middle", "optimistic", "conservative"):
        raise ConfigError(f"ties are middle, optimistic or conservative, got {ties!r}.")
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise ValueError(f"expected scores (B, I) and targets (B,), got {scores.shape} and {target.shape}")
    own = np.take_along_axis(scores, target[:, None], 1)
    above = (scores > own).sum(1)
    level = (scores == own).sum(1) - 1
    share = {"middle": 0.5, "optimistic": 0.0, "conservative": 1.0}[ties]
    return 1 + above + share * level


def at_ranks(ranks: np.ndarray, ks: Sequence[int]) -> dict[str, float]:
    """HR, NDCG and MRR at each k for one target per row, from its rank (B,)."""
    figures = {}
    for k in ks:
        inside = ranks <= k
        figures[f"HR@{k}"] = float(inside.mean())
        figures[f"NDCG@{k}"] = float((inside / np.log2(ranks + 1)).mean())
        figures[f"MRR@{k}"] = float((inside / ranks).mean())
    return figures


def at_relevance(scores: np.ndarray, relevance: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """AP, P, R, RR, Success and nDCG at each k of every row, for scores and relevance (B, I).

    Relevance above 0 is relevant; nDCG takes the values as gains. Rows without a relevant item give 0.
    """
    if scores.shape != relevance.shape or scores.ndim != 2:
        raise ValueError(f"expected two arrays (B, I), got {scores.shape} and {relevance.shape}")
    order = np.argsort(-scores, 1, kind="stable")
    gain = np.take_along_axis(relevance.astype(np.float64), order, 1)
    ideal = -np.sort(-relevance.astype(np.float64), 1)
    hit = gain > 0
    total = np.maximum(hit.sum(1), 1)
    place = np.arange(1, scores.shape[1] + 1)
    precision = hit.cumsum(1) / place
    discount = 1 / np.log2(place + 1)
    first = np.where(hit.any(1), hit.argmax(1) + 1, np.inf)
    figures = {}
    for k in ks:
        found = hit[:, :k].sum(1)
        best = (ideal[:, :k] * discount[:k]).sum(1)
        figures[f"AP@{k}"] = (precision * hit)[:, :k].sum(1) / total
        figures[f"P@{k}"] = found / k
        figures[f"R@{k}"] = found / total
        figures[f"RR@{k}"] = np.where(first <= k, 1 / first, 0.0)
        figures[f"Success@{k}"] = (found > 0).astype(float)
        figures[f"nDCG@{k}"] = (gain[:, :k] * discount[:k]).sum(1) / np.where(best > 0, best, 1.0)
    return figures
