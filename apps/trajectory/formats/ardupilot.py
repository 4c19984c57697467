"""ArduPilot's log as text: `POS` rows of the estimator, `GPS` where there are none.

A `FMT` row names the columns of each kind (https://ardupilot.org/copter/docs/common-logs.html).
"""

import io
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError

KINDS = ("POS", "GPS")
"""Rows with places, the better ones first."""
WANTED = tuple(f"{kind},".encode() for kind in ("FMT", *KINDS))
NAMES = {"TimeUS": "time_us", "Lat": "lat", "Lng": "lon", "Alt": "alt", "I": "instance"}
"""Their columns -> the names that tables here have."""


def read_ardupilot(path: Path, text: bytes, options: Options) -> list[Track]:
    """Tracks of the best kind of row that the log has; a row that is cut is left out.

    Raises:
        DataError: no rows with places.
    """
    columns: dict[str, list[str]] = {}
    rows: dict[str, list[list[str]]] = {kind: [] for kind in KINDS}
    for line in io.BytesIO(text):
        if not line.lstrip().startswith(WANTED):
            continue
        cells = [cell.strip() for cell in line.decode(errors="replace").split(",")]
        if cells[0] == "FMT" and len(cells) > 5:
            if not rows.get(cells[3]):  # the names of rows that were read stay
                columns[cells[3]] = cells[5:]
        elif cells[0] in rows and len(cells) - 1 == len(columns.get(cells[0], ())):
            rows[cells[0]].append(cells[1:])
            if len(rows[cells[0]]) > OBJECTS:
                raise DataError(f"{path}: more than {OBJECTS:,} rows of {cells[0]}; cut it into parts.")
    frames = {kind: pd.DataFrame(rows[kind], columns=columns[kind]) for kind in KINDS if rows[kind]}
    return from_kinds(path, frames, options)


def from_kinds(path: Path, frames: Mapping[str, pd.DataFrame], options: Options) -> list[Track]:
    """Tracks of the best kind of row that there is.

    Raises:
        DataError: no rows with places.
    """
    for kind in KINDS:
        if kind in frames:
            whole = frames[kind]
            frame = pd.DataFrame({ours: whole[name] for name, ours in NAMES.items() if name in whole})
            return from_names(Table(path, frame, named=True), options)
    raise DataError(f"{path}: the ArduPilot log has neither POS nor GPS rows.")
