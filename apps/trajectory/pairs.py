"""Tracks that are predicted to come close to each other: neighbours by a grid, not all pairs.

The chance takes both balls as normal errors of both movers, of equal deviation in every direction:

    d ~ N(delta, (s_a^2 + s_b^2) I),  P(|d| <= R) from the noncentral chi-square distribution
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import chdtri, chndtr

from apps.trajectory.geo import Origin, from_enu, to_ecef, to_enu
from apps.trajectory.prediction import Prediction
from core.errors import ConfigError

CELL_M = 30.0
"""Least edge of a cell of the grid."""
AGAIN_S = 1.0
"""Seconds of a track's time after which a pair that still comes close is told again."""
Cell = tuple[int, ...]


@dataclass(frozen=True)
class Foreseen:
    """The newest prediction of one track, its anchor first."""

    times: np.ndarray
    places: np.ndarray
    deviation: np.ndarray | None
    origin: Origin | None
    cells: frozenset[Cell]


class Pairs:
    """The newest paths of all tracks; `meet` gives the pairs that come within `within_m` metres.

    Raises:
        ConfigError: a distance that is not positive.
    """

    def __init__(self, within_m: float) -> None:
        if not 0 < within_m < 1e6:
            raise ConfigError(f"--between wants metres, more than 0 and less than 1e6; got {within_m:g}.")
        self.within = within_m
        self.cell = max(within_m, CELL_M)
        self.paths: dict[str | int, Foreseen] = {}
        self.grid: dict[Cell, set[str | int]] = {}
        self.told: dict[tuple[Any, Any], float] = {}

    def forget(self, name: str | int) -> None:
        """Drop a track that is gone."""
        path = self.paths.pop(name, None)
        for cell in path.cells if path is not None else ():
            self.grid[cell].discard(name)
            if not self.grid[cell]:
                del self.grid[cell]

    def meet(self, name: str | int, prediction: Prediction, origin: Origin | None) -> list[dict[str, Any]]:
        """Take a track's newest prediction; one record for every other track that it comes close to."""
        known = np.isfinite(prediction.mean).all(1)
        places = np.concatenate([prediction.anchor[None], prediction.mean[known]])
        times = prediction.time_s + np.concatenate([[0.0], prediction.ahead_s[known]])
        deviation = None
        if prediction.radius is not None:
            spread = math.sqrt(float(chdtri(places.shape[1], 1 - prediction.coverage)))
            deviation = np.concatenate([[0.0], prediction.radius[known] / spread])
        self.forget(name)
        path = Foreseen(times, places, deviation, origin, frozenset(self.cells_of(places, origin)))
        self.paths[name] = path
        for cell in path.cells:
            self.grid.setdefault(cell, set()).add(name)
        near: set[str | int] = set()
        for cell in path.cells:
            for step in itertools.product((-1, 0, 1), repeat=len(cell)):
                near |= self.grid.get(tuple(a + b for a, b in zip(cell, step, strict=True)), set())
        found = []
        for other in near - {name}:
            record = self.closest(name, path, other, self.paths[other])
            if record is not None:
                found.append(record)
        return found

    def cells_of(self, places: np.ndarray, origin: Origin | None) -> set[Cell]:
        """Cells that a path goes through; geographic tracks of any origin share the earth's."""
        if origin is not None and places.shape[1] == 3:
            places = to_ecef(from_enu(places, origin))
        pieces = [places[:1]]
        for before, after in itertools.pairwise(places):
            count = max(1, math.ceil(float(np.linalg.norm(after - before)) / self.cell))
            pieces.append(before + (np.arange(1, min(count, 1000) + 1) / count)[:, None] * (after - before))
        return set(map(tuple, np.floor(np.concatenate(pieces) / self.cell).astype(int).tolist()))

    def closest(self, name: Any, path: Foreseen, other: Any, theirs: Foreseen) -> dict[str, Any] | None:
        """When and how close two paths come, where that is within the distance; told once a second."""
        begin = max(path.times[0], theirs.times[0])
        end = min(path.times[-1], theirs.times[-1])
        if end < begin or path.places.shape[1] != theirs.places.shape[1]:
            return None
        if (path.origin is None) != (theirs.origin is None):
            return None
        places = theirs.places
        if path.origin is not None and theirs.origin is not None and path.origin != theirs.origin:
            places = to_enu(from_enu(places, theirs.origin), path.origin)
        inner = np.concatenate([path.times, theirs.times])
        moments = np.unique(np.concatenate([[begin, end], inner[(inner > begin) & (inner < end)]]))
        gaps = at(moments, theirs.times, places) - at(moments, path.times, path.places)
        legs = np.diff(gaps, axis=0)
        share = np.clip(-(gaps[:-1] * legs).sum(1) / np.maximum((legs**2).sum(1), 1e-12), 0, 1)
        nearest = gaps[:-1] + share[:, None] * legs if len(legs) else gaps
        distance = np.linalg.norm(nearest, axis=1)
        best = int(np.argmin(distance))
        if distance[best] > self.within:
            return None
        when = float(moments[best] + (share[best] * (moments[best + 1] - moments[best]) if len(legs) else 0))
        pair = (name, other) if str(name) < str(other) else (other, name)
        if abs(path.times[0] - self.told.get(pair, -math.inf)) < AGAIN_S:
            return None
        self.told[pair] = float(path.times[0])
        chance = None
        if path.deviation is not None and theirs.deviation is not None:
            square = float(np.interp(when, path.times, path.deviation)) ** 2
            square += float(np.interp(when, theirs.times, theirs.deviation)) ** 2
            square = max(square, 1e-12)
            dims = gaps.shape[1]
            chance = float(
                chndtr(self.within**2 / square, dims, min(float(distance[best]) ** 2 / square, 1e6))
            )
        return {
            "between": list(pair),
            "t": float(path.times[0]),
            "ahead_s": round(when - float(path.times[0]), 4),
            "distance_m": round(float(distance[best]), 4),
            "probability": chance if chance is None or math.isfinite(chance) else None,
        }


def at(moments: np.ndarray, times: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Places (n, D) of a path at moments inside it."""
    return np.stack([np.interp(moments, times, axis) for axis in places.T], 1)
