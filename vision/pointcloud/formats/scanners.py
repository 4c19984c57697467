"""Recordings of robots and scanners by their packages: PointCloud2 in bags, E57.

A bag or an E57 file holds many scans: the first one is read, and a remark tells how many there are.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.terminal import need
from vision.pointcloud.cloud import Cloud, cloud_of
from vision.pointcloud.formats.names import standard

BAGS = (b"#ROSBAG V2", b"SQLite format 3\0", b"\x89MCAP")
CLOUDS = "sensor_msgs/msg/PointCloud2"
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""Data types of PointField."""


def columns_of(message: Any, name: str) -> dict[str, np.ndarray]:
    """Columns of a PointCloud2, whose rows may be padded.

    Raises:
        DataError: fields that do not fit the data.
    """
    order = ">" if message.is_bigendian else "<"
    data = np.frombuffer(bytes(message.data), np.uint8)
    height, width = int(message.height), int(message.width)
    point, row = int(message.point_step), int(message.row_step)
    if not point or row < width * point or len(data) < height * row:
        raise DataError(f"{name}: {height} rows of {row} bytes for {width} points of {point} do not fit.")
    points = data[: height * row].reshape(height, row)[:, : width * point].reshape(-1, point)
    found = {}
    for field in message.fields:
        kind = np.dtype(order + TYPES.get(int(field.datatype), "u1"))
        at = int(field.offset)
        if at + kind.itemsize > point:
            raise DataError(f"{name}: field {field.name} lies beyond the {point} bytes of a point.")
        found[str(field.name)] = points[:, at : at + kind.itemsize].copy().view(kind).ravel()
    return standard(found, name)


def read_bag(path: str | Path) -> Cloud:
    """The first cloud of the topic with most messages in a .bag, .db3 or .mcap.

    Raises:
        DataError: no cloud, or a damaged file.
        MissingExtraError: rosbags is not installed.
    """
    need("ros", "rosbags")
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    path = Path(path)
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            topics: Mapping[str, int] = {
                one.topic: one.msgcount for one in reader.connections if one.msgtype == CLOUDS
            }
            if not topics:
                known = ", ".join(sorted({one.msgtype for one in reader.connections})) or "nothing"
                raise DataError(f"{path}: no PointCloud2; there is {known}.")
            best = max(topics, key=lambda topic: topics[topic])
            wanted = [one for one in reader.connections if one.topic == best]
            for connection, _, raw in reader.messages(connections=wanted):
                message = reader.deserialize(raw, connection.msgtype)
                cloud = cloud_of(columns_of(message, str(path)), "pointcloud2", str(path))
                remark = f"{path.name}: the first of {topics[best]} clouds of {best} is read."
                others = [topic for topic in topics if topic != best]
                if others:
                    remark += f" Other topics: {', '.join(others)}."
                return replace(cloud, remarks=(*cloud.remarks, remark))
    except DataError:
        raise
    except Exception as error:  # the package has errors of its own for every layer of a bag
        raise DataError(f"{path}: damaged, or no bag that is known.") from error
    raise DataError(f"{path}: no messages.")


def read_e57(path: str | Path) -> Cloud:
    """The first scan of an E57 file, in its own frame.

    Raises:
        DataError: a damaged file.
        MissingExtraError: pye57 is not installed.
    """
    need("e57", "pye57")
    import pye57

    try:
        file = pye57.E57(str(path))
        count = file.scan_count
        table = file.read_scan(0, intensity=True, ignore_missing_fields=True, transform=False)
        names = {"cartesianX": "x", "cartesianY": "y", "cartesianZ": "z", "intensity": "intensity"}
        columns = {ours: np.asarray(table[theirs]) for theirs, ours in names.items() if theirs in table}
    except Exception as error:  # the package hands on errors of its library
        raise DataError(f"{path}: damaged, or no E57.") from error
    cloud = cloud_of(columns, "e57", str(path))
    remark = f"{Path(path).name}: the first of {count} scans is read."
    return replace(cloud, remarks=(*cloud.remarks, *([remark] if count > 1 else [])))
