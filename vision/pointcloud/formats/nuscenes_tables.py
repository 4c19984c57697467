"""Labels of nuScenes as it is published: tables of JSON beside `samples/`, boxes in the frame of the map.

A scan is `ROOT/samples/LIDAR_TOP/NAME.pcd.bin`, its tables are `ROOT/v1.0-*/`: sample_data (which sample,
where the vehicle and the sensor were), ego_pose, calibrated_sensor, sample_annotation, instance, category.
"""

import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.files import read_bytes
from vision.pointcloud.formats.labels import Truth

LARGEST = 2 << 30
"""Bytes of a table; the annotations of the whole set have one."""
MAIN = "sample_annotation.json"


def tables_of(scan: Path) -> Path | None:
    """The table of annotations of a key-frame's scan, where the layout is the published one."""
    if scan.parent.parent.name != "samples":
        return None
    return next(iter(sorted(scan.parents[2].glob(f"v1.0-*/{MAIN}"))), None)


def detection_name(category: str) -> str:
    """`vehicle.car` is a car and `human.pedestrian.adult` a pedestrian; special vehicles keep their name."""
    parts = category.split(".")
    special = len(parts) > 1 and parts[1] in ("emergency", "construction")
    return parts[1] if len(parts) > 1 and not special else category


def rotation(quaternion: Any) -> np.ndarray:
    """Matrix (3, 3) of w, x, y, z."""
    w, x, y, z = (float(part) for part in quaternion)
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@lru_cache(maxsize=2)
def read_tables(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Where each scan was taken, by file name, and the annotations of each sample.

    Raises:
        DataError: a table is missing or damaged.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ("sample_data", "ego_pose", "calibrated_sensor", "sample_annotation", "instance", "category"):
        path = folder / f"{name}.json"
        try:
            found[name] = json.loads(read_bytes(path, LARGEST).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not a table of nuScenes.") from error
    try:
        by_token = {name: {row["token"]: row for row in found[name]} for name in found}
        scans = {}
        for row in found["sample_data"]:
            if row.get("is_key_frame", True):
                places = by_token["ego_pose"][row["ego_pose_token"]]
                mount = by_token["calibrated_sensor"][row["calibrated_sensor_token"]]
                scans[Path(row["filename"]).name] = (row["sample_token"], places, mount)
        boxes: dict[str, Any] = {}
        for row in found["sample_annotation"]:
            kind = by_token["category"][by_token["instance"][row["instance_token"]]["category_token"]]
            boxes.setdefault(row["sample_token"], []).append((detection_name(kind["name"]), row))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: tables that do not fit each other ({error}).") from error
    return scans, boxes


def read_tabled(main: Path, scan: Path) -> Truth:
    """Boxes of a scan in the frame of its file.

    Raises:
        DataError: the tables do not know the scan, or are damaged.
    """
    scans, boxes = read_tables(main.parent)
    if scan.name not in scans:
        raise DataError(f"{scan}: not among the key-frames of {main.parent}.")
    sample, pose, mount = scans[scan.name]
    try:
        turns = [rotation(part["rotation"]) for part in (pose, mount)]
        moves = [np.array(part["translation"], np.float64).reshape(3) for part in (pose, mount)]
        rows, names = [], []
        for name, row in boxes.get(sample, []):
            centre = np.array(row["translation"], np.float64).reshape(3)
            turn = rotation(row["rotation"])
            for about, move in zip(turns, moves, strict=True):
                centre, turn = about.T @ (centre - move), about.T @ turn
            width, length, height = (float(side) for side in row["size"])
            rows.append([*centre, length, width, height, math.atan2(turn[1, 0], turn[0, 0])])
            names.append(name)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DataError(f"{main.parent}: a place of {scan.name} or of its boxes is no such thing.") from error
    out = np.array(rows, np.float64).reshape(-1, 7)
    if not np.isfinite(out).all():
        raise DataError(f"{main.parent}: a number of a box of {scan.name} is not finite.")
    return Truth(out, tuple(names))
