"""JSON lines, one sample each, or one array of samples.

`{"t":.., "id":.., "p":[..], "v":[..]}` as the live stream has them, `{"time":.., "x":.., "y":.., ...}`, or
objects inside objects as ROS has them, `{"header": {"stamp": {..}}, "pose": {"position": {..}}}`.
"""

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.frames import read_scenes
from apps.trajectory.formats.held import check_held, used
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import MAX_COLUMNS, Table
from apps.trajectory.track import Track
from core.errors import DataError

PIECE = 50_000
"""Samples that are objects at once."""
LONGEST = 1000
"""Characters of a text in a sample."""
VECTORS = {
    "p": ("x", "y", "z"),
    "position": ("x", "y", "z"),
    "v": ("vx", "vy", "vz"),
    "velocity": ("vx", "vy", "vz"),
}
"""Lists of numbers -> the columns that they are."""
SCENES = re.compile(rb'"track"\s*:\s*\{[^{}]*"f"\s*:')
"""What a line of TrajNet++ has."""
DEEPEST = 8
"""Objects inside objects that are still columns."""


def read_json(path: Path, text: bytes, options: Options) -> list[Track]:
    """Tracks, one per id.

    Raises:
        DataError: a line that is not a JSON object of numbers and text.
    """
    if SCENES.search(text[:65_536]):
        return read_scenes(path, parse_records(path, text), options)
    names: dict[str, bool] = {}  # name -> whether it may mean something
    parts, rows = [], []
    said: list[str] = []
    for number, record in parse_records(path, text, said):
        rows.append(row_of(path, number, record, names, options))
        if len(rows) == PIECE:
            parts.append(in_columns(path, rows, names, number))
            rows = []
            if not any(names.values()):
                break  # so many samples of another kind: `from_names` says what they have
    if rows:
        parts.append(in_columns(path, rows, names, PIECE * len(parts) + len(rows)))
    if not parts:
        raise DataError(f"{path}: the array is empty.")
    try:
        frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: the samples make no table ({error}).") from None
    return from_names(Table(path, frame, named=True, names=tuple(names), said=tuple(said)), options)


def row_of(path: Path, number: int, record: Any, names: dict[str, bool], options: Options) -> dict[str, Any]:
    """The cells of one sample that may mean something; `names` takes those that are new.

    Raises:
        DataError: no object, or a cell that is neither number nor text.
    """
    if not isinstance(record, dict) or not record:
        raise DataError(f'{path} line {number}: a sample is an object such as {{"t": 0.1, "p": [1, 2, 3]}}.')
    row = {}
    for key, value in flattened(record).items():
        if isinstance(value, list) and key in VECTORS and len(value) <= 3:
            cells = zip(VECTORS[key], value, strict=False)
            row |= {axis: scalar(path, number, key, cell) for axis, cell in cells}
            names.update(dict.fromkeys(VECTORS[key], True))
            continue
        if key not in names:
            names[key] = bool(used([key], options))
        if names[key]:
            row[key] = scalar(path, number, key, value)
    return row


def in_columns(path: Path, rows: list[dict[str, Any]], names: dict[str, bool], count: int) -> pd.DataFrame:
    """Samples as columns, which take a tenth of their memory.

    Raises:
        DataError: there would be too many, or they are no table.
    """
    if len(names) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(names):,} names of columns are no track.")
    check_held(path, count, sum(names.values()))
    try:
        return pd.DataFrame(rows)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: the samples make no table ({error}).") from None


def flattened(record: dict[str, Any], name: str = "", depth: int = 0) -> dict[str, Any]:
    """Objects inside objects as columns: `{"pose": {"x": 1}}` -> `{"pose_x": 1}`."""
    found: dict[str, Any] = {}
    for key, value in record.items():
        full = f"{name}_{key}" if name else str(key)
        if isinstance(value, dict) and value and depth < DEEPEST:
            found |= flattened(value, full, depth + 1)
        else:
            found[full] = value
    return found


def parse_records(path: Path, text: bytes, said: list[str] | None = None) -> Iterator[tuple[int, Any]]:
    """(line, what is there) of every sample; in an array, the position counts for the line.

    A last line that breaks off is left out, which `said` is told.
    """
    check_held(path, text.count(b"\n"), 1)
    if text.lstrip()[:1] == b"[" or is_document(text):
        check_held(path, text.count(b"{"), 1)
        yield from enumerate(samples_of(parse_json(path, 1, text)), 1)
        return
    for number, line in enumerate(io.BytesIO(text), 1):
        if line.isspace():
            continue
        try:
            record = parse_json(path, number, line)
        except DataError:
            if said is None or number == 1 or line.endswith(b"\n"):
                raise
            said.append("the last line breaks off; left out.")
            return
        yield number, record


def is_document(text: bytes) -> bool:
    """Whether an object goes on over lines, or is alone in its file and holds lists: no line is a sample."""
    line = text.lstrip().partition(b"\n")[0].strip()
    try:
        first = json.loads(line)
    except (ValueError, RecursionError):
        return line in (b"{", b'{"') or line.endswith((b",", b"[", b"{"))
    return isinstance(first, dict) and any(
        isinstance(value, list) and len(value) > 3 for value in first.values()
    )


def samples_of(found: Any, depth: int = 0) -> list[Any]:
    """The samples of a document: an array, the longest one inside it, or an array for each column."""
    if isinstance(found, list):
        return found
    if not isinstance(found, dict) or depth > 3:
        return [found]
    if isinstance(found.get("trace"), list) and isinstance(found.get("timestamp"), int | float):
        return aircraft(found)
    long = {key: value for key, value in found.items() if isinstance(value, list) and len(value) > 3}
    columns = {key: value for key, value in long.items() if not isinstance(value[0], dict)}
    if len(columns) > 1 and len({len(value) for value in columns.values()}) == 1:
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    inside = [value for value in long.values() if isinstance(value[0], dict)]
    for value in found.values():
        if (
            isinstance(value, dict)
            and isinstance(more := samples_of(value, depth + 1), list)
            and len(more) > 3
        ):
            inside.append(more)
    return max(inside, key=len) if inside else [found]


def aircraft(found: dict[str, Any]) -> list[Any]:
    """The trace of one aircraft as readsb keeps it: `[seconds since, lat, lon, feet or "ground", ..]`."""
    rows = [row for row in found["trace"] if isinstance(row, list) and len(row) > 3]
    numbers = [row for row in rows if all(isinstance(cell, int | float) for cell in row[:3])]
    return [
        {
            "t": found["timestamp"] + row[0],
            "icao24": str(found.get("icao", "aircraft")),
            "lat": row[1],
            "lon": row[2],
            "alt_ft": row[3] if isinstance(row[3], int | float) else None,
        }
        for row in numbers
    ]


def parse_json(path: Path, number: int, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} line {number}: not JSON ({error}).") from None


def scalar(path: Path, number: int, key: str, value: Any) -> Any:
    """A number or text; null is a missing number, and any other thing is told by its JSON."""
    if value is None:
        return math.nan
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        if len(value) > LONGEST or not (value.isascii() or is_unicode(value)):
            raise DataError(f"{path} line {number}: {key} is a text that is no time, number or name.")
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, list | dict) and key not in ("p", "v", "position", "velocity", "t", "x", "y", "z"):
        return math.nan
    raise DataError(f"{path} line {number}: {key} is {json.dumps(value)[:40]}, not a number.")


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: JSON can spell half of a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
