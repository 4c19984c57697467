"""Boxes in a scan: find the ground, look at the four quadrants as in training, put the boxes back.

Files, commands and the page all go through `Detector`.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.config import replace as configured
from core.errors import WeightsError
from core.kernels.jit import pool
from core.weights import Card, load_network
from vision.pointcloud.boxes import count_inside, wrap
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.config import ModelConfig
from vision.pointcloud.crops import crop_points
from vision.pointcloud.decode import decode_maps
from vision.pointcloud.ground import NO_GROUND, Plane, estimate_ground
from vision.pointcloud.models.bev import folded
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.nms import nms_per_class

DEFAULT, BASELINE = "pointcloud-tiny", "pointcloud-bev"
NAMES = ("Car", "Pedestrian", "Cyclist")
FLOOR = 0.1
"""Smallest score that is ever decoded."""
OVERLAPS = (0.1, 0.2, 0.2)
"""From above, of boxes of one class (`NAMES`) that are the same object: riders are found side by side."""
THRESHOLDS = {"Car": 0.4, "Pedestrian": 0.4, "Cyclist": 0.4}
"""Where the weights say nothing."""


@dataclass(frozen=True)
class Boxes:
    """What was found in a scan, in the frame and unit of its file, best first."""

    boxes: np.ndarray
    """(M, 7): centre x, y, z, length, width, height, heading."""
    scores: np.ndarray
    """(M,) 0..1"""
    names: tuple[str, ...]
    points: np.ndarray
    """(M,) points inside each box."""
    ground: Plane
    velocity: np.ndarray | None = None
    """(M, 2) over ground along x and y, m/s, where a memory over sweeps says so."""
    source: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def having(self, keep: np.ndarray) -> "Boxes":
        """The boxes of a mask or an index (M,)."""
        names = tuple(np.array(self.names, dtype=object)[keep]) if len(self) else ()
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            names=names,
            points=self.points[keep],
            velocity=None if self.velocity is None else self.velocity[keep],
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, metres and radians."""
        rows = zip(self.boxes, self.scores, self.names, self.points, strict=True)
        speeds = [] if self.velocity is None else self.velocity.tolist()
        return {
            "source": self.source,
            "boxes": [
                {
                    "class": name,
                    "score": round(float(score), 4),
                    "centre_m": [round(float(value), 3) for value in box[:3]],
                    "length_m": round(float(box[3]), 3),
                    "width_m": round(float(box[4]), 3),
                    "height_m": round(float(box[5]), 3),
                    "heading_rad": round(float(box[6]), 4),
                    "points": int(points),
                    **({"velocity_mps": [round(value, 3) for value in speeds[k]]} if speeds else {}),
                }
                for k, (box, score, name, points) in enumerate(rows)
            ],
            "ground": {
                "height_m": round(self.ground.c, 3),
                "pitch_deg": round(self.ground.tilt_deg[0], 2),
                "roll_deg": round(self.ground.tilt_deg[1], 2),
                "support": round(self.ground.support, 3),
            },
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
            "remarks": list(self.remarks),
        }


def to_ours(xyz: np.ndarray, frame: str) -> np.ndarray:
    """Places (N, 3) with x forward and y left; "yx" files have x to the right and y forward."""
    if frame == "yx":
        return np.column_stack([xyz[:, 1], -xyz[:, 0], xyz[:, 2]])
    return xyz


def to_theirs(boxes: np.ndarray, frame: str) -> np.ndarray:
    """Boxes (M, 7) of ours in the axes of a file."""
    if frame == "yx":
        out = boxes.copy()
        out[:, 0], out[:, 1] = -boxes[:, 1], boxes[:, 0]
        out[:, 6] = wrap(boxes[:, 6] + math.pi / 2)
        return out
    return boxes


def turned_speed(speed: np.ndarray, frame: str) -> np.ndarray:
    """Velocities (M, 2) of ours in the axes of a file."""
    return np.column_stack([-speed[:, 1], speed[:, 0]]) if frame == "yx" else speed


