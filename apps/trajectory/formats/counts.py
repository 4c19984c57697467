"""Times from a column that counts samples or frames."""

import numpy as np

from apps.trajectory.formats.ids import as_text, numbered
from apps.trajectory.formats.names import IDS, find_columns, plain
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from core.errors import DataError

STEPS_S = {"timestep": 0.1, "time_step": 0.1}
"""Columns that count samples -> seconds from one to the next (Argoverse 2)."""


FRAMES = ("frame", "frame_id", "frame_number", "frame_num", "frame_index", "frameid", "framenum")
"""Columns that count frames; how many a second is for the caller to say."""


def counted(table: Table, options: Options) -> tuple[np.ndarray, str] | None:
    """Seconds of every row from a column that counts samples or frames, and what is said; None without one.

    Raises:
        DataError: frames, and nobody says how many a second.
    """
    names = {plain(str(name)): str(name) for name in table.rows.columns}
    for spelled, step in STEPS_S.items():
        if spelled in names:
            step = 1 / options.rate if options.rate else step
            return table.numbers(names[spelled]) * step, f"{names[spelled]!r} counts steps of {step:g} s."
    for spelled in FRAMES:
        if spelled in names:
            rate, why = options.rate, ""
            if rate is None:
                rate = by_velocity(table, names[spelled])
                why = ", by the velocities beside them; see --read rate="
            if rate is None:
                raise DataError(
                    f"{table.path}: {names[spelled]!r} counts frames; --read rate=25 says how many a second."
                )
            seconds = table.numbers(names[spelled]) / rate
            return seconds, f"{names[spelled]!r} counts frames, {rate:g} a second{why}."
    return None


USUAL = (1, 2, 2.5, 5, 10, 12.5, 15, 20, 24, 25, 30, 50, 60, 100, 120)
"""Frames a second that cameras and data sets have."""
CLOSE = 0.03
"""Share by which a rate that velocities imply may miss a usual one."""


def by_velocity(table: Table, frame: str) -> float | None:
    """Frames a second at which positions change as the velocities beside them say; None without any."""
    found = find_columns(str(name) for name in table.rows.columns)
    if not {"x", "y", "vx", "vy"} <= found.keys():
        return None
    x, y, vx, vy = (table.numbers(found[name]) for name in ("x", "y", "vx", "vy"))
    count = table.numbers(frame)
    ids = {plain(str(name)): str(name) for name in table.rows.columns}
    name = next((ids[spelled] for spelled in IDS if spelled in ids), None)
    owner = np.zeros(len(x)) if name is None else numbered(as_text(table.rows, [name]))
    order = np.lexsort((count, owner))
    next_one = (np.diff(owner[order]) == 0) & (np.diff(count[order]) == 1)
    way, speed = np.hypot(np.diff(x[order]), np.diff(y[order])), np.hypot(vx[order], vy[order])
    good = next_one & (way > 0) & (speed[:-1] > 0)
    if good.sum() < 10:
        return None
    implied = float(np.median((speed[:-1] + speed[1:])[good] / 2 / way[good]))
    usual = min(USUAL, key=lambda rate: abs(np.log(rate / implied)))
    return float(usual) if abs(usual / implied - 1) < CLOSE else None
