"""PX4 ULog: `vehicle_local_position` of every instance, north-east-down turned to east-north-up; in a log
without it the estimator's or the receiver's places. Resets that the estimator counts are taken out.

Through pyulog, which is optional (https://docs.px4.io/main/en/dev_log/ulog_file_format.html).
"""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from apps.trajectory.formats import resets
from apps.trajectory.formats.assemble import assemble
from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.stamps import Stamps
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track, stem_of
from core.errors import DataError, MissingExtraError

TOPIC = "vehicle_local_position"
PLACES = ("vehicle_global_position", "vehicle_gps_position", "sensor_gps")
"""Topics with places, for a log without that one; the better ones first."""
DATA = (b"A", b"L", b"C")
"""Messages that end the definitions."""
RESETS = (
    ("xy_reset_counter", (("delta_xy[0]", "delta_xy[1]"), ("delta_xy_x", "delta_xy_y")), (0, 1)),
    ("z_reset_counter", (("delta_z",),), (2,)),
)
"""Counter, the names of the shifts that come with it, the axes that they move."""
DATED_US = 10**15
"""Microseconds since 1970 that are a date and no counter."""


def read_ulog(path: Path, data: bytes, options: Options) -> list[Track]:
    """One track per instance of the best topic; samples that the estimator calls invalid are left out.

    Raises:
        DataError: damaged, or without any of the topics.
        MissingExtraError: pyulog is not installed.
    """
    try:
        from pyulog import ULog
    except ImportError as error:
        raise MissingExtraError('ULog files need pyulog: pip install "recurra[ulog]".') from error
    check_definitions(path, data)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            log: Any = ULog(io.BytesIO(data), [TOPIC, *PLACES])
            found = {(topic.name, topic.multi_id): topic.data for topic in log.data_list}
    except Exception as error:  # a parser of foreign bytes fails in whatever way it trips
        raise DataError(f"{path}: damaged ULog file ({type(error).__name__}: {error}).") from None
    kind = next((kind for kind in (TOPIC, *PLACES) if any(name == kind for name, _ in found)), None)
    if kind is None:
        raise DataError(f"{path}: the log has none of {', '.join((TOPIC, *PLACES))}.")
    topics = [topic for (name, _), topic in sorted(found.items(), key=lambda item: item[0]) if name == kind]
    told = ["the log ends inside a message; what is whole is read."] if is_cut(data) else []
    zero_us = started(found)
    tracks = []
    for index, topic in enumerate(topics):
        name = stem_of(path) if len(topics) == 1 else f"{stem_of(path)}/{index}"
        if kind == TOPIC:
            tracks.append(one_track(path, name, topic, options, zero_us, told))
        else:
            tracks += placed(path, name, topic, options, zero_us, told)
    return tracks


def is_cut(data: bytes) -> bool:
    """Whether the last message is not whole."""
    place = 16
    while place + 3 <= len(data):
        place += 3 + int.from_bytes(data[place : place + 2], "little")
    return place != len(data)


def started(found: dict[tuple[str, int], dict[str, np.ndarray]]) -> int:
    """Microseconds since 1970 at which the log's clock was zero, by the receiver; 0 where it never knew."""
    for (name, _), topic in found.items():
        if name in PLACES and "time_utc_usec" in topic:
            told = np.asarray(topic["time_utc_usec"]).astype(np.int64)
            known = told > DATED_US
            if known.any():
                return int(np.median(told[known] - np.asarray(topic["timestamp"]).astype(np.int64)[known]))
    return 0


def placed(
    path: Path, name: str, topic: dict[str, np.ndarray], options: Options, zero_us: int, told: list[str]
) -> list[Track]:
    """Tracks of a topic of latitude, longitude and altitude, in any of PX4's units."""
    columns: dict[str, Any] = {"time_us": np.asarray(topic["timestamp"]).astype(np.int64) + zero_us}
    for ours, names in (
        ("lat", ("latitude_deg", "lat")),
        ("lon", ("longitude_deg", "lon")),
        ("alt", ("altitude_msl_m", "alt")),
    ):
        theirs = next((key for key in names if key in topic), None)
        if theirs is not None:
            columns[ours] = np.asarray(topic[theirs], dtype=np.float64)
    if "lat_lon_reset_counter" in topic or "alt_reset_counter" in topic:
        columns, said = without_leaps(topic, columns)
        told = [*told, *said]
    if "fix_type" in topic:
        lost = np.asarray(topic["fix_type"]) < 2
        for key in ("lat", "lon"):
            columns[key] = np.where(lost, np.nan, columns[key])
    tracks = from_names(Table(path, pd.DataFrame(columns), named=True), options)
    return [
        replace(
            track,
            name=name,
            start_ns=track.start_ns if zero_us else None,
            warnings=(*told, *track.warnings),
        )
        for track in tracks
    ]


