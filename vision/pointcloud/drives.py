"""Generated drives for the memory over sweeps: crops of every sweep, and how the vehicle moved between them.

A car that was a target once stays one while it is hidden: that is what the memory is for.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from vision.pointcloud.assign import NEUTRAL, SPEEDS, draw_targets, empty_targets
from vision.pointcloud.crops import (
    FIRST_TEST,
    FIRST_TRAINING,
    LOW,
    OUT_CELL,
    OUT_CELLS,
    SIZE,
    Crops,
    batch_of,
    crop_points,
    target_kinds,
    turned,
)
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.loss import FRONT, REGRESSION, SPEED, focal_loss, numbers_loss
from vision.pointcloud.merge import between
from vision.pointcloud.synth.sequence import Sweep, sequence

PARTS = ("focal", "l1", "front", "speed")
"""Of the loss of a drive."""


@dataclass(frozen=True)
class Level:
    """A sweep with its ground taken away."""

    points: np.ndarray
    """(N, 3) float32, heights above ground."""
    boxes: np.ndarray
    """(M, 9): the usual seven and the velocity over ground."""
    kinds: np.ndarray
    """(M,) what each box is for training, by what is seen of it in this sweep alone."""
    ids: np.ndarray
    motion: np.ndarray
    """(3,) x, y, yaw of this sweep's frame in that of the last one."""


@dataclass(frozen=True)
class DriveCrops:
    """The same quadrants of the same drives, sweep after sweep."""

    sweeps: tuple[Crops, ...]
    motions: np.ndarray
    """(T, B, 3) of the frame of each crop since the sweep before."""

    def __len__(self) -> int:
        return len(self.sweeps[0])


def levelled(sweeps: list[Sweep], mirror: bool = False) -> list[Level]:
    """Sweeps levelled by the estimator; mirrored, what is left lies right."""
    out: list[Level] = []
    last = sweeps[0].pose
    for sweep in sweeps:
        scan = sweep.scan
        plane = estimate_ground(scan.points)
        xyz = scan.points[:, :3].astype(np.float32)
        xyz[:, 2] -= plane.height(xyz).astype(np.float32)
        boxes = np.hstack([scan.boxes.astype(np.float64), sweep.velocity])
        boxes[:, 2] -= plane.height(boxes)
        motion = between(last, sweep.pose)
        last = sweep.pose
        if mirror:
            xyz[:, 1] *= -1
            boxes[:, [1, 6, 8]] *= -1
            motion[1:] *= -1
        kinds = target_kinds(scan, scan.counts, np.ones(len(boxes)))
        out.append(Level(xyz, boxes, kinds, sweep.ids, motion))
    return out


def turned_motion(motion: np.ndarray, turn: int) -> np.ndarray:
    """A motion (3,) in the frame of a quadrant."""
    c, s = round(math.cos(turn * math.pi / 2)), round(math.sin(turn * math.pi / 2))
    return np.array([c * motion[0] + s * motion[1], c * motion[1] - s * motion[0], motion[2]])


def remembered(levels: list[Level]) -> list[np.ndarray]:
    """Classes of the boxes of each sweep; what was a target in an earlier sweep is one still."""
    known: dict[int, int] = {}
    out = []
    for level in levels:
        kinds = level.kinds.copy()
        for row, number in enumerate(level.ids):
            if kinds[row] != NEUTRAL:
                known[int(number)] = int(kinds[row])
            elif int(number) in known:
                kinds[row] = known[int(number)]
        out.append(kinds)
    return out


def drive_crops(levels: list[Level]) -> tuple[list[list], np.ndarray]:
    """Of each sweep its four crops with their maps, and the motions (T, 4, 3)."""
    crops, motions = [], []
    for level, kinds in zip(levels, remembered(levels), strict=True):
        row = []
        for turn in range(4):
            maps = empty_targets(OUT_CELLS, SPEEDS)
            boxes = turned(level.boxes, turn)
            near = (np.abs(boxes[:, :2] - LOW - SIZE / 2) < SIZE / 2 + 8).all(1)
            draw_targets(boxes[near], kinds[near], LOW, OUT_CELL, *maps)
            row.append((crop_points(level.points, turn), maps))
        crops.append(row)
        motions.append([turned_motion(level.motion, turn) for turn in range(4)])
    return crops, np.array(motions)


def joined(drives: list[tuple[list[list], np.ndarray]]) -> DriveCrops:
    """Drives of the same length as one batch."""
    sweeps = tuple(
        batch_of([crop for crops, _ in drives for crop in crops[number]])
        for number in range(len(drives[0][0]))
    )
    return DriveCrops(sweeps, np.concatenate([motions for _, motions in drives], 1).astype(np.float32))


@dataclass(frozen=True)
class MakeDrives:
    """Makes a batch of drives; whatever is random comes from the generator."""

    sensor: str
    sweeps: int

    def __call__(self, count: int, generator: Generator) -> DriveCrops:
        """So many drives, each in its four quadrants, as it is and mirrored."""
        drives = []
        for _ in range(count):
            seed = int(torch.randint(FIRST_TRAINING, FIRST_TEST, (), generator=generator))
            sweeps = sequence(seed, self.sensor, self.sweeps)
            drives += [drive_crops(levelled(sweeps, mirror)) for mirror in (False, True)]
        return joined(drives)


def check_drives(sensor: str, sweeps: int, count: int) -> list[DriveCrops]:
    """Drives that nothing is trained on."""
    return [
        joined([drive_crops(levelled(sequence(FIRST_TEST - 1 - number, sensor, sweeps)))])
        for number in range(count)
    ]


def learn_drive(model: nn.Module, batch: DriveCrops) -> dict[str, Tensor]:
    """The step of the loop: the whole drive is one piece of backpropagation through time."""
    device = next(model.parameters()).device
    motions = torch.from_numpy(batch.motions).to(device)
    state = None
    sums: dict[str, Tensor] = {name: torch.zeros((), device=device) for name in PARTS}
    for crops, motion in zip(batch.sweeps, motions, strict=True):
        with torch.no_grad():  # the detector itself stays as it is
            features = model.features(*crops.cloud(device))  # pyright: ignore[reportCallIssue]
        heat, numbers, state = model.remember(features, state, motion)  # pyright: ignore[reportCallIssue]
        wanted, mask, cells, target, weight = crops.targets(device)
        parts = (focal_loss(heat, wanted, mask), *numbers_loss(numbers, cells, target, weight))
        for name, part in zip(PARTS, parts, strict=True):
            sums[name] = sums[name] + part / len(motions)
    loss = sums["focal"] + REGRESSION * sums["l1"] + FRONT * sums["front"] + SPEED * sums["speed"]
    return {"loss": loss, **sums}