def ages(cloud: Cloud) -> np.ndarray:
    """Seconds (N,) from each point to the latest one, by the times of the file; zeros where it has none."""
    if cloud.time is None or not len(cloud):
        return np.zeros(len(cloud), np.float32)
    return (cloud.time.max() - cloud.time).astype(np.float32)


def levelled(xyz: np.ndarray, plane: Plane) -> np.ndarray:
    """Points (N, 3) with their heights above the ground, float32."""
    level = np.array(xyz, np.float32)
    level[:, 2] -= plane.height(level).astype(np.float32)
    return level


def answered(network: nn.Module, crops: Sequence[np.ndarray], device: torch.device) -> tuple[Tensor, Tensor]:
    """Maps of crops (N, 3 or 4)."""
    index = np.repeat(np.arange(len(crops), dtype=np.int64), [len(points) for points in crops])
    points = torch.from_numpy(np.concatenate(crops)).to(device)
    with torch.no_grad():
        return network(points, torch.from_numpy(index).to(device), len(crops))


def side_by_side(
    network: nn.Module, crops: Sequence[np.ndarray], device: torch.device
) -> tuple[Tensor, Tensor]:
    """The same; a CPU's threads share the crops, since most of the work is in loops of one thread."""
    threads = min(torch.get_num_threads(), len(crops)) if device.type == "cpu" else 1
    if threads < 2:
        return answered(network, crops, device)
    usual = torch.get_num_threads()

    def share(number: int) -> tuple[Tensor, Tensor]:
        if torch.get_num_threads() != 1:  # of this thread alone
            torch.set_num_threads(1)
        low, high = len(crops) * number // threads, len(crops) * (number + 1) // threads
        return answered(network, crops[low:high], device)

    parts = list(pool(threads).map(share, range(threads)))
    torch.set_num_threads(usual)  # threads that begin later take the last number that anyone set
    return torch.cat([heat for heat, _ in parts]), torch.cat([numbers for _, numbers in parts])


