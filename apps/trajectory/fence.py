"""Areas that a track should not enter: polygons of a GeoJSON file, with a floor and a ceiling."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.geo import Origin, to_enu
from apps.trajectory.prediction import Prediction
from apps.trajectory.questions import sample_futures
from core.errors import ConfigError, DataError

FLOORS, CEILINGS = ("floor", "floor_m", "lower", "min_alt"), ("ceiling", "ceiling_m", "upper", "max_alt")
"""Names of properties that say from where to where an area reaches, metres."""
BETWEEN = 4
"""Places that are looked at between two steps."""
SAMPLES = 500
MOST = 16 << 20
"""Bytes of a file of areas."""


@dataclass(frozen=True)
class Area:
    """A polygon with holes: rings (n, 2) of longitude and latitude, or of metres for tracks in metres."""

    name: str
    rings: tuple[np.ndarray, ...]
    floor_m: float = -math.inf
    ceiling_m: float = math.inf


def read_areas(path: str | Path) -> list[Area]:
    """The polygons of a GeoJSON file (RFC 7946).

    Raises:
        DataError: no such file, no GeoJSON, or no polygon in it.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST:
            raise DataError(f"{path}: is larger than {MOST >> 20} MB.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no GeoJSON ({error}).") from None
    areas: list[Area] = []
    kind = found.get("type") if isinstance(found, dict) else None
    features = found.get("features") if kind == "FeatureCollection" else [found]
    for feature in features if isinstance(features, list) else []:
        if not isinstance(feature, dict):
            continue
        geometry = feature.get("geometry") if feature.get("type") == "Feature" else feature
        told = feature.get("properties") if isinstance(feature.get("properties"), dict) else {}
        shapes = geometry if isinstance(geometry, dict) else {}
        coordinates = shapes.get("coordinates")
        polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(shapes.get("type", ""), [])
        for polygon in polygons or []:
            areas.append(area(path, polygon, told or {}, len(areas)))
    if not areas:
        raise DataError(f"{path}: no Polygon or MultiPolygon in it.")
    return areas


def area(path: Path, polygon: Any, told: dict[str, Any], number: int) -> Area:
    """One polygon and its properties."""
    try:
        rings = tuple(np.array([place[:2] for place in ring], dtype=np.float64) for ring in polygon)
        low, high = (
            float(next((told[name] for name in names if told.get(name) is not None), default))
            for names, default in ((FLOORS, -math.inf), (CEILINGS, math.inf))
        )
        good = rings and all(ring.shape[0] >= 3 and np.isfinite(ring).all() for ring in rings) and low <= high
    except (TypeError, ValueError, IndexError) as error:
        raise DataError(f"{path}: polygon {number + 1} is none ({error}).") from None
    if not good:
        raise DataError(f"{path}: polygon {number + 1} has rings of fewer than 3 points, or a low ceiling.")
    return Area(str(told.get("name", f"area {number + 1}")), rings, low, high)


def entries(
    prediction: Prediction, areas: list[Area], origin: Origin | None, *, samples: int = SAMPLES, seed: int = 0
) -> list[dict[str, Any]]:
    """Chance that a track enters each area within the horizon: the share of drawn futures that do.

    Args:
        origin: of a geographic track; None: the areas are in the metres of the track.

    Raises:
        DataError: the prediction has no uncertainty.
        ConfigError: an area of latitudes and longitudes for a track without.
    """
    known = np.isfinite(prediction.mean).all(1)
    futures = sample_futures(prediction, samples, seed)[:, known]
    start = np.broadcast_to(prediction.anchor, (samples, 1, futures.shape[2]))
    paths = np.concatenate([start, futures], 1)
    share = np.arange(1, BETWEEN + 1) / BETWEEN
    legs = np.diff(paths, axis=1)
    places = paths[:, :-1, None] + share[:, None] * legs[:, :, None]
    places = np.concatenate([paths[:, :1], places.reshape(samples, -1, paths.shape[2])], 1)
    found = []
    for one in areas:
        rings, low, high = one.rings, one.floor_m, one.ceiling_m
        if origin is not None:
            rings = tuple(ring_in_metres(ring, origin) for ring in rings)
            low, high = low - origin[2], high - origin[2]
        within = inside(places[..., :2], rings)
        if places.shape[2] > 2:
            within &= (places[..., 2] >= low) & (places[..., 2] <= high)
        elif math.isfinite(low) or math.isfinite(high):
            raise ConfigError(f"{one.name} has a floor or a ceiling, and the track has no height.")
        chance = float(within.any(1).mean())
        found.append({"area": one.name, "inside_now": bool(within[:, 0].any()), "entry_probability": chance})
    return found


def ring_in_metres(ring: np.ndarray, origin: Origin) -> np.ndarray:
    """Longitude and latitude -> east and north of the origin."""
    places = np.column_stack([ring[:, 1], ring[:, 0], np.full(len(ring), origin[2])])
    return to_enu(places, origin)[:, :2]


def inside(points: np.ndarray, rings: tuple[np.ndarray, ...]) -> np.ndarray:
    """Which points (..., 2) lie in a polygon, its later rings being holes: odd crossings of a ray."""
    odd = np.zeros(points.shape[:-1], dtype=bool)
    low, high = rings[0].min(0), rings[0].max(0)
    near = ((points >= low) & (points <= high)).all(-1)
    x, y = points[near, 0], points[near, 1]
    count = np.zeros(len(x), dtype=bool)
    for ring in rings:
        for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if ay == by:
                continue
            crosses = (ay > y) != (by > y)
            count ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    odd[near] = count
    return odd
