"""Tables whose time is a frame number: ETH/UCY, Stanford Drone, TrajNet++, and a column of steps.

ETH and UCY as they are handed round: `frame pedestrian x y` without a header, 2.5 positions a second, every
6th or 10th frame of the video. Stanford Drone: ten columns with the corners of a box in pixels, 30 frames a
second. TrajNet++: JSON lines `{"track": {"f": .., "p": .., "x": .., "y": ..}}`, the rate in `scene`.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table, numeric
from apps.trajectory.track import Track
from core.errors import DataError

WALKERS_HZ, BOXES_HZ = 2.5, 30.0
IDS_APART = 3
"""An id has so many rows on average, or it is none."""


def whole(table: Table, name: str) -> np.ndarray | None:
    """A column of whole numbers that are not negative, or None."""
    values = numeric(table.column(name)).to_numpy(dtype=np.float64, na_value=np.nan)
    good = np.isfinite(values).all() and (values >= 0).all() and (values % 1 == 0).all()
    return values if good else None


def is_walkers(table: Table) -> bool:
    """`frame pedestrian x y`: the first column whole and repeating, the second whole and small."""
    names = list(table.rows.columns)
    if table.named or len(names) != 4:
        return False
    frames, walkers = whole(table, names[0]), whole(table, names[1])
    if frames is None or walkers is None or walkers.max() > 1e6:
        return False
    repeats = len(np.unique(frames)) < len(frames)
    return repeats and len(np.unique(walkers)) * IDS_APART <= len(walkers)


def is_boxes(table: Table) -> bool:
    """`track xmin ymin xmax ymax frame lost occluded generated label`."""
    names = list(table.rows.columns)
    if table.named or len(names) != 10 or pd.api.types.is_numeric_dtype(table.column(names[9])):
        return False
    flags = [whole(table, name) for name in names[6:9]]
    return whole(table, names[0]) is not None and all(x is not None and x.max() <= 1 for x in flags)


def read_walkers(table: Table, options: Options) -> list[Track]:
    """Tracks of pedestrians, metres."""
    if len(table.rows.columns) != 4:
        raise DataError(f"{table.path}: pedestrians are rows of frame, id, x and y.")
    frames, ids, x, y = (table.column(name) for name in table.rows.columns)
    told = f"read as frame, pedestrian, x, y (ETH/UCY), {WALKERS_HZ:g} positions a second; see --read rate="
    rows = {"track_id": ids.astype("str"), "x": x, "y": y}
    return stepped(table, numeric(frames).to_numpy(np.float64), rows, WALKERS_HZ, options, told)


def read_boxes(table: Table, options: Options) -> list[Track]:
    """Centres of boxes, pixels."""
    names = list(table.rows.columns)
    if len(names) != 10:
        raise DataError(f"{table.path}: boxes are rows of ten columns, of which the last is a label.")
    seen = numeric(table.column(names[6])) == 0
    labelled: Any = table.rows[seen.to_numpy()]
    kept = Table(table.path, labelled.reset_index(drop=True), named=False)
    left, top, right, bottom = (numeric(kept.column(name)) for name in names[1:5])
    rows = {
        "track_id": kept.column(names[0]).astype("str"),
        "x": (left + right) / 2,
        "y": -(top + bottom) / 2,
    }
    told = f"read as boxes of the Stanford Drone set, {BOXES_HZ:g} frames a second: positions are pixels"
    frames = numeric(kept.column(names[5])).to_numpy(np.float64)
    return from_frames(kept, frames / (options.rate or BOXES_HZ), rows, options, told)


def read_scenes(path: Path, records: Iterable[tuple[int, Any]], options: Options) -> list[Track]:
    """TrajNet++.

    Raises:
        DataError: a track without frame, person, x and y, or a rate that is none.
    """
    usual, found = WALKERS_HZ, []
    for number, record in records:
        part = record if isinstance(record, dict) else {}
        scene, walker = part.get("scene"), part.get("track")
        if isinstance(scene, dict) and isinstance(scene.get("fps"), int | float):
            usual = float(scene["fps"])
        if walker is None:
            continue
        cells = [walker.get(name) for name in ("f", "p", "x", "y")] if isinstance(walker, dict) else [None]
        if not all(isinstance(cell, int | float) for cell in cells):
            raise DataError(f"{path} line {number}: a track of TrajNet++ has numbers f, p, x and y.")
        found.append(cells)
        if len(found) > OBJECTS:
            raise DataError(f"{path}: more than {OBJECTS:,} positions; cut it into parts.")
    if not found or not 0 < usual <= 1000:
        raise DataError(f"{path}: no positions of TrajNet++, or {usual:g} of them a second.")
    rows = pd.DataFrame(found, columns=["f", "p", "x", "y"])
    told = f"read as TrajNet++: frame f, person p, {usual:g} positions a second; see --read rate="
    columns = {"track_id": rows["p"].astype("str"), "x": rows["x"], "y": rows["y"]}
    frames = rows["f"].to_numpy(np.float64)
    return stepped(Table(path, rows, named=True), frames, columns, usual, options, told)


def stepped(
    table: Table, frames: np.ndarray, rows: dict[str, Any], usual_hz: float, options: Options, told: str
) -> list[Track]:
    """Tracks whose positions come every so many frames: the commonest step between frames is one position."""
    gaps = np.diff(np.unique(frames[np.isfinite(frames)]))
    step = float(np.median(gaps)) if len(gaps) else 1.0
    rate = options.rate or usual_hz
    return from_frames(table, frames / (step * rate), rows, options, f"{told} (every {step:g} frames)")


def from_frames(
    table: Table, seconds: np.ndarray, rows: dict[str, Any], options: Options, told: str
) -> list[Track]:
    """Tracks of columns whose times are worked out, with what is to be said about them."""
    frame = pd.DataFrame({**rows, "t": seconds.round(9)})
    plainly = replace(options, rate=None, time_unit="s", columns=None, group=None)
    tracks = from_names(Table(table.path, frame, named=True), plainly)
    return [replace(track, start_ns=None, warnings=(told + ".", *track.warnings)) for track in tracks]
