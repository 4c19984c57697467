"""File formats of tracks: found by content, or named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from apps.trajectory.formats.ardupilot import read_ardupilot
from apps.trajectory.formats.basestation import is_basestation, read_basestation
from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.dataflash import read_dataflash
from apps.trajectory.formats.euroc import read_euroc
from apps.trajectory.formats.frames import is_boxes, is_walkers, read_boxes, read_walkers
from apps.trajectory.formats.gpx import read_gpx
from apps.trajectory.formats.json_lines import read_json
from apps.trajectory.formats.kitti import read_kitti
from apps.trajectory.formats.nmea import is_nmea, read_nmea
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.parquet import read_parquet
from apps.trajectory.formats.rosbag import bag_kind, read_bag
from apps.trajectory.formats.source import as_text, read_bytes
from apps.trajectory.formats.table import Table, parse
from apps.trajectory.formats.tlog import is_tlog, read_tlog
from apps.trajectory.formats.tum import read_tum
from apps.trajectory.formats.ulog import read_ulog
from apps.trajectory.track import Track
from core.errors import DataError

FORMATS = (
    "tum", "euroc", "kitti", "csv", "parquet", "ulog", "jsonl", "gpx", "ardupilot",
    "dataflash", "tlog", "rosbag", "nmea", "walkers", "boxes", "basestation",
)  # fmt: skip
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
    if kind == "rosbag":
        tracks = read_bag(path, options)
    elif kind in PACKED:
        tracks = PACKED[kind](path, data, options)
    else:
        text = as_text(path, data)
        kind = kind or textual_kind(text) or "table"
        tracks = read_text(path, text, options)
    if all(len(track) < 2 for track in tracks):
        raise DataError(f"{path}: a single sample; a track needs two or more.")
    return [replace(track, about={"format": kind, **track.about}) for track in tracks]


def binary_kind(data: bytes) -> str | None:
    """ulog, parquet, dataflash, tlog, rosbag, or None for text."""
    if bag_kind(data) is not None:
        return "rosbag"
    known = {b"ULog": "ulog", b"PAR1": "parquet", b"\xa3\x95\x80\x80": "dataflash"}.get(data[:4])
    return known or ("tlog" if is_tlog(data) else None)


PACKED: dict[str, Callable[[Path, bytes, Options], list[Track]]] = {
    "ulog": read_ulog,
    "parquet": read_parquet,
    "dataflash": read_dataflash,
    "tlog": read_tlog,
}
"""Binary formats whose bytes are read here."""


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
    if kind == "walkers":
        return read_walkers(table, options)
    if kind == "boxes":
        return read_boxes(table, options)
    if kind == "basestation":
        return read_basestation(table, options)
    if kind == "euroc" and not (table.named and table.sure):
        return read_euroc(table, options)
    return from_names(table, options)


READERS: dict[str, Callable[[Path, bytes, Options], list[Track]]] = {
    "jsonl": read_json,
    "gpx": read_gpx,
    "ardupilot": read_ardupilot,
    "nmea": read_nmea,
}
"""Text that is no table."""


def textual_kind(text: bytes) -> str | None:
    """jsonl, gpx, ardupilot, or None for a table."""
    begin = text.lstrip()[:4]
    if begin[:1] in (b"{", b"["):
        return "jsonl"
    if is_nmea(text):
        return "nmea"
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
    if is_walkers(table):
        return "walkers"
    if is_boxes(table):
        return "boxes"
    if is_basestation(table):
        return "basestation"
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
