"""Scans in every format, labels, calibrations."""

import io
import random
import struct
from typing import Any

import numpy as np

from core import config
from tests.fuzz import mutate
from tests.fuzz.domains.bags import bags, e57_changed
from tests.fuzz.reader import Reader
from vision.pointcloud.config import TrainConfig
from vision.pointcloud.data import read_cloud
from vision.pointcloud.formats import kitti, labels

POINTS = np.random.default_rng(0).uniform(-20, 20, (40, 4)).astype(np.float32)


def pcd(chance: random.Random) -> bytes:
    kind = chance.choice(("ascii", "binary"))
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
        f"WIDTH 40\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 40\nDATA {kind}\n"
    )
    if kind == "ascii":
        return mutate.words(chance, head + "\n".join(" ".join(f"{v:.3f}" for v in row) for row in POINTS))
    return mutate.words(chance, head, chance.choice((0, 1, 1))) + mutate.blocks(chance, POINTS.tobytes())


def compressed(chance: random.Random) -> bytes:
    head = pcd(chance).split(b"DATA")[0] + b"DATA binary_compressed\n"
    body = bytes([31]) + POINTS.T.tobytes()[:32]
    sizes = chance.choice(mutate.NUMBERS[:11]), chance.choice(mutate.NUMBERS[:11])
    return head + b"".join((int(size) % (1 << 32)).to_bytes(4, "little") for size in sizes) + body * 3


def ply(chance: random.Random) -> bytes:
    kind = chance.choice(("ascii", "binary_little_endian", "binary_big_endian"))
    head = (
        f"ply\nformat {kind} 1.0\ncomment a\nelement vertex 40\nproperty float x\nproperty float y\n"
        "property float z\nproperty float intensity\nelement face 2\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    if kind == "ascii":
        rows = "\n".join(" ".join(f"{v:.3f}" for v in row) for row in POINTS)
        return mutate.words(chance, head + rows + "\n3 0 1 2\n3 1 2 3\n")
    body = POINTS.astype("<f4" if "little" in kind else ">f4").tobytes() + bytes([3, *range(12)]) * 2
    return mutate.words(chance, head, chance.choice((0, 1, 1))) + mutate.blocks(chance, body)


def arrays(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return mutate.npy(chance, POINTS)
    file = io.BytesIO()
    np.savez(file, points=POINTS, ring=np.arange(40), time=np.zeros(40))
    return mutate.members(chance, file.getvalue(), lambda chance, data: mutate.npy(chance, POINTS))


def columns(chance: random.Random) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [
        "x",
        "y",
        "z",
        chance.choice(("intensity", "ring", "x", mutate.spoiled(chance).replace("\udc80", "?"))),
    ]
    parts: list[Any] = [pa.array(POINTS[:, k]) for k in range(4)]
    odd = (
        lambda: pa.array(["a"] * 40),
        lambda: pa.array([None] * 40),
        lambda: pa.array([b"\xff"] * 40),
        lambda: pa.array([[1]] * 40),
        lambda: pa.array([float("nan")] * 40),
        lambda: pa.array([2**63] * 40, pa.uint64()),
        lambda: pa.array(range(40), pa.timestamp("ns")),
        lambda: pa.array(["a", "b"] * 20).dictionary_encode(),
        lambda: pa.array([True] * 40),
    )
    parts[chance.randrange(4)] = chance.choice(odd)()
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(parts, names=names), file)
    return mutate.blocks(chance, file.getvalue()) if chance.random() < 0.3 else file.getvalue()


def las(chance: random.Random) -> bytes:
    """LAS 1.2: offsets, record lengths and counts that may lie."""
    head = bytearray(227)
    head[:4], head[24], head[25] = b"LASF", 1, 2
    struct.pack_into("<HIIBHI", head, 94, 227, 227, 0, chance.choice((0, 1, 3, 7, 200)), 20, 40)
    struct.pack_into("<6d", head, 131, 0.001, 0.001, 0.001, 500_000.0, 4_000_000.0, 30.0)
    rows = b"".join(struct.pack("<iiiH6x", *map(int, row[:3] * 1000), 7) for row in POINTS)
    if chance.random() < 0.7:
        place = chance.randrange(90, 180)
        number = chance.choice(mutate.NUMBERS[:13])
        head[place : place + 4] = (int(number) % (1 << 32)).to_bytes(4, "little")
    return bytes(head) + (mutate.blocks(chance, rows) if chance.random() < 0.3 else rows)


def make(chance: random.Random) -> bytes:
    text = [tuple(f"{v:.3f}" for v in row) for row in POINTS[:12]]
    kinds = (
        pcd,
        pcd,
        compressed,
        ply,
        ply,
        arrays,
        columns,
        las,
        lambda chance: mutate.blocks(chance, POINTS.tobytes()),
        lambda chance: mutate.table(chance, ("x", "y", "z", "intensity"), text),
        lambda chance: mutate.table(chance, (), text),
    )
    return chance.choice(kinds)(chance)


def read(path: str) -> Any:
    cloud = read_cloud(path)
    assert np.isfinite(cloud.points).all()
    return None


CALIB = "\n".join(
    (
        "P2: 721.5 0 609.5 44.8 0 721.5 172.8 0.2 0 0 1 0.003",
        "R0_rect: 1 0 0 0 1 0 0 0 1",
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 -0.3",
    )
)
LABEL = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n" * 3


READERS = [
    Reader("pointcloud-scans", make, read, ".dat", 4.0),
    Reader("pointcloud-bag", bags("sensor_msgs/msg/PointCloud2"), read, ".bag", 1.0),
    Reader("pointcloud-e57", e57_changed, read, ".e57", 1.0),
    Reader(
        "pointcloud-labels",
        lambda chance: mutate.words(chance, LABEL),
        lambda path: len(labels.read_kitti_labels(path, kitti.CAMERA).boxes),
        ".txt",
        0.8,
    ),
    Reader(
        "pointcloud-tables",
        lambda chance: mutate.table(
            chance,
            ("category", "length_m", "width_m", "height_m", "tx_m", "ty_m", "tz_m", "yaw"),
            [("Car", 4, 2, 1.5, i, 1, 0, 0.1) for i in range(5)],
        ),
        lambda path: len(labels.read_table_labels(path).boxes),
        ".csv",
        0.8,
    ),
    Reader(
        "pointcloud-boxes",
        lambda chance: mutate.as_json(
            chance,
            mutate.tree(
                chance,
                {"objects": [{"name": "Car", "box_lidar": [1, 2, 3, 4, 2, 1.5, 0]}] * 2},
            ),
        ),
        lambda path: len(labels.read_json_labels(path).boxes),
        ".json",
        0.8,
    ),
    Reader(
        "pointcloud-calibration",
        lambda chance: mutate.words(chance, CALIB),
        lambda path: bool(kitti.read_calibration(path)),
        ".txt",
        0.8,
    ),
    Reader(
        "pointcloud-settings",
        lambda chance: mutate.words(chance, config.to_toml(config.to_dict(TrainConfig()))),
        lambda path: config.to_dict(config.resolve(TrainConfig(), path)),
        ".toml",
        0.8,
    ),
]
