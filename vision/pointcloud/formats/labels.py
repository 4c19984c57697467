"""Boxes with classes from label files: KITTI, tables in the columns of Argoverse 2, nuScenes JSON."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import DataError
from core.files import read_bytes
from vision.pointcloud.formats.kitti import Camera, to_lidar

CARS = {"car", "regular_vehicle"}
PEOPLE, CYCLISTS = {"pedestrian"}, {"cyclist", "bicyclist"}
NEUTRAL_WORDS = (
    "van", "truck", "bus", "trailer", "tram", "train", "caravan", "vehicle", "misc", "dontcare", "towed",
)  # fmt: skip


LARGEST = 64 << 20
"""Bytes of a file of labels, also when it is unpacked."""


@dataclass(frozen=True)
class Truth:
    """Labelled boxes of a scan, in the frame of its file."""

    boxes: np.ndarray
    """(M, 7)"""
    names: tuple[str, ...]
    image_boxes: np.ndarray | None = None
    """(M, 4) l, t, r, b of KITTI."""
    occluded: np.ndarray | None = None
    truncated: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def role(name: str) -> str:
    """What a label's class is for the protocol: "Car", "Pedestrian", "Cyclist", "neutral" or "other"."""
    lower = name.lower()
    if lower in CARS:
        return "Car"
    if lower in PEOPLE:
        return "Pedestrian"
    if lower in CYCLISTS:
        return "Cyclist"
    if any(word in lower for word in NEUTRAL_WORDS):
        return "neutral"
    return "other"


def read_kitti_labels(path: str | Path, camera: Camera) -> Truth:
    """Boxes of a KITTI label file in the LiDAR frame; DontCare regions have no box and are left out.

    Raises:
        DataError: a line that is none.
    """
    rows, names, rectangles, occluded, truncated = [], [], [], [], []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].lower() == "dontcare":
            continue
        try:
            values = [float(word) for word in words[1:15]]
        except ValueError as error:
            raise DataError(f"{path} line {number}: a word among the numbers.") from error
        if len(values) != 14 or not np.isfinite(values).all():
            raise DataError(f"{path} line {number}: {len(words)} words; a label has 15 or 16, finite ones.")
        names.append(words[0])
        truncated.append(values[0])
        occluded.append(values[1])
        rectangles.append(values[3:7])
        rows.append(values[7:14])
    boxes = to_lidar(np.array(rows, np.float64).reshape(-1, 7), camera)
    return Truth(
        boxes, tuple(names), np.array(rectangles).reshape(-1, 4), np.array(occluded), np.array(truncated)
    )


def read_table_labels(path: str | Path) -> Truth:
    """Boxes of a CSV with category, length_m, width_m, height_m, tx_m, ty_m, tz_m and yaw or a quaternion.

    Raises:
        DataError: a column or a number is missing.
    """
    rows, names = [], []
    try:
        reader = csv.DictReader(text_of(path).splitlines())
        table = list(reader)
    except csv.Error as error:
        raise DataError(f"{path}: not a table ({error}).") from error
    if reader.fieldnames and "category" not in reader.fieldnames:  # without rows it would pass for no labels
        raise DataError(f"{path} line 1: no column category; a label needs category, sizes, place and yaw.")
    for number, row in enumerate(table, 2):
        try:
            size = [float(row[f"{side}_m"]) for side in ("length", "width", "height")]
            centre = [float(row[f"t{axis}_m"]) for axis in "xyz"]
            if row.get("yaw"):
                yaw = float(row["yaw"])
            else:
                w, x, y, z = (float(row[f"q{part}"]) for part in "wxyz")
                yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
            names.append(row["category"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} line {number}: a label needs category, sizes, place and yaw, all of them numbers."
            ) from error
        if not np.isfinite([*centre, *size, yaw]).all():
            raise DataError(f"{path} line {number}: a number is not finite.")
        rows.append([*centre, *size, yaw])
    return Truth(np.array(rows, np.float64).reshape(-1, 7), tuple(names))


def read_json_labels(path: str | Path) -> Truth:
    """Boxes of a JSON file with objects of name and box_lidar (centre, length, width, height, yaw).

    Raises:
        DataError: not such a file.
    """
    try:
        objects = json.loads(text_of(path))["objects"]
        boxes = np.array([item["box_lidar"] for item in objects], np.float64).reshape(len(objects), 7)
        names = tuple(str(item["name"]) for item in objects)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(
            f"{path}: no labels: objects with name and box_lidar of seven numbers are needed."
        ) from error
    if not np.isfinite(boxes).all():
        raise DataError(f"{path}: a number of a box is not finite.")
    return Truth(boxes, names)


def text_of(path: str | Path) -> str:
    """A text file; the mark that some programs write before UTF-8 is none of its words.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return read_bytes(path, LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read as text.") from error
