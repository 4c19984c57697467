"""Intervals by drawing whole groups again (Efron 1979; by groups: Davison and Hinkley 1997).

Items of one flight, speaker, document or user are not independent: what is drawn is the group, so the
interval speaks of new flights, speakers, documents and users.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS = 2000
LEVEL = 0.95
PIECE = 1 << 22
"""Numbers of one matrix of draws."""


@dataclass(frozen=True)
class Interval:
    """A figure and where it would lie in that share of new samples."""

    value: float
    low: float
    high: float

    def as_dict(self, name: str) -> dict[str, float | None]:
        """`name`, `name_low`, `name_high`, as a report holds them; unknown is null."""
        parts = {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}
        return {key: float(value) if np.isfinite(value) else None for key, value in parts.items()}


def mean_interval(
    values: Any,
    groups: Sequence[Any] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Mean of the values (N,) with its interval; NaN is unknown and left out.

    Args:
        groups: (N,) what each value belongs to; every value by itself when left out.

    Raises:
        ValueError: shapes or level are wrong.
    """
    values = np.asarray(values, dtype=np.float64)
    return ratio_interval(values, np.ones_like(values), groups, level=level, draws=draws, seed=seed)


def ratio_interval(
    numerators: Any,
    denominators: Any,
    groups: Sequence[Any] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """sum(numerators) / sum(denominators) with its interval, such as errors per character.

    With one group there is nothing to draw from: the interval is unknown (NaN).
    """
    pair = {"": (numerators, denominators)}
    return ratio_intervals(pair, groups, level=level, draws=draws, seed=seed)[""]


def ratio_intervals(
    pairs: Mapping[str, tuple[Any, Any]],
    groups: Sequence[Any] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Interval]:
    """Several ratios of the same rows (N,), as of `ratio_interval`, by the same draws of groups.

    Those with unknown values (NaN) are drawn among the groups that have known ones.
    """
    found: dict[str, Interval] = {}
    alike: dict[bytes, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    everyone: np.ndarray | None = None
    for name, (numerators, denominators) in pairs.items():
        above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
        check(above.shape, below.shape, groups, level, draws)
        everyone = indices(groups, len(above)) if everyone is None else everyone
        known = np.isfinite(above) & np.isfinite(below)
        found[name] = Interval(np.nan, np.nan, np.nan)
        if known.any():
            chosen, owners = np.unique(everyone[known], return_inverse=True)
            sums = np.bincount(owners, above[known]), np.bincount(owners, below[known])
            alike.setdefault(chosen.tobytes(), {})[name] = sums
    for columns in alike.values():
        tops, bottoms = (np.stack(part, 1) for part in zip(*columns.values(), strict=True))
        values, count = ratio(tops.sum(0), bottoms.sum(0)), len(tops)
        drawn = drawn_ratios(tops, bottoms, draws, seed) if count > 1 else np.full((1, len(columns)), np.nan)
        for column, name in enumerate(columns):
            found[name] = between(float(values[column]), drawn[:, column], level)
    return found


def drawn_ratios(tops: np.ndarray, bottoms: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Ratios (draws, F) of sums by group (G, F) when the groups are drawn again."""
    generator, count = np.random.default_rng(seed), len(tops)
    found, rows = [], max(1, PIECE // count)
    for start in range(0, draws, rows):
        times = generator.multinomial(count, np.full(count, 1 / count), size=min(rows, draws - start))
        times = times.astype(np.float64)
        found.append(ratio(times @ tops, times @ bottoms))
    return np.concatenate(found)


def interval(
    items: Sequence[Any],
    figure: Callable[[list[Any]], float],
    groups: Sequence[Any] | None = None,
    *,
    level: float = LEVEL,
    draws: int = 500,
    seed: int = 0,
) -> Interval:
    """Any figure of a list of items, such as an average precision, computed anew for each draw."""
    check((len(items),), (len(items),), groups, level, draws)
    owners = indices(groups, len(items))
    members = [np.flatnonzero(owners == group) for group in np.unique(owners)]
    value = float(figure(list(items))) if len(items) else np.nan
    if len(members) < 2:
        return Interval(value, np.nan, np.nan)
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        chosen = generator.integers(len(members), size=len(members))
        found.append(figure([items[row] for group in chosen for row in members[group]]))
    return between(value, np.asarray(found, dtype=np.float64), level)


def difference_interval(
    ours: Any, theirs: Any, groups: Sequence[Any] | None = None, **options: Any
) -> Interval:
    """Mean of ours - theirs, item by item (N,): an interval without zero tells them apart."""
    return mean_interval(np.asarray(ours, float) - np.asarray(theirs, float), groups, **options)


def check(
    above: tuple[int, ...], below: tuple[int, ...], groups: Sequence[Any] | None, level: float, draws: int
) -> None:
    if len(above) != 1 or above != below:
        raise ValueError(f"expected two rows of equal length, got shapes {above} and {below}")
    if groups is not None and len(groups) != above[0]:
        raise ValueError(f"expected a group for each of {above[0]} values, got {len(groups)}")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"level must lie between 0 and 1 and draws be positive, got {level} and {draws}")


def indices(groups: Sequence[Any] | None, count: int) -> np.ndarray:
    """Groups as whole numbers (N,), in order of first appearance."""
    if groups is None:
        return np.arange(count)
    order = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return np.array([order[group] for group in groups], dtype=np.int64)


def ratio(above: Any, below: Any) -> Any:
    """above / below, NaN where there is nothing below."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(below) != 0, np.divide(above, below), np.nan)


def between(value: float, found: np.ndarray, level: float) -> Interval:
    """The percentile interval."""
    found = found[np.isfinite(found)]
    if not len(found):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
