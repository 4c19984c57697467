"""What a caller may say about a file instead of letting it be detected."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.trajectory.formats.units import LENGTHS
from core.errors import DataError

TIME_UNITS = {"s": 10**9, "d": 86_400 * 10**9, "ds": 10**8, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds in one unit."""
COLUMNS = ("t", "x", "y", "z", "vx", "vy", "vz", "lat", "lon", "alt")
FRAMES = ("enu", "ned", "camera")


@dataclass(frozen=True)
class Options:
    """The arguments of `read_tracks`; None means: detect."""

    format: str | None = None
    columns: Mapping[str, str] | None = None
    time_unit: str | None = None
    group: tuple[str, ...] | None = None
    rate: float | None = None
    times: Path | None = None
    frame: str | None = None
    gate: bool | float | str = True
    """Leave out samples that no mover can have been at: true, off, or the metres from which on."""
    t: str | None = None
    """The same as time_unit."""
    alt: str | None = None
    """Unit of the altitude: m, ft, mm, ..."""

    def __post_init__(self) -> None:
        if self.t is not None and self.time_unit is None:
            object.__setattr__(self, "time_unit", self.t)
        if self.alt is not None and self.alt not in LENGTHS:
            raise DataError(f"no unit {self.alt!r} of altitude; choose {', '.join(LENGTHS)}.")
        if self.time_unit is not None and self.time_unit not in (*TIME_UNITS, "iso", "dmy", "mdy"):
            raise DataError(f"no time unit {self.time_unit!r}; choose s, d, ds, ms, us, ns, iso, dmy or mdy.")
        if self.frame is not None and self.frame not in FRAMES:
            raise DataError(f"no frame {self.frame!r}; choose {', '.join(FRAMES)}.")
        if self.rate is not None and not (np.isfinite(self.rate) and self.rate > 0):
            raise DataError(f"the rate must be a positive number of samples per second, got {self.rate}.")
        if self.gate in ("on", "off"):
            object.__setattr__(self, "gate", self.gate == "on")
        elif isinstance(self.gate, str) or not (isinstance(self.gate, bool) or 0 < self.gate < np.inf):
            raise DataError(f"gate is on, off or a positive number of metres; got {self.gate!r}.")
        unknown = [name for name in self.columns or () if name not in COLUMNS]
        if unknown:
            raise DataError(f"columns: there are {', '.join(COLUMNS)}; not {', '.join(unknown)}.")


def to_enu_axes(vectors: np.ndarray, frame: str | None) -> np.ndarray:
    """Positions or velocities (N, D) with z up.

    ned     (north, east, down)    -> (east, north, -down)
    camera  (right, down, forward) -> (right, forward, -down)
    """
    if frame in (None, "enu"):
        return vectors
    if frame == "ned":
        return np.concatenate([vectors[:, [1, 0]], -vectors[:, 2:]], 1)
    if vectors.shape[1] != 3:
        raise DataError(f"frame camera needs three axes, the file has {vectors.shape[1]}.")
    return np.stack([vectors[:, 0], vectors[:, 2], -vectors[:, 1]], 1)
