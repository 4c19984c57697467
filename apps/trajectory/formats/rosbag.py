"""Bags of ROS 1 (`.bag`) and ROS 2 (`.db3`, `.mcap`): every topic of poses is a track.

Through rosbags, which is optional. Times are those of the messages' headers; where they are zero, the
recorder's.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from apps.trajectory.formats.assemble import assemble
from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.stamps import Stamps
from apps.trajectory.formats.table import Table
from apps.trajectory.track import Track, stem_of
from core.errors import DataError, MissingExtraError

MAGIC = {b"#ROSBAG V2": "bag", b"SQLite for": "db3", b"\x89MCAP0\r\n": "mcap"}
"""How a file begins -> what it is."""
PLACES = {
    "geometry_msgs/msg/PoseStamped": "pose.position",
    "geometry_msgs/msg/PoseWithCovarianceStamped": "pose.pose.position",
    "geometry_msgs/msg/PointStamped": "point",
    "geometry_msgs/msg/TransformStamped": "transform.translation",
    "geometry_msgs/msg/PoseArray": "poses.0.position",
    "nav_msgs/msg/Odometry": "pose.pose.position",
    "sensor_msgs/msg/NavSatFix": "",
}
"""Types of messages -> where the position is in one."""


def bag_kind(data: bytes) -> str | None:
    """bag, db3, mcap or None."""
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), None)


def read_bag(path: Path, options: Options) -> list[Track]:
    """One track per topic.

    Raises:
        DataError: damaged, or without a topic of poses.
        MissingExtraError: rosbags is not installed.
    """
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise MissingExtraError('ROS bags need rosbags: pip install "recurra[ros]".') from error
    found: dict[str, list[tuple[float, ...]]] = {}
    kinds: dict[str, str] = {}
    try:
        with AnyReader([whole_bag(path)], default_typestore=get_typestore(Stores.LATEST)) as reader:
            chosen = [link for link in reader.connections if link.msgtype in PLACES]
            seen = sorted({link.msgtype for link in reader.connections})
            for link, recorded, raw in reader.messages(chosen):
                message: Any = reader.deserialize(raw, link.msgtype)
                stamp = message.header.stamp
                own = int(stamp.sec) * 10**9 + int(stamp.nanosec)
                place = place_of(message, PLACES[link.msgtype])
                if place is None:
                    continue
                rows = found.setdefault(link.topic, [])
                rows.append((own, recorded, *place))
                kinds[link.topic] = link.msgtype
                if len(rows) > OBJECTS:
                    raise DataError(f"{path}: more than {OBJECTS:,} messages; cut it into parts.")
    except (DataError, MissingExtraError):
        raise
    except Exception as error:  # a parser of foreign bytes fails in whatever way it trips
        raise DataError(f"{path}: damaged ROS bag ({type(error).__name__}: {str(error)[:200]}).") from None
    if not found:
        raise DataError(f"{path}: the bag has no topic of poses, only {', '.join(seen)[:300]}.")
    return [track for topic, rows in found.items() for track in of_topic(path, topic, kinds, rows, options)]


def whole_bag(path: Path) -> Path:
    """A file of ROS 2 is read with its folder, where the folder says what is in it."""
    beside = path.parent / "metadata.yaml"
    return path.parent if path.suffix in (".db3", ".mcap") and beside.is_file() else path


def place_of(message: Any, where: str) -> tuple[float, float, float] | None:
    """The position in a message; None of an empty array. A receiver without a fix is nowhere."""
    if not where:
        if message.status.status < 0:
            return math.nan, math.nan, math.nan
        return float(message.latitude), float(message.longitude), float(message.altitude)
    for part in where.split("."):
        if part == "0" and not len(message):
            return None
        message = message[0] if part == "0" else getattr(message, part)
    return float(message.x), float(message.y), float(message.z)


def of_topic(
    path: Path, topic: str, kinds: dict[str, str], rows: list[tuple[float, ...]], options: Options
) -> list[Track]:
    """The track of one topic."""
    own, recorded = (np.array([row[index] for row in rows], dtype=np.int64) for index in (0, 1))
    told = []
    if not own.any():
        own, told = recorded, [f"{topic}: stamps of the headers are zero; the recorder's are used."]
    places = np.array([row[2:] for row in rows])
    name = stem_of(path) if len(kinds) == 1 else f"{stem_of(path)}{topic}"
    if not PLACES[kinds[topic]]:
        frame = pd.DataFrame(places, columns=["lat", "lon", "alt"]).assign(t_ns=own)
        tracks = from_names(Table(path, frame, named=True), replace(options, time_unit="ns"))
        return [replace(track, name=name, warnings=(*told, *track.warnings)) for track in tracks]
    clock = Stamps(own, np.ones(len(own), dtype=bool))
    return [assemble(path, name, clock, places, frame=options.frame, gate=options.gate, warnings=told)]
