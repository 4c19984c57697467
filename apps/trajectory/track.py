"""A track: where one thing was, and when."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError

# One UZH-FPV flight is recorded once per camera, so these words say which clock, not which flight.
SENSORS = re.compile(r"(?:^|[_-])(?:davis|snapdragon)(?=$|[_-])", re.IGNORECASE)
DATES = (631_152_000 * 10**9, 4_102_444_800 * 10**9)
"""Nanoseconds since 1970 of 1990 and 2100."""
NEAR = 1e-6
"""Seconds that rounding may cost."""
SUFFIXES = {
    ".gz", ".csv", ".txt", ".tum", ".ulg", ".parquet", ".json", ".jsonl", ".ndjson", ".gpx", ".log",
    ".bin", ".tlog", ".bag", ".mcap", ".db3", ".nmea",
}  # fmt: skip


@dataclass(frozen=True)
class Track:
    """Positions over time, in metres, z up; times are sorted and no stamp appears twice."""

    name: str
    """File name without its suffix, and the values of the columns that tell tracks apart."""
    source: str
    """Path of the file."""
    time_s: np.ndarray
    """(N,) float64 seconds since the first sample or, where `start_ns` is None, as written in the file."""
    start_ns: int | None
    """Absolute time of the first sample; None where the file's clock has no such zero."""
    positions: np.ndarray
    """(N, D) float64."""
    velocities: np.ndarray | None = None
    """(N, D) float64 m/s where the file has them."""
    origin: tuple[float, float, float] | None = None
    """(latitude deg, longitude deg, altitude m) of the local zero, for geographic files."""
    warnings: tuple[str, ...] = ()
    """What was repaired or looks suspicious, one sentence each."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the reader understood: `format`, and `columns`, role -> name and unit."""

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def dated(self) -> bool:
        """Whether the clock tells a date, and not only how long something has run."""
        return self.start_ns is not None and DATES[0] <= self.start_ns <= DATES[1]

    def utc(self, time_s: float) -> str | None:
        """A time of the track as RFC 3339 in UTC, to the microsecond; None where the clock tells no date."""
        if not self.dated or self.start_ns is None:
            return None
        us = (self.start_ns + round(time_s * 1e9) + 500) // 1000
        moment = datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")

    def seconds(self, moment: float) -> float:
        """A moment on the track's clock: seconds since its first sample, or the file's own time.

        Raises:
            DataError: it lies outside of the track.
        """
        end = float(self.time_s[-1]) if len(self.time_s) else 0.0
        found = moment
        if moment > end + NEAR and self.start_ns is not None:
            found = moment - self.start_ns * 1e-9
        if not -NEAR <= found <= end + NEAR:
            first = 0 if self.start_ns is None else self.start_ns * 1e-9
            own = f" ({first:.3f} to {first + end:.3f} on the file's clock)" if first else ""
            raise DataError(
                f"{self.name}: {moment:g} s is beyond the track, which lasts 0 to {end:.3f} s{own}."
            )
        return found

    @cached_property
    def flight(self) -> str:
        """The physical flight, equal for two recordings of it: the unit of every split."""
        path = Path(self.source).resolve()
        parts = [SENSORS.sub("", part) for part in (*path.parent.parts, stem_of(path))]
        inside = self.name.removeprefix(stem_of(path))
        return str(Path(*parts)) + inside


def stem_of(path: Path) -> str:
    """File name without the suffixes of the formats: `flights/C1.csv.gz` -> `C1`."""
    path = Path(path.name)
    while path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.name
