"""File formats of tracks: found by content, or named."""

from collections.abc import Callable
from pathlib import Path

from apps.trajectory.formats.ardupilot import read_ardupilot
from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.euroc import read_euroc
from apps.trajectory.formats.gpx import read_gpx
from apps.trajectory.formats.json_lines import read_json
from apps.trajectory.formats.kitti import read_kitti
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.parquet import read_parquet
from apps.trajectory.formats.source import as_text, read_bytes
from apps.trajectory.formats.table import Table, parse
from apps.trajectory.formats.tum import read_tum
from apps.trajectory.formats.ulog import read_ulog
from apps.trajectory.track import Track
from core.errors import DataError

FORMATS = ("tum", "euroc", "kitti", "csv", "parquet", "ulog", "jsonl", "gpx", "ardupilot")
"""`csv` is any text table with names: the paper's, geographic, rosbag exports, one's own."""

__all__ = ["FORMATS", "Options", "detect", "read"]


def read(path: Path, options: Options) -> list[Track]:
    """Tracks of one file.

    Raises:
        DataError: missing, damaged, of no known format, or without a track of two samples.
    """
    if options.format is not None and options.format not in FORMATS:
        raise DataError(f"no format {options.format!r}; choose {', '.join(FORMATS)}.")
    data = read_bytes(path)
    kind = options.format or binary_kind(data)
    if kind == "ulog":
        tracks = read_ulog(path, data, options)
    elif kind == "parquet":
        tracks = read_parquet(path, data, options)
    else:
        tracks = read_text(path, as_text(path, data), options)
    if all(len(track) < 2 for track in tracks):
        raise DataError(f"{path}: a single sample; a track needs two or more.")
    return tracks


def binary_kind(data: bytes) -> str | None:
    """ulog, parquet, or None for text."""
    return {b"ULog": "ulog", b"PAR1": "parquet"}.get(data[:4])


def read_text(path: Path, text: bytes, options: Options) -> list[Track]:
    """Tracks of a text format."""
    kind = options.format or textual_kind(text)
    if kind in READERS:
        return READERS[kind](path, text, options)
    table = parse(path, text, options)
    kind = options.format or detect(table, options)
    if kind == "kitti":
        return read_kitti(table, options)
    if kind == "tum":
        return read_tum(table, options)
    if kind == "euroc" and not (table.named and table.sure):
        return read_euroc(table, options)
    return from_names(table, options)


READERS: dict[str, Callable[[Path, bytes, Options], list[Track]]] = {
    "jsonl": read_json,
    "gpx": read_gpx,
    "ardupilot": read_ardupilot,
}
"""Text that is no table."""


def textual_kind(text: bytes) -> str | None:
    """jsonl, gpx, ardupilot, or None for a table."""
    begin = text.lstrip()[:4]
    if begin[:1] in (b"{", b"["):
        return "jsonl"
    return "gpx" if begin[:1] == b"<" else "ardupilot" if begin == b"FMT," else None


def detect(table: Table, options: Options) -> str:
    """tum, euroc, kitti or csv, by the names of the columns or, without names, by their number.

    Raises:
        DataError: columns without names in a number that no format has.
    """
    if options.columns or (table.named and table.sure):
        return "csv"
    if table.named:
        try:
            from_names(table, options)
        except DataError:
            pass  # the comment above the data was prose
        else:
            return "csv"
    columns = list(table.rows.columns)
    if len(columns) == 12:
        return "kitti"
    first = table.rows[columns[0]].iloc[0]
    nanoseconds = len(str(first).split(".")[0]) >= 18
    if len(columns) in (8, 11, 17) and nanoseconds:
        return "euroc"
    if 3 <= len(columns) <= 8:
        return "tum"
    raise DataError(
        f"{table.path}: {len(columns)} columns without names are no format known here; "
        "name them by --read columns=t=0,x=1,y=2,z=3."
    )
