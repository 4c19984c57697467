"""PX4 ULog: `vehicle_local_position` of every instance, north-east-down turned to east-north-up.

Through pyulog, which is optional (https://docs.px4.io/main/en/dev_log/ulog_file_format.html).
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.formats.assemble import assemble
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.stamps import Stamps
from apps.trajectory.track import Track, stem_of
from core.errors import DataError, MissingExtraError

TOPIC = "vehicle_local_position"
DATA = (b"A", b"L", b"C")
"""Messages that end the definitions."""


def read_ulog(path: Path, data: bytes, options: Options) -> list[Track]:
    """One track per instance of the topic; samples that the estimator calls invalid are left out.

    Raises:
        DataError: damaged, or without that topic.
        MissingExtraError: pyulog is not installed.
    """
    try:
        from pyulog import ULog
    except ImportError as error:
        raise MissingExtraError('ULog files need pyulog: pip install "recurra[ulog]".') from error
    check_definitions(path, data)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            log: Any = ULog(io.BytesIO(data), [TOPIC])
            topics = [topic.data for topic in log.data_list if topic.name == TOPIC]
    except Exception as error:  # a parser of foreign bytes fails in whatever way it trips
        raise DataError(f"{path}: damaged ULog file ({type(error).__name__}: {error}).") from None
    if not topics:
        raise DataError(f"{path}: the log has no {TOPIC}.")
    tracks = []
    for index, topic in enumerate(topics):
        name = stem_of(path) if len(topics) == 1 else f"{stem_of(path)}/{index}"
        tracks.append(one_track(path, name, topic, options.frame or "ned"))
    return tracks


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


def one_track(path: Path, name: str, topic: dict[str, np.ndarray], frame: str) -> Track:
    """A track of the arrays of one topic."""
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
    clock = Stamps(microseconds.astype(np.int64) * 1000, known)
    return assemble(path, name, clock, positions, velocities, frame=frame, origin=origin_of(topic))


def origin_of(topic: dict[str, np.ndarray]) -> tuple[float, float, float] | None:
    """Latitude, longitude and altitude of the local zero, where the log has a fixed one."""
    values = [topic.get(key) for key in ("ref_lat", "ref_lon", "ref_alt")]
    if any(value is None or not len(value) for value in values):
        return None
    lat, lon, alt = (float(value[-1]) for value in values if value is not None)
    known = np.isfinite([lat, lon, alt]).all() and (lat, lon) != (0.0, 0.0)
    return (lat, lon, alt) if known else None
