"""Raw arrays of one track -> a checked Track."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from apps.trajectory.formats.clock import going_on
from apps.trajectory.formats.jumps import outliers
from apps.trajectory.formats.options import to_enu_axes
from apps.trajectory.formats.stamps import Stamps
from apps.trajectory.track import Track
from core.errors import DataError

FARTHEST_M = 1e9
FASTEST_MPS = 150.0
"""A higher median speed is no drone, car, ship or pedestrian in metres."""


def assemble(
    path: Path,
    name: str,
    stamps: Stamps,
    positions: np.ndarray,
    velocities: np.ndarray | None = None,
    *,
    frame: str | None = None,
    origin: tuple[float, float, float] | None = None,
    has_clock: bool = True,
    gate: bool | float | str = True,
    warnings: Sequence[str] = (),
) -> Track:
    """Sort by time, keep the last of equal stamps, leave out what is not finite or jumps, and say so.

    Raises:
        DataError: no finite row, or positions that are no place on earth.
    """
    told = [*warnings, *stamps.warnings]
    usable = stamps.known & np.isfinite(positions).all(1)
    if not usable.any():
        raise DataError(f"{path}: {name} has no row with a time and a finite position.")
    if not usable.all():
        told.append(f"{plural(int((~usable).sum()), 'row')} without a finite time and position left out.")
    ns, again = going_on(stamps.ns[usable])
    told += again
    positions = positions[usable]
    if np.abs(positions).max() > FARTHEST_M:
        raise DataError(
            f"{path}: {name} has a position of {np.abs(positions).max():.3g} m; is a column mistaken?"
        )
    order = np.argsort(ns, kind="stable")
    late = int((np.diff(ns) < 0).sum())
    if late:
        told.append(f"time goes back {plural(late, 'time')}; rows are sorted.")
    ordered = ns[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    if not last.all():
        told.append(f"{plural(int((~last).sum()), 'repeated stamp')}; the last row of each is kept.")
    order = order[last]
    ns, positions = ns[order], to_enu_axes(positions[order], frame)
    if velocities is not None:
        velocities = velocities[usable][order]
        velocities = to_enu_axes(velocities, frame) if np.isfinite(velocities).all() else None
    metres = None if isinstance(gate, bool | str) else float(gate)
    wrong, said = outliers((ns - ns[0]) * 1e-9, positions, metres) if gate else (np.zeros(0, dtype=bool), [])
    if wrong.any():
        ns, positions = ns[~wrong], positions[~wrong]
        velocities = None if velocities is None else velocities[~wrong]
    told += said
    time_s = (ns - ns[0]) * 1e-9
    if not (np.diff(time_s) > 0).all():  # centuries in nanoseconds: a float no longer tells neighbours apart
        raise DataError(f"{path}: {name} lasts {time_s[-1] / 3.156e7:,.0f} years; is a time mistaken?")
    told += suspicions(time_s, positions)
    start_ns = int(ns[0]) if has_clock else None
    return Track(name, str(path), time_s, start_ns, positions, velocities, origin, tuple(told))


def suspicions(time_s: np.ndarray, positions: np.ndarray) -> list[str]:
    """What makes a track look wrong without being impossible."""
    if len(time_s) < 2:
        return ["a single sample, so nothing can be predicted."]
    steps = np.diff(time_s)
    told = []
    if np.median(steps) > 60:
        told.append(f"the median step is {np.median(steps):.3g} s; --read time_unit=?")
    elif np.median(steps) < 1e-5:
        told.append(f"the median step is {np.median(steps):.3g} s; --read time_unit=?")
    distances = np.sqrt((np.diff(positions, axis=0) ** 2).sum(1))
    speed = float(np.median(distances / steps))
    whole = bool((positions == np.round(positions)).all())
    if speed > FASTEST_MPS or (whole and speed > FASTEST_MPS / 10):
        told.append(f"the median speed is {speed:.3g} m/s; are the positions in millimetres?")
    return told


def plural(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}{'s' * (count != 1)}"
