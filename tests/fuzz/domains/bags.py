"""Recordings of ROS with poses and clouds, MAVLink logs, E57 scans: made once, then changed anywhere."""

import random
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import mutate

POSES = [(100 + k // 10, k % 10 * 100_000_000, 0.2 * k, -0.1 * k, 0.5) for k in range(6)]


def message_of(store: Any, kind: str, row: tuple[float, ...]) -> Any:
    """A pose or a cloud of five points."""
    kinds = store.types
    one = len(store.get_msgdef("std_msgs/msg/Header").fields) == 3  # ROS 1 counts its messages
    seq = {"seq": 0} if one else {}
    stamp = kinds["builtin_interfaces/msg/Time"](sec=int(row[0]), nanosec=int(row[1]))
    head = kinds["std_msgs/msg/Header"](**seq, stamp=stamp, frame_id="map")
    if kind.endswith("PoseStamped"):
        place = kinds["geometry_msgs/msg/Point"](*row[2:])
        turned = kinds["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        return kinds[kind](head, kinds["geometry_msgs/msg/Pose"](place, turned))
    fields = [
        kinds["sensor_msgs/msg/PointField"](name=name, offset=4 * k, datatype=7, count=1)
        for k, name in enumerate(("x", "y", "z", "intensity"))
    ]
    rows = np.random.default_rng(2).uniform(-20, 20, (5, 4)).astype(np.float32)
    return kinds[kind](
        header=head, height=1, width=5, fields=fields, is_bigendian=False, point_step=16, row_step=80,
        data=rows.view(np.uint8).ravel(), is_dense=True,
    )  # fmt: skip


@cache
def bag(kind: str, suffix: str) -> bytes:
    """A recording of messages of a kind: .bag of ROS 1, .db3 or .mcap of ROS 2."""
    from rosbags.rosbag1 import Writer as Writer1
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if suffix == ".bag" else Stores.ROS2_HUMBLE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"one{suffix}"
        if suffix == ".bag":
            writer: Any = Writer1(path)
        else:
            plugin = StoragePlugin.MCAP if suffix == ".mcap" else StoragePlugin.SQLITE3
            writer = Writer(path.with_suffix(""), version=9, storage_plugin=plugin)
        with writer:
            link = writer.add_connection("/place", kind, typestore=store)
            for row in POSES:
                message = message_of(store, kind, row)
                pack = store.serialize_ros1 if suffix == ".bag" else store.serialize_cdr
                writer.write(link, int(row[0] * 10**9 + row[1]), pack(message, kind))
        (found,) = Path(folder).rglob(f"*{suffix}")
        return found.read_bytes()


def bags(kind: str) -> Any:
    """Makes recordings of a kind of message with pieces changed."""
    return lambda chance: mutate.blocks(chance, bag(kind, chance.choice((".bag", ".mcap", ".db3"))))


@cache
def mavlink() -> bytes:
    """A .tlog of positions in two protocols."""
    from pymavlink.dialects.v20 import ardupilotmega as dialect

    parser: Any = dialect.MAVLink(None)
    parts = []
    for k in range(6):
        message = dialect.MAVLink_global_position_int_message(
            100 * k, 470000000 + 100 * k, 80000000, 400000, 10000, 100, 0, 0, 0
        )
        still = dialect.MAVLink_local_position_ned_message(100 * k, 0.1 * k, 0.2, -5.0, 1.0, 0.0, 0.0)
        for one in (message, still):
            stamp = 1_760_000_000_000_000 + 100_000 * k
            parts.append(stamp.to_bytes(8, "big") + bytes(one.pack(parser, force_mavlink1=k % 2 == 0)))
    return b"".join(parts)


@cache
def e57() -> bytes:
    """A scan of thirty points."""
    import pye57

    rows = np.random.default_rng(2).uniform(-20, 20, (4, 30))
    names = ("cartesianX", "cartesianY", "cartesianZ", "intensity")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.e57"
        file = pye57.E57(str(path), mode="w")
        file.write_scan_raw(dict(zip(names, rows, strict=True)))
        file.close()
        return path.read_bytes()


def e57_changed(chance: random.Random) -> bytes:
    """Pages of an E57 carry checksums: half of the inputs have them right again."""
    data = bytearray(mutate.blocks(chance, e57()))
    if chance.random() < 0.7:
        for page in range(0, len(data) - 1023, 1024):
            data[page + 1020 : page + 1024] = crc32c(bytes(data[page : page + 1020])).to_bytes(4, "big")
    return bytes(data)


@cache
def crc_table() -> list[int]:
    rows = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        rows.append(value)
    return rows


def crc32c(data: bytes) -> int:
    """The checksum of a page (Castagnoli)."""
    table, value = crc_table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF
