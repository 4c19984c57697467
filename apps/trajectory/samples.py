"""One observation of a live stream, and how it is read from the wire."""

import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from apps.trajectory.geo import Origin, to_enu
from core.errors import DataError

Origins = dict[str | int, Origin]

FARTHEST_M = 1e9
"""As in files: no place on earth is further."""
OTHERS = {
    "t": ("time", "timestamp", "stamp"),
    "id": ("track_id", "name", "icao24", "mmsi"),
    "p": ("position", "pos"),
    "v": ("velocity", "vel"),
    "lat": ("latitude",),
    "lon": ("lng", "longitude"),
    "alt": ("altitude", "height", "ele"),
}
"""What other senders call it."""
MAX_LINE = 65_536
"""Bytes of one sample on the wire; longer is not a sample."""


@dataclass(frozen=True)
class Sample:
    """One observation. p in metres (x, y, z or x, y), v in metres per second if it is known."""

    t: float
    id: str | int
    p: tuple[float, ...]
    v: tuple[float, ...] | None = None
    origin: Origin | None = None
    """Where p is zero, for a sample that came as latitude, longitude, altitude."""
    arrival: float | None = None
    """When it came in, on the clock of `time.perf_counter`; None: when it is fed."""
    unit: str = "s"
    """What its time was written in, by its size."""
    resets: int | None = None
    """How often its estimator has set the position anew, where it says so."""


def parse_sample(line: str | bytes, origins: Origins | None = None) -> Sample:
    """A sample from a JSON line `{"t": 1.5, "id": "a", "p": [x, y, z], "v": [..]}`; id and v may be missing.

    In place of "p" a line may have "lat", "lon" (degrees) and "alt" (metres); p is then east, north, up.

    Args:
        origins: id -> where its metres begin; a new id begins at its first place.

    Raises:
        DataError: not such a line; says what is wrong.
    """
    if len(line) > MAX_LINE:
        raise DataError(f"a line of {len(line)} bytes is not a sample; the limit is {MAX_LINE}.")
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON line ({error}).") from error
    if isinstance(record, dict) and not ("t" in record and isinstance(record.get("p"), list)):
        record = by_our_names(record)
    placed = isinstance(record, dict) and "p" not in record and {"lat", "lon"} <= record.keys()
    if not isinstance(record, dict) or "t" not in record or not ("p" in record or placed):
        raise DataError('a sample needs "t" (seconds) and "p" (metres), such as {"t": 1.5, "p": [0, 0, 1]}.')
    name = record.get("id", 0)
    if not isinstance(name, (str, int)) or (isinstance(name, str) and len(name) > 256):
        raise DataError(f"id must be a short text or a whole number, got {str(name)[:40]!r}.")
    velocity = record.get("v")
    origin = None
    if placed:
        lat, lon, alt = (number(record.get(key, 0), key) for key in ("lat", "lon", "alt"))
        place = lat, lon, alt
        if abs(place[0]) > 90 or abs(place[1]) > 360:
            raise DataError(f"latitude {place[0]:g}, longitude {place[1]:g} is no place; swapped?")
        origin = ({} if origins is None else origins).setdefault(name, place)
        position = tuple(to_enu(np.array(place), origin).tolist())
    else:
        position = vector(record["p"], "p")
    speed = None if velocity is None else vector(velocity, "v")
    if speed is not None and len(speed) != len(position):
        raise DataError(f"v has {len(speed)} values and p {len(position)}.")
    time_s, unit = seconds(record["t"])
    return Sample(time_s, name, position, speed, origin, time.perf_counter(), unit)


def by_our_names(record: dict[str, Any]) -> dict[str, Any]:
    """A record of other senders: names as files have them, positions as objects or as three numbers."""
    for ours, names in OTHERS.items():
        theirs = next((name for name in names if name in record), None)
        if ours not in record and theirs is not None:
            record[ours] = record[theirs]
    for ours, axes in (("p", ("x", "y", "z")), ("v", ("vx", "vy", "vz"))):
        found = record[ours] if isinstance(record.get(ours), dict) else record
        spelled = axes if found is record else ("x", "y", "z")
        known = [found[axis] for axis in spelled if axis in found]
        if not isinstance(record.get(ours), list) and len(known) >= 2:
            record[ours] = known
    return record


def seconds(told: Any) -> tuple[float, str]:
    """A time in seconds, and its unit: a date in ms, us or ns is so large that it is nothing else; ISO 8601
    text is a date."""
    if isinstance(told, str) and len(told) <= 40:
        try:
            moment = datetime.fromisoformat(told)
        except ValueError:
            moment = None
        if moment is not None:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), "date"
    moment = number(told, "t")
    for unit, low, factor in (("ns", 1e17, 1e-9), ("us", 1e14, 1e-6), ("ms", 1e11, 1e-3)):
        if abs(moment) >= low:
            return moment * factor, unit
    return moment, "s"


def number(value: Any, name: str) -> float:
    """A finite number, or DataError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{name} must be a number, got {str(value)[:40]!r}.")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise DataError(f"{name} must be finite, got {str(value)[:40]}.")
    return result


def vector(value: Any, name: str) -> tuple[float, ...]:
    """Two or three finite numbers of a size that a place can have, or DataError."""
    if not isinstance(value, list) or not 2 <= len(value) <= 3:
        raise DataError(f"{name} must be a list of 2 or 3 numbers, got {str(value)[:40]!r}.")
    found = tuple(number(item, name) for item in value)
    if max(map(abs, found)) > FARTHEST_M:
        raise DataError(f"{name} is {max(map(abs, found)):.3g} m; is a unit mistaken?")
    return found
