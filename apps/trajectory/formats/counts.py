"""Times from a column that counts samples or frames."""

import numpy as np

from apps.trajectory.formats.names import plain
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
            if options.rate is None:
                raise DataError(
                    f"{table.path}: {names[spelled]!r} counts frames; --read rate=25 says how many a second."
                )
            seconds = table.numbers(names[spelled]) / options.rate
            return seconds, f"{names[spelled]!r} counts frames, {options.rate:g} a second."
    return None
