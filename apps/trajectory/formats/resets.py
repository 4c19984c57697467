"""Leaps of an estimator that a counter tells and no log measures: what the path does beyond its way."""

from collections.abc import Iterable, Sequence

import numpy as np


def way(time_s: np.ndarray, table: np.ndarray, place: int) -> np.ndarray:
    """What a mover does from sample `place` - 1 to `place`, by its way just before."""
    if place < 2:
        return np.zeros(table.shape[1])
    share = (time_s[place] - time_s[place - 1]) / max(time_s[place - 1] - time_s[place - 2], 1e-9)
    return (table[place - 1] - table[place - 2]) * min(share, 2.0)


def leap(time_s: np.ndarray, table: np.ndarray, place: int) -> np.ndarray:
    """By how much sample `place` of (N, D) stands beside where the path was going."""
    return table[place] - table[place - 1] - way(time_s, table, place)


def changes(counter: np.ndarray) -> np.ndarray:
    """Samples at which a counter of one byte, which rolls over, has another value than before."""
    return np.flatnonzero(np.diff(np.asarray(counter).astype(np.int64) % 256) != 0) + 1


def without_leaps(
    time_s: np.ndarray,
    positions: np.ndarray,
    places: Iterable[int],
    counter: str,
    *,
    deltas: Sequence[np.ndarray] | None = None,
    unit: str = "m",
) -> tuple[np.ndarray, list[str]]:
    """Positions (N, D) as if the estimator had always stood where it stands at the end, and what is said.

    Args:
        places: samples at which the estimate leaps; what came before moves along.
        deltas: D columns (N,) of how far it does; None: as far as the path tells.
    """
    told, positions = [], positions.copy()
    for place in places:
        if deltas is None:
            shift = leap(time_s, positions, int(place))
        else:
            shift = np.array([float(delta[place]) for delta in deltas])
        if not np.isfinite(shift).all() or not shift.any():
            continue
        positions[:place] += shift
        words = ", ".join(f"{value:.3g}" for value in shift)
        told.append(
            f"the estimator's reset ({counter}) at {time_s[place] - time_s[0]:.3f} s moved it by "
            f"{words} {unit}; taken out of what came before."
        )
    return positions, told
