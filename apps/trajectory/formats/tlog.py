"""MAVLink telemetry logs (`.tlog`): eight bytes of microseconds since 1970, big-endian, before every message.

Through pymavlink, which is optional. Of each vehicle the best message that it sent counts. Where ODOMETRY
counts a reset of the estimator, the leap is taken out of the local positions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from apps.trajectory.formats.axes import east_north_up
from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.resets import changes, leap, without_leaps
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track
from core.errors import DataError, MissingExtraError

KINDS = ("GLOBAL_POSITION_INT", "LOCAL_POSITION_NED", "ODOMETRY", "GPS_RAW_INT")
"""Messages with places, the better ones first."""
LOCAL = ("LOCAL_POSITION_NED", "ODOMETRY")
V1, V2 = 0xFE, 0xFD
EPOCH_US = (631_152_000 * 10**6, 4_102_444_800 * 10**6)


def is_tlog(data: bytes) -> bool:
    """Whether a stamp of our time and the head of a message come first."""
    if len(data) < 9 or data[8] not in (V1, V2):
        return False
    return EPOCH_US[0] <= int.from_bytes(data[:8], "big") <= EPOCH_US[1]


def read_tlog(path: Path, data: bytes, options: Options) -> list[Track]:
    """One track per vehicle.

    Raises:
        DataError: no message with a place.
        MissingExtraError: pymavlink is not installed.
    """
    try:
        from pymavlink.dialects.v20 import ardupilotmega as dialect
    except ImportError as error:
        raise MissingExtraError('MAVLink logs need pymavlink: pip install "recurra[mavlink]".') from error
    parser: Any = dialect.MAVLink(None)
    rows: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    counted: dict[int, list[int]] = {}
    place = 0
    while place + 16 <= len(data):
        stamp, begin = int.from_bytes(data[place : place + 8], "big"), place + 8
        head = data[begin]
        if head not in (V1, V2) or not EPOCH_US[0] <= stamp <= EPOCH_US[1]:
            place += 1  # a byte that was lost or added: the next stamp is looked for
            continue
        size = data[begin + 1] + (8 if head == V1 else 12 + 13 * (data[begin + 2] & 1))
        place = begin + size
        if place > len(data):
            break
        try:
            message = parser.decode(bytearray(data[begin:place]))
        except Exception:  # an unknown or damaged message: pymavlink raises what its parts raise
            continue
        kind = message.get_type()
        if kind in KINDS:
            kept = rows.setdefault((kind, message.get_srcSystem()), [])
            kept.append((stamp, *place_of(kind, message)))
            if kind == "ODOMETRY":
                counted.setdefault(message.get_srcSystem(), []).append(getattr(message, "reset_counter", 0))
            if len(kept) > OBJECTS:
                raise DataError(f"{path}: more than {OBJECTS:,} messages {kind}; cut it into parts.")
    tracks = []
    for system in sorted({system for _, system in rows}):
        kind = next(kind for kind in KINDS if (kind, system) in rows)
        found = np.array(rows[kind, system], dtype=np.float64)
        told: list[str] = []
        if kind in LOCAL and system in counted:
            again = changes(np.array(counted[system]))
            moments = np.array(rows["ODOMETRY", system])[again, 0] if len(again) else []
            places = [nearest_leap(found, moment) for moment in moments]
            found[:, 2:], told = without_leaps(
                found[:, 0] * 1e-6, found[:, 2:], [place for place in places if place], "ODOMETRY"
            )
        frame = pd.DataFrame(found[:, 2:], columns=columns_of(kind))
        frame["time_us"] = even_clock(found[:, 0], found[:, 1])
        if len({system for _, system in rows}) > 1:
            frame["track_id"] = str(system)
        read = from_names(Table(path, frame, named=True), options)
        tracks += [replace(track, warnings=(*told, *track.warnings)) for track in read]
    if not tracks:
        raise DataError(f"{path}: the MAVLink log has none of {', '.join(KINDS)}.")
    return tracks


def place_of(kind: str, message: Any) -> tuple[float, ...]:
    """Milliseconds on board (negative: none), and the place."""
    if kind == "GLOBAL_POSITION_INT":
        return message.time_boot_ms, message.lat * 1e-7, message.lon * 1e-7, message.alt * 1e-3
    if kind == "LOCAL_POSITION_NED":
        return message.time_boot_ms, message.y, message.x, -message.z
    if kind == "ODOMETRY":
        return message.time_usec * 1e-3, *east_north_up(message)
    good = message.fix_type >= 2
    return -1.0, *((message.lat * 1e-7, message.lon * 1e-7) if good else (0.0, 0.0)), message.alt * 1e-3


def nearest_leap(found: np.ndarray, moment: float) -> int:
    """The row (received, on board, place) that leaps most where a reset was told; 0 where none is near."""
    first = int(np.searchsorted(found[:, 0], moment))
    near = [place for place in range(max(first - 1, 2), min(first + 2, len(found)))]
    time_s = found[:, 0] * 1e-6
    return max(near, key=lambda place: float(np.linalg.norm(leap(time_s, found[:, 2:], place))), default=0)


def columns_of(kind: str) -> list[str]:
    return ["x", "y", "z"] if kind in LOCAL else ["lat", "lon", "alt"]


def even_clock(received_us: np.ndarray, board_ms: np.ndarray) -> np.ndarray:
    """Microseconds since 1970: the vehicle's clock, which the radio did not delay, set by the receiver's."""
    if (board_ms < 0).any() or (np.diff(board_ms) < 0).any():
        return received_us.astype(np.int64)
    offset = np.median(received_us - board_ms * 1e3)
    return np.round(board_ms * 1e3 + offset).astype(np.int64)
