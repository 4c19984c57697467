"""Where a vehicle was at every scan: boxes of each scan in one frame that does not move."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.errors import DataError
from vision.pointcloud.boxes import wrap
from vision.pointcloud.formats.labels import text_of
from vision.pointcloud.predict import Boxes


@dataclass(frozen=True)
class Pose:
    """One scan's place and direction in the world."""

    time_s: float
    x_m: float
    y_m: float
    yaw_rad: float
    z_m: float = 0.0

    @property
    def place(self) -> np.ndarray:
        """(3,) x, y, yaw."""
        return np.array([self.x_m, self.y_m, self.yaw_rad])


def read_poses(path: str | Path) -> list[Pose]:
    """A table with time_s, x_m, y_m, yaw_rad and perhaps z_m, a row a scan; or KITTI's 12 numbers a line.

    KITTI's are matrices of the camera, x to the right and z ahead, ten scans a second.

    Raises:
        DataError: neither, or numbers that are not finite.
    """
    text = text_of(path)
    first = text.lstrip().split("\n", 1)[0]
    poses = []
    try:
        if "time_s" in first:
            for row in csv.DictReader(text.splitlines()):
                time_s, x, y, yaw = (float(row[name]) for name in ("time_s", "x_m", "y_m", "yaw_rad"))
                poses.append(Pose(time_s, x, y, yaw, float(row.get("z_m") or 0.0)))
        else:
            for number, line in enumerate(line for line in text.splitlines() if line.strip()):
                matrix = np.array([float(word) for word in line.split()]).reshape(3, 4)
                yaw = np.arctan2(-matrix[0, 2], matrix[2, 2])
                poses.append(
                    Pose(0.1 * number, matrix[2, 3], -matrix[0, 3], float(yaw), -float(matrix[1, 3]))
                )
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: poses are time_s,x_m,y_m,yaw_rad, or 12 numbers a line.") from error
    numbers = [[pose.time_s, pose.x_m, pose.y_m, pose.yaw_rad, pose.z_m] for pose in poses]
    if not poses or not np.isfinite(numbers).all():
        raise DataError(f"{path}: no poses, or one that is not finite.")
    return poses


def in_world(found: Boxes, pose: Pose) -> Boxes:
    """Boxes of a scan (x ahead, y left) in the world."""
    c, s = np.cos(pose.yaw_rad), np.sin(pose.yaw_rad)
    boxes = found.boxes.copy()
    boxes[:, 0] = c * found.boxes[:, 0] - s * found.boxes[:, 1] + pose.x_m
    boxes[:, 1] = s * found.boxes[:, 0] + c * found.boxes[:, 1] + pose.y_m
    boxes[:, 2] += pose.z_m
    boxes[:, 6] = wrap(boxes[:, 6] + pose.yaw_rad)
    return replace(found, boxes=boxes)
