"""JSON lines, one sample each, or one array of samples.

`{"t":.., "id":.., "p":[..], "v":[..]}` as the live stream has them, `{"time":.., "x":.., "y":.., ...}`, or
objects inside objects as ROS has them, `{"header": {"stamp": {..}}, "pose": {"position": {..}}}`.
"""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError

DEEPEST = 8
"""Objects inside objects that are still columns."""


def read_json(path: Path, text: bytes, options: Options) -> list[Track]:
    """Tracks, one per id.

    Raises:
        DataError: a line that is not a JSON object of numbers and text.
    """
    records = parse_records(path, text)
    vectors = {"p": "xyz", "position": "xyz", "v": ("vx", "vy", "vz"), "velocity": ("vx", "vy", "vz")}
    rows = []
    for number, record in records:
        row = {}
        for key, value in flattened(record).items():
            if isinstance(value, list) and key in vectors and len(value) <= 3:
                row |= {
                    axis: scalar(path, number, key, cell)
                    for axis, cell in zip(vectors[key], value, strict=False)
                }
            else:
                row[key] = scalar(path, number, key, value)
        rows.append(row)
    try:
        table = Table(path, pd.DataFrame(rows), named=True)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: the samples make no table ({error}).") from None
    return from_names(table, options)


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


def parse_records(path: Path, text: bytes) -> list[tuple[int, dict[str, Any]]]:
    """(line, object) of every sample; in an array, the position counts for the line."""
    if text.lstrip()[:1] == b"[":
        found = parse_json(path, 1, text)
        records = list(enumerate(found if isinstance(found, list) else [found], 1))
    else:
        lines = enumerate(text.split(b"\n"), 1)
        records = [(number, parse_json(path, number, line)) for number, line in lines if line.strip()]
    for number, record in records:
        if not isinstance(record, dict):
            raise DataError(
                f'{path} line {number}: a sample is an object such as {{"t": 0.1, "p": [1, 2, 3]}}.'
            )
    if not records:
        raise DataError(f"{path}: the array is empty.")
    return records


def parse_json(path: Path, number: int, text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} line {number}: not JSON ({error}).") from None


def scalar(path: Path, number: int, key: str, value: Any) -> Any:
    """A number or text; null is a missing number, and any other thing is told by its JSON."""
    if value is None:
        return math.nan
    if isinstance(value, str | float):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, list | dict) and key not in ("p", "v", "position", "velocity", "t", "x", "y", "z"):
        return math.nan
    raise DataError(f"{path} line {number}: {key} is {json.dumps(value)[:40]}, not a number.")