def averaged(heat: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of 2 B crops, the second half mirrored at the diagonal, as maps of B crops.

    A mirrored heading a is pi / 2 - a: cos 2a changes its sign, x and y of the offset change places, and the
    front points to +x +y as before.
    """
    count = len(heat) // 2
    straight, other = numbers[:count], numbers[count:].transpose(2, 3)
    p = (heat[:count].sigmoid() + heat[count:].transpose(2, 3).sigmoid()) / 2
    speeds = [10, 9][: other.shape[1] - 9]
    other = torch.cat([other[:, [1, 0, 2, 3, 4, 5]], -other[:, 6:7], other[:, [7, 8, *speeds]]], 1)
    return torch.logit(p.clamp(1e-6, 1 - 1e-6)), (straight + other) / 2


def network_of(card: Card) -> nn.Module:
    """The network that a card describes, without its weights."""
    return build_network(configured(ModelConfig(), card.settings["model"]))


def checked_thresholds(path: Path, stored: Any) -> dict[str, float]:
    """Scores from which a box is shown, by class; those of a card over the usual ones.

    Raises:
        WeightsError: they are no scores.
    """
    if not isinstance(stored, Mapping) or not all(
        isinstance(value, int | float) and 0 <= value <= 1 for value in stored.values()
    ):
        raise WeightsError(f"{path}: its thresholds are no scores from 0 to 1.")
    return {**THRESHOLDS, **{str(name): float(value) for name, value in stored.items() if name in THRESHOLDS}}


def checked_curves(path: Path, stored: Any) -> dict[str, tuple[float, float]]:
    """Slopes and offsets of logits by class.

    Raises:
        WeightsError: they are no such numbers.
    """
    try:
        found = {str(name): (float(slope), float(offset)) for name, (slope, offset) in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its calibration is no slope and offset of each class.") from error
    if not all(0 < a < 100 and abs(b) < 100 for a, b in found.values()):
        raise WeightsError(f"{path}: a slope of its calibration is not above 0, or a number is too large.")
    return {name: curve for name, curve in found.items() if name in NAMES}


class Detector:
    """A network with its thresholds, kept warm: `Detector.open()`, then `detector(cloud)`."""

    def __init__(
        self, network: nn.Module, thresholds: Mapping[str, float], name: str, card: Card | None = None
    ) -> None:
        self.network, self.thresholds, self.name, self.card = network.eval(), dict(thresholds), name, card
        self.curves: dict[str, tuple[float, float]] = dict.fromkeys(NAMES, (1.0, 0.0))
        """Slope and offset of every class's logits, fitted on generated scans: scores become chances."""
        self.quick_thresholds = dict(thresholds)
        self.mirror = True
        """Look at each quadrant twice, once mirrored at its diagonal: twice the work, fewer false alarms."""

    @classmethod
    def open(cls, weights: str | Path | None = None, device: torch.device | str = "cpu") -> "Detector":
        """The detector of bundled weights, a file or a run folder.

        Raises:
            WeightsError: there are none by this name, or they are of something else.
        """
        loaded = load_network(weights or DEFAULT, "pointcloud", network_of, device=device)
        detector = cls(folded(loaded.network.eval()), THRESHOLDS, str(weights or DEFAULT), loaded.card)
        detector.curves.update(checked_curves(loaded.path, loaded.card.extra.get("calibration", {})))
        usual = loaded.card.extra.get("thresholds", {})
        for limits, stored in (
            (detector.thresholds, usual),
            (detector.quick_thresholds, loaded.card.extra.get("quick_thresholds", usual)),
        ):
            for name, value in checked_thresholds(loaded.path, stored).items():
                limits[name] = round(float(detector.chance(np.array([value]), name)[0]), 4)
        return detector

    def hurry(self) -> None:
        """Look at each quadrant once from now on, with the thresholds for that."""
        self.mirror, self.thresholds = False, dict(self.quick_thresholds)

    def chance(self, score: np.ndarray, name: str) -> np.ndarray:
        """What a network's score says, as a chance to be right."""
        slope, offset = self.curves[name]
        p = np.clip(score, 1e-6, 1 - 1e-6)
        return 1 / (1 + np.exp(-(slope * np.log(p / (1 - p)) + offset)))

    def raw(self, chance: float) -> float:
        """The least score of any class that may reach a chance."""
        p = min(max(chance, 1e-6), 1 - 1e-6)
        logits = [(math.log(p / (1 - p)) - offset) / slope for slope, offset in self.curves.values()]
        return 1 / (1 + math.exp(-min(logits)))

    @property
    def sweeps(self) -> int:
        """Sweeps that the network wants merged; above 1 points have an age."""
        return getattr(self.network, "sweeps", 1)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def maps(self, xyz: np.ndarray, turns: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Maps of the quadrants of levelled points (N, 3 or 4), each turned as in training."""
        if self.sweeps > 1 and xyz.shape[1] == 3:
            xyz = np.column_stack([xyz, np.zeros(len(xyz), np.float32)])
        xyz = xyz if self.sweeps > 1 else xyz[:, :3]
        crops = [crop_points(xyz, turn) for turn in turns]
        if self.mirror:
            crops += [np.ascontiguousarray(crop[:, [1, 0, *range(2, crop.shape[1])]]) for crop in crops]
        heat, numbers = side_by_side(self.network, crops, self.device)
        return averaged(heat, numbers) if self.mirror else (heat, numbers)

    def find(
        self, xyz: np.ndarray, plane: Plane, floor: float = FLOOR, turns: Sequence[int] = (0, 1, 2, 3)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (M, 7), scores and classes (M,) over points (N, 3) of our axes, best first.

        Merged sweeps have points (N, 4), the last number an age in seconds, and boxes (M, 9), the last two
        numbers a velocity.
        """
        return self.decoded(*self.maps(levelled(xyz, plane), turns), plane, floor, turns)

    def decoded(
        self, heat: Tensor, numbers: Tensor, plane: Plane, floor: float, turns: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (M, 7 or 9), scores and classes (M,) of the maps of quadrants, best first."""
        boxes, scores, kinds = [], [], []
        for turn, (found, labels) in zip(turns, decode_maps(heat, numbers, self.raw(floor)), strict=True):
            c, s = round(math.cos(turn * math.pi / 2)), round(math.sin(turn * math.pi / 2))
            x, y = found[:, 0].copy(), found[:, 1].copy()
            found[:, 0], found[:, 1] = c * x - s * y, s * x + c * y
            found[:, 6] = wrap(found[:, 6] + turn * math.pi / 2)
            if found.shape[1] > 7:
                u, v = found[:, 7].copy(), found[:, 8].copy()
                found[:, 7], found[:, 8] = c * u - s * v, s * u + c * v
            found[:, 2] += plane.height(found)
            boxes.append(found)
            scores.append(labels[:, 0])
            kinds.append(labels[:, 1].astype(int))
        box, score, kind = np.concatenate(boxes), np.concatenate(scores), np.concatenate(kinds)
        for k, name in enumerate(NAMES):
            score[kind == k] = self.chance(score[kind == k], name)
        keep = nms_per_class(box[:, :7], score, kind, OVERLAPS)
        return box[keep], score[keep], kind[keep]

    def __call__(
        self,
        cloud: Cloud,
        *,
        floor: float | None = None,
        front: bool = False,
        range_m: float | None = None,
        z_offset: float | None = None,
    ) -> Boxes:
        """Boxes of a cloud, in the frame of its file.

        Args:
            floor: one score for all classes instead of the thresholds of the weights.
            front: whether only a view along +x was recorded; half of the work.
            range_m: leave out boxes farther away.
            z_offset: height of the sensor's origin above the ground, instead of the estimate.
        """
        began = time.perf_counter()
        xyz = to_ours(cloud.points, cloud.frame)
        remarks = list(cloud.remarks)
        plane = estimate_ground(xyz)
        if z_offset is not None:
            plane = Plane(0.0, 0.0, -z_offset, 1.0)
        elif len(xyz) and plane.support < NO_GROUND:
            remarks.append(
                f"{cloud.name}: no ground found (support {plane.support:.2f}); heights may be wrong. "
                "Give --z-offset, the sensor's height above the ground in metres."
            )
        grounded = time.perf_counter()
        turns = (0, 3) if front else (0, 1, 2, 3)
        lowest = min(self.thresholds.values()) if floor is None else floor
        if len(xyz):
            aged = np.column_stack([xyz, ages(cloud)]) if self.sweeps > 1 else xyz
            box, score, kind = self.find(aged, plane, min(lowest, 0.999), turns)
        else:
            remarks.append(f"{cloud.name}: no points.")
            box, score, kind = np.zeros((0, 7)), np.zeros(0), np.zeros(0, int)
        limit = np.array([self.thresholds[name] if floor is None else floor for name in NAMES])
        keep = score >= limit[kind]
        if range_m is not None:
            keep &= np.hypot(box[:, 0], box[:, 1]) <= range_m
        box, score, kind = box[keep], score[keep], kind[keep]
        speed = turned_speed(box[:, 7:], cloud.frame) if box.shape[1] > 7 else None
        box = box[:, :7]
        points = count_inside(xyz, box)
        done = time.perf_counter()
        box = to_theirs(box, cloud.frame)
        if cloud.origin is not None:
            box[:, :3] += cloud.origin
        return Boxes(
            boxes=box,
            scores=score,
            names=tuple(NAMES[k] for k in kind),
            points=points,
            ground=plane,
            velocity=speed,
            source=cloud.name,
            seconds={"ground": grounded - began, "network": done - grounded, "all": done - began},
            remarks=tuple(remarks),
        )


def detect(cloud: Cloud | str | Path, weights: str | Path | None = None) -> Boxes:
    """Boxes of a cloud or a file, by the bundled weights.

    Raises:
        DataError: the file is no point cloud.
    """
    from vision.pointcloud.data import read_cloud

    if not isinstance(cloud, Cloud):
        cloud = read_cloud(cloud)
    return Detector.open(weights)(cloud)
