"""A track: where one thing was, and when."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

# One UZH-FPV flight is recorded once per camera, so these words say which clock, not which flight.
SENSORS = re.compile(r"(?:^|[_-])(?:davis|snapdragon)(?=$|[_-])", re.IGNORECASE)
SUFFIXES = {".gz", ".csv", ".txt", ".tum", ".ulg", ".parquet", ".json", ".jsonl", ".ndjson"}


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

    def __len__(self) -> int:
        return len(self.time_s)

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
