"""KITTI object files: calibration by name, labels in the camera's frame, the camera's view.

A box of ours is x, y, z of the centre, length, width, height, heading in the LiDAR frame; KITTI's is h, w, l,
the bottom's centre in the rectified camera frame and rotation_y.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import DataError
from core.files import write_text

WIDTH, HEIGHT = 1242, 375


@dataclass(frozen=True)
class Camera:
    """From the LiDAR frame to pixels."""

    projection: np.ndarray
    """(3, 4) P2."""
    rectify: np.ndarray
    """(4, 4) R0_rect times Tr_velo_to_cam."""
    width: int = WIDTH
    height: int = HEIGHT

    def to_camera(self, xyz: np.ndarray) -> np.ndarray:
        """Places (N, 3) of the LiDAR frame in the rectified camera frame."""
        return np.asarray(xyz, np.float64) @ self.rectify[:3, :3].T + self.rectify[:3, 3]

    def project(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (N, 2) and depths (N,) of places (N, 3) of the LiDAR frame."""
        camera = self.to_camera(xyz)
        flat = camera @ self.projection[:, :3].T + self.projection[:, 3]
        depth = np.where(np.abs(flat[:, 2]) < 1e-9, 1e-9, flat[:, 2])
        return flat[:, :2] / depth[:, None], flat[:, 2]

    def sees(self, xyz: np.ndarray) -> np.ndarray:
        """Which places (N, 3) lie inside the image, before the camera: (N,) bool."""
        pixel, depth = self.project(xyz)
        inside = (pixel >= 0).all(1) & (pixel[:, 0] < self.width) & (pixel[:, 1] < self.height)
        return inside & (depth > 0)


def default_camera() -> Camera:
    """The camera of generated scans: at the sensor, looking along x, f 721.5, middle 609.6, 172.9."""
    projection = np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1.0, 0]])
    rectify = np.eye(4)
    rectify[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    return Camera(projection, rectify)


CAMERA = default_camera()


def read_calibration(path: str | Path, width: int = WIDTH, height: int = HEIGHT) -> Camera:
    """The camera of a calibration file; matrices are found by name.

    Raises:
        DataError: the file cannot be read, or lacks one of P2, R0_rect, Tr_velo_to_cam.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: no such file, or no text.") from error
    tables = {}
    for line in lines:
        name, _, rest = line.partition(":" if ":" in line else " ")
        try:
            tables[name.strip()] = np.array([float(word) for word in rest.split()])
        except ValueError:
            continue
    found = {}
    for name, aliases, size in (
        ("P2", ("P2",), 12),
        ("R0_rect", ("R0_rect", "R_rect", "R0"), 9),
        ("Tr_velo_to_cam", ("Tr_velo_to_cam", "Tr_velo_cam"), 12),
    ):
        values = next((tables[alias] for alias in aliases if alias in tables), None)
        if values is None or len(values) != size or not np.isfinite(values).all():
            raise DataError(f"{path}: the calibration needs the matrix {name} with {size} numbers.")
        found[name] = values
    rotate, move = np.eye(4), np.eye(4)
    rotate[:3, :3] = found["R0_rect"].reshape(3, 3)
    move[:3] = found["Tr_velo_to_cam"].reshape(3, 4)
    rectify = rotate @ move
    if abs(np.linalg.det(rectify)) < 1e-6:
        raise DataError(f"{path}: R0_rect or Tr_velo_to_cam is no rotation.")
    return Camera(found["P2"].reshape(3, 4), rectify, width, height)


def write_calibration(path: str | Path, camera: Camera = CAMERA) -> None:
    """A calibration file of one camera."""

    def line(name: str, values: np.ndarray) -> str:
        return f"{name}: " + " ".join(f"{value:.12e}" for value in np.ravel(values)) + "\n"

    text = "".join(line(f"P{k}", camera.projection) for k in range(4))
    text += line("R0_rect", np.eye(3)) + line("Tr_velo_to_cam", camera.rectify[:3])
    write_text(path, text + line("Tr_imu_to_velo", np.eye(4)[:3]))


def corners(box: np.ndarray) -> np.ndarray:
    """The eight corners (8, 3) of a box (7,)."""
    x, y, z, length, width, height, heading = (float(value) for value in box[:7])
    c, s = math.cos(heading), math.sin(heading)
    signs = np.array([[a, b, d] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for d in (-0.5, 0.5)])
    local = signs * [length, width, height]
    return np.column_stack(
        [x + c * local[:, 0] - s * local[:, 1], y + s * local[:, 0] + c * local[:, 1], z + local[:, 2]]
    )


def image_box(box: np.ndarray, camera: Camera) -> tuple[np.ndarray, float] | None:
    """The 2D box l, t, r, b of a box and the share of it beyond the image; None when it is not seen."""
    pixel, depth = camera.project(corners(box))
    if (depth <= 0.1).any():
        return None
    low, high = pixel.min(0), pixel.max(0)
    size = [camera.width - 1, camera.height - 1]
    cut_low, cut_high = np.clip(low, 0, size), np.clip(high, 0, size)
    area = float(np.prod(high - low))
    if area <= 0 or (cut_high <= cut_low).any():
        return None
    return np.concatenate([cut_low, cut_high]), 1 - float(np.prod(cut_high - cut_low)) / area


def to_lidar(label: np.ndarray, camera: Camera) -> np.ndarray:
    """Boxes (N, 7) in the LiDAR frame of labels (N, 7): h, w, l, x, y, z, rotation_y."""
    label = np.asarray(label, np.float64).reshape(-1, 7)
    back = np.linalg.inv(camera.rectify)
    centre = label[:, 3:6] @ back[:3, :3].T + back[:3, 3]
    centre[:, 2] += label[:, 0] / 2
    heading = -(label[:, 6] + math.pi / 2)
    heading = math.pi - np.mod(math.pi - heading, 2 * math.pi)
    return np.column_stack([centre, label[:, 2], label[:, 1], label[:, 0], heading])


def to_label(boxes: np.ndarray, camera: Camera) -> np.ndarray:
    """Labels h, w, l, x, y, z, rotation_y (N, 7) of boxes (N, 7) in the LiDAR frame."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    bottom = boxes[:, :3].copy()
    bottom[:, 2] -= boxes[:, 5] / 2
    turn = -boxes[:, 6] - math.pi / 2
    turn = math.pi - np.mod(math.pi - turn, 2 * math.pi)
    return np.column_stack([boxes[:, 5], boxes[:, 4], boxes[:, 3], camera.to_camera(bottom), turn])


def kitti_label(
    box: np.ndarray, kind: str, camera: Camera, occluded: int = 0, score: float | None = None
) -> str | None:
    """One line of a label file; None for what the camera does not see."""
    seen = image_box(box, camera)
    if seen is None:
        return None
    rectangle, truncated = seen
    h, w, length, x, y, z, turn = to_label(box[None, :7], camera)[0]
    alpha = turn - math.atan2(x, z)
    alpha = math.pi - (math.pi - alpha) % (2 * math.pi)
    sides = " ".join(f"{value:.2f}" for value in rectangle)
    line = f"{kind} {truncated:.2f} {occluded} {alpha:.2f} {sides} {h:.2f} {w:.2f} {length:.2f} "
    line += f"{x:.2f} {y:.2f} {z:.2f} {turn:.4f}"
    return line if score is None else f"{line} {score:.4f}"
