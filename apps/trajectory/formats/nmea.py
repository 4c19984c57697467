"""NMEA 0183 sentences of a receiver: positions of GGA (with altitude) and RMC (with the date).

Sums are checked; the two are joined by their time of day, which goes on over midnight.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError

DAY_S = 86_400.0


def is_nmea(text: bytes) -> bool:
    """Whether text begins with a sentence of a receiver."""
    begin = text.lstrip()[:7]
    return begin[:1] == b"$" and begin[3:6].isalpha() and begin[1:3].isalpha()


def read_nmea(path: Path, text: bytes, options: Options) -> list[Track]:
    """One track of the fixes; what has a wrong sum or no fix is left out and counted.

    Raises:
        DataError: no fix at all.
    """
    rows: dict[float, dict[str, Any]] = {}
    wrong = nowhere = 0
    days, before, date = 0, -1.0, None
    for line in text.split(b"\n"):
        sentence = line.strip()
        if not sentence.startswith(b"$"):
            continue
        cells = checked(sentence)
        if cells is None:
            wrong += 1
            continue
        kind = cells[0][2:]
        if kind not in ("GGA", "RMC") or len(cells) < 10:
            continue
        try:
            moment = time_of_day(cells[1])
            if kind == "RMC" and len(cells[9]) == 6:
                day = datetime.strptime(cells[9], "%d%m%y").replace(tzinfo=UTC).timestamp()
                date = day - days * DAY_S if date is None else date
            if before - moment > DAY_S / 2:
                days += 1
            before = moment
            fixed = cells[6] != "0" if kind == "GGA" else cells[2] == "A"
            first = 2 if kind == "GGA" else 3
            if not fixed or not cells[first]:
                nowhere += 1
                continue
            place = {"lat": degrees(*cells[first : first + 2]), "lon": degrees(*cells[first + 2 : first + 4])}
            if kind == "GGA" and cells[9]:
                place["alt"] = float(cells[9])
        except ValueError:
            wrong += 1
            continue
        rows.setdefault(days * DAY_S + moment, {}).update(place)
        if len(rows) > OBJECTS:
            raise DataError(f"{path}: more than {OBJECTS:,} fixes; cut it into parts.")
    if not rows:
        raise DataError(f"{path}: NMEA sentences without a fix ({wrong} have a wrong sum, {nowhere} no fix).")
    whole = [round((date or 0) + moment, 6) for moment in rows]
    frame = pd.DataFrame([{**place} for place in rows.values()])
    frame["time_us"] = [round(moment * 1e6) if abs(moment) < 1e11 else None for moment in whole]
    tracks = from_names(Table(path, frame, named=True), options)
    told = []
    if wrong:
        told.append(f"{wrong} sentences with a wrong sum left out.")
    if nowhere:
        told.append(f"{nowhere} sentences without a fix left out.")
    if date is None:
        told.append("no RMC sentence gives a date; times are of the day.")
    return [replace(track, warnings=(*told, *track.warnings)) for track in tracks]


def checked(sentence: bytes) -> list[str] | None:
    """Cells of a sentence whose sum is right (or missing); None for a wrong one."""
    body, star, told = sentence[1:].partition(b"*")
    if star:
        total = 0
        for byte in body:
            total ^= byte
        try:
            if int(told[:2], 16) != total:
                return None
        except ValueError:
            return None
    return body.decode(errors="replace").split(",")


def time_of_day(cell: str) -> float:
    """`hhmmss.ss` -> seconds."""
    return int(cell[:2]) * 3600 + int(cell[2:4]) * 60 + float(cell[4:])


def degrees(cell: str, side: str) -> float:
    """`ddmm.mmmm`, N, S, E or W -> degrees."""
    point = cell.index(".") if "." in cell else len(cell)
    value = float(cell[: point - 2] or 0) + float(cell[point - 2 :]) / 60
    return -value if side in ("S", "W") else value
