"""Detection that remembers: the map of the last sweep, moved by the own motion, is read with the new one."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, DataError
from core.state import map_state, to
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.crops import crop_points
from vision.pointcloud.drives import turned_motion
from vision.pointcloud.ground import Plane, estimate_ground
from vision.pointcloud.merge import between
from vision.pointcloud.models.bev import CropDetector
from vision.pointcloud.poses import Pose
from vision.pointcloud.predict import (
    NAMES,
    Boxes,
    Detector,
    checked_thresholds,
    levelled,
    to_ours,
    to_theirs,
    turned_speed,
)

MEMORY = "pointcloud-memory"
"""Bundled weights with a memory."""
REMEMBERED = "remembered"
"""Where a card holds the thresholds of the memory."""
TURNS = (0, 1, 2, 3)


@dataclass
class Remembering:
    """`remember(cloud, pose)` -> boxes with velocities; sweeps in the order of their time.

    State is a plain value (`state`, tensors in tuples) beside the last pose; `reset` forgets both.

    Raises:
        ConfigError: weights without a memory.
    """

    detector: Detector
    state: Any = None
    pose: np.ndarray | None = None
    """(3,) x, y, yaw of the last sweep."""
    network: CropDetector = field(init=False)
    thresholds: dict[str, float] = field(init=False)
    """Those of the detector, but for cars one of as many false alarms as single sweeps have."""

    def __post_init__(self) -> None:
        network = self.detector.network
        if not isinstance(network, CropDetector) or network.memory is None:
            raise ConfigError(f"{self.detector.name} has no memory; {MEMORY} has.")
        self.network, self.thresholds = network, dict(self.detector.thresholds)
        card = self.detector.card
        own = {} if card is None else card.extra.get(REMEMBERED, {})
        for name, value in checked_thresholds(Path(self.detector.name), own).items():
            if name in own:
                self.thresholds[name] = round(float(self.detector.chance(np.array([value]), name)[0]), 4)

    def reset(self) -> None:
        """Forget every sweep."""
        self.state = self.pose = None

    def maps(self, level: np.ndarray, pose: np.ndarray) -> tuple[Tensor, Tensor]:
        """Heat and numbers of the quadrants of a levelled sweep (N, 3); the memory goes on."""
        motion = np.zeros(3) if self.pose is None else between(self.pose, pose)
        moved = np.array([turned_motion(motion, turn) for turn in TURNS], np.float32)
        crops = [crop_points(level, turn) for turn in TURNS]
        index = np.repeat(np.arange(len(crops)), [len(points) for points in crops])
        device = self.detector.device
        with torch.no_grad():
            features = self.network.features(
                torch.from_numpy(np.concatenate(crops)).to(device),
                torch.from_numpy(index).to(device),
                len(crops),
            )
            heat, numbers, state = self.network.remember(
                features, self.state, torch.from_numpy(moved).to(device)
            )
        self.state, self.pose = state, np.array(pose, float)
        return heat, numbers

    def find(
        self, xyz: np.ndarray, plane: Plane, pose: np.ndarray, floor: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes with velocities (M, 9), scores and classes (M,) over points (N, 3) of our axes."""
        maps = self.maps(levelled(xyz, plane), pose)
        return self.detector.decoded(*maps, plane, floor, TURNS)

    def __call__(self, cloud: Cloud, pose: Pose | None = None) -> Boxes:
        """Boxes of the next sweep at the thresholds of the weights; no pose: the vehicle stands still."""
        began = time.perf_counter()
        xyz = to_ours(cloud.points, cloud.frame)
        plane = estimate_ground(xyz)
        here = np.zeros(3) if pose is None else pose.place
        limit = np.array([self.thresholds[name] for name in NAMES])
        box, score, kind = self.find(xyz, plane, here, min(float(limit.min()), 0.999))
        keep = score >= limit[kind]
        box, score, kind = box[keep], score[keep], kind[keep]
        points = count_inside(xyz, box[:, :7])
        return Boxes(
            boxes=to_theirs(box[:, :7], cloud.frame),
            scores=score,
            names=tuple(NAMES[k] for k in kind),
            points=points,
            ground=plane,
            velocity=turned_speed(box[:, 7:], cloud.frame),
            source=cloud.name,
            seconds={"all": time.perf_counter() - began},
            remarks=cloud.remarks,
        )

    def as_dict(self) -> dict[str, Any]:
        """State and pose as plain values on the CPU, to be saved and taken over by `from_dict`."""
        state = None if self.state is None else map_state(lambda part: part.cpu().clone(), self.state)
        return {"state": state, "pose": None if self.pose is None else self.pose.tolist()}

    def from_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            DataError: not such a state.
        """
        try:
            state, pose = saved["state"], saved["pose"]
            self.state = None if state is None else to(state, self.detector.device)
            self.pose = None if pose is None else np.array(pose, float).reshape(3)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("not the state of a memory: a part is missing or of another kind.") from error