def without_resets(topic: dict[str, np.ndarray], positions: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Positions as if the estimator had always stood where it stands at the end, and what is said.

    A reset counter rises where the estimate leaps by `delta`.
    """
    told, positions = [], positions.copy()
    time_s = np.asarray(topic["timestamp"]).astype(np.float64) * 1e-6
    for counter, spellings, axes in RESETS:
        deltas = next((names for names in spellings if all(name in topic for name in names)), None)
        if counter not in topic or deltas is None:
            continue
        moved, said = resets.without_leaps(
            time_s,
            positions[:, list(axes)],
            resets.changes(topic[counter]),
            counter,
            deltas=[topic[delta] for delta in deltas],
        )
        positions[:, list(axes)] = moved
        told += said
    return positions, told


def without_leaps(topic: dict[str, np.ndarray], columns: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Places as if the estimator had always stood where it stands at the end, and what is said.

    `lat_lon_reset_counter` comes with `delta_lat_lon` in some logs and alone in others: the leap is then what
    the path does beyond its way from sample to sample.
    """
    told, columns = [], dict(columns)
    time_s = np.asarray(topic["timestamp"]).astype(np.float64) * 1e-6
    for counter, names, deltas in (
        ("lat_lon_reset_counter", ("lat", "lon"), ("delta_lat_lon[0]", "delta_lat_lon[1]")),
        ("alt_reset_counter", ("alt",), ("delta_alt",)),
    ):
        if counter not in topic or not all(name in columns for name in names):
            continue
        moved, said = resets.without_leaps(
            time_s,
            np.stack([columns[name] for name in names], 1),
            resets.changes(topic[counter]),
            counter,
            deltas=[topic[name] for name in deltas] if all(name in topic for name in deltas) else None,
            unit="m" if len(names) == 1 else "degrees",
        )
        columns |= dict(zip(names, moved.T, strict=True))
        told += said
    return columns, told


def check_definitions(path: Path, data: bytes) -> None:
    """Walk the messages before the first data: pyulog goes round for ever where one is cut short or unknown.

    A message is its size (2 bytes, little-endian), its type (1 byte) and its content; 16 bytes come first.
    """
    place = 16
    while place + 3 <= len(data):
        size, kind = int.from_bytes(data[place : place + 2], "little"), data[place + 2 : place + 3]
        place += 3 + size
        if place > len(data) or kind not in (b"B", b"F", b"I", b"M", b"P", b"Q", *DATA):
            break
        if kind in DATA:
            return
    raise DataError(f"{path}: damaged ULog file (its definitions break off at byte {min(place, len(data))}).")


def one_track(
    path: Path, name: str, topic: dict[str, np.ndarray], options: Options, zero_us: int, told: list[str]
) -> Track:
    """A track of the arrays of the local position."""
    if not {"timestamp", "x", "y", "z"} <= topic.keys():
        raise DataError(f"{path}: {TOPIC} has no timestamp, x, y and z.")
    positions = np.stack([np.asarray(topic[axis], dtype=np.float64) for axis in "xyz"], 1)
    known = np.ones(len(positions), dtype=bool)
    for flag in ("xy_valid", "z_valid"):
        if flag in topic:
            known &= np.asarray(topic[flag]) != 0
    velocities = None
    if {"vx", "vy", "vz"} <= topic.keys():
        velocities = np.stack([np.asarray(topic[axis], dtype=np.float64) for axis in ("vx", "vy", "vz")], 1)
    microseconds = np.asarray(topic["timestamp"])
    if len(microseconds) and microseconds.max() > 9 * 10**15:
        raise DataError(f"{path}: {TOPIC} has a time beyond the year 2255.")
    positions, said = without_resets(topic, positions)
    clock = Stamps((microseconds.astype(np.int64) + zero_us) * 1000, known)
    return assemble(
        path,
        name,
        clock,
        positions,
        velocities,
        frame=options.frame or "ned",
        origin=origin_of(topic),
        gate=options.gate,
        warnings=[*told, *said],
    )


def origin_of(topic: dict[str, np.ndarray]) -> tuple[float, float, float] | None:
    """Latitude, longitude and altitude of the local zero, where the log has a fixed one."""
    values = [topic.get(key) for key in ("ref_lat", "ref_lon", "ref_alt")]
    if any(value is None or not len(value) for value in values):
        return None
    lat, lon, alt = (float(value[-1]) for value in values if value is not None)
    known = np.isfinite([lat, lon, alt]).all() and (lat, lon) != (0.0, 0.0)
    return (lat, lon, alt) if known else None
