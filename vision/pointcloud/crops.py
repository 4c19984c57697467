"""Training examples: a generated scan, seen in several ways, cut into the four quadrants of its sensor.

Every quadrant is turned so that the sensor lies in its lower corner and all shadows point away from it;
detection does the same (`predict.py`). A crop begins 1.6 m behind the sensor and is 51.2 m long: KITTI's
moderate cars reach 43 m and its people 49 m.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from core.kernels.jit import compiled
from vision.pointcloud.assign import CAR, CYCLIST, NEUTRAL, PEDESTRIAN, draw_targets, empty_targets
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.synth.kept import kept_scan, made_scan
from vision.pointcloud.synth.scan import Scan

LOW, SIZE = -1.6, 51.2
CELL, OUT_CELL = 0.2, 0.4
CELLS, OUT_CELLS = 256, 128
HEIGHT_LOW, HEIGHT_HIGH = -0.6, 6.0
"""Heights above ground that any network sees."""
FIRST_TRAINING, FIRST_TEST = 100_000, 1_000_000
STEP = 0.002
"""Metres of a step of packed points."""
REACH_M = math.hypot(LOW + SIZE, LOW + SIZE)
"""How far the far corner of a crop lies."""
VIEW_TAN, VIEW_DOWN, VIEW_UP = 0.861, -0.28, 0.24
"""Borders of a camera's view: |y| and z over x."""


@dataclass(frozen=True)
class Crops:
    """A batch of crops, packed: arrays travel between processes without shared memory."""

    points: np.ndarray
    """(N, 3) int16, steps of 2 mm in the frame of each crop, heights above ground; crop after crop. Points of
    merged sweeps have a fourth column, their age in steps of 2 ms."""
    sizes: np.ndarray
    """(B,) points of each crop."""
    heat: np.ndarray
    """(B, 3, H, W) float16"""
    mask: np.ndarray
    """(B, H, W) bool: where the heat loss counts."""
    cells: np.ndarray
    """(K,) int64: cells of the batch, b H W + y W + x, that have numbers to learn."""
    numbers: np.ndarray
    """(K, 9) float32"""
    weight: np.ndarray
    """(K,) float32"""

    def __len__(self) -> int:
        return len(self.sizes)

    def cloud(self, device: torch.device) -> tuple[Tensor, Tensor, int]:
        """What a network is given: points (N, 3 or 4) float32, their crops (N,), how many crops."""
        points = torch.from_numpy(self.points).to(device).float() * STEP
        sizes = torch.from_numpy(self.sizes).to(device)
        crop = torch.repeat_interleave(torch.arange(len(self), device=device), sizes, output_size=len(points))
        return points, crop, len(self)

    def targets(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """heat, mask (B, 1, H, W), cells, numbers, weight on a device."""
        return (
            torch.from_numpy(self.heat).to(device).float(),
            torch.from_numpy(self.mask).to(device).float()[:, None],
            torch.from_numpy(self.cells).to(device),
            torch.from_numpy(self.numbers).to(device),
            torch.from_numpy(self.weight).to(device),
        )


@compiled
def quadrants(points, out, turn):  # noqa: ANN001, ANN201
    """Points of the crop after turning by -90 degrees `turn` times; gives how many were written."""
    count = 0
    high = LOW + SIZE
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        if turn == 1:
            x, y = y, -x
        elif turn == 2:
            x, y = -x, -y
        elif turn == 3:
            x, y = -y, x
        if LOW <= x < high and LOW <= y < high and HEIGHT_LOW <= z < HEIGHT_HIGH:
            out[count, 0], out[count, 1], out[count, 2] = x, y, z
            for k in range(3, out.shape[1]):
                out[count, k] = points[p, k]
            count += 1
    return count


def turned(boxes: np.ndarray, turn: int) -> np.ndarray:
    """Boxes (M, 7, or 9 with velocities) in the frame of a quadrant: turned by -90 degrees `turn` times."""
    out = boxes.copy()
    for first in (0, 7)[: 1 + (boxes.shape[1] > 7)]:
        x, y = boxes[:, first], boxes[:, first + 1]
        if turn == 1:
            out[:, first], out[:, first + 1] = y, -x
        elif turn == 2:
            out[:, first], out[:, first + 1] = -x, -y
        elif turn == 3:
            out[:, first], out[:, first + 1] = -y, x
    out[:, 6] = boxes[:, 6] - turn * math.pi / 2
    return out


def crop_points(points: np.ndarray, turn: int) -> np.ndarray:
    """Levelled points (N, 3), or (N, 4) with ages, of a quadrant, in its frame, float32."""
    out = np.empty((len(points), min(4, points.shape[1])), np.float32)
    return out[: quadrants(points, out, turn)]


def target_kinds(scan: Scan, kept: np.ndarray, share: np.ndarray) -> np.ndarray:
    """What each object of a scan is for training: a class, or `NEUTRAL`.

    A car is a target with five points and at least .15 of its rays, or with 60 points; vans are cars;
    trucks are neutral; people and cyclists count from four points.

    Args:
        kept: points left on each object in this view.
        share: of the object that the view shows.
    """
    seen = scan.visible * share
    car = (kept >= 5) & ((seen >= 0.15) | (kept >= 60))
    kinds = np.full(len(scan.kinds), NEUTRAL, np.int64)
    kinds[((scan.kinds == 0) | (scan.kinds == 3)) & car] = CAR
    kinds[(scan.kinds == 1) & (kept >= 4)] = PEDESTRIAN
    kinds[(scan.kinds == 2) & (kept >= 4)] = CYCLIST
    return kinds


@dataclass(frozen=True)
class View:
    """A scan in one of the ways that training sees it."""

    points: np.ndarray
    boxes: np.ndarray
    kinds: np.ndarray
    whole: np.ndarray | None
    """Points before a camera's cut; None without a cut."""


MIN_SCALE = 0.95


def view(scan: Scan, rng: np.random.Generator | None) -> View:
    """One view of a scan: levelled by the estimator, turned, mirrored, scaled, thinned, perhaps cut.

    Without random numbers the scan is only levelled.
    """
    plane = estimate_ground(scan.points)
    xyz = scan.points[:, :3].astype(np.float32)
    boxes = scan.boxes.astype(np.float64)
    if scan.velocity is not None:  # of merged sweeps, whose times are ages below zero
        xyz, boxes = np.column_stack([xyz, -scan.time]), np.hstack([boxes, scan.velocity])
    near = xyz[:, 0] ** 2 + xyz[:, 1] ** 2 < (REACH_M / MIN_SCALE) ** 2
    if rng is not None and rng.random() < 0.15:  # half of the rings: another sensor of the same kind
        near &= scan.ring % 2 == rng.integers(2)
    xyz, owner = xyz[near], scan.owner[near]
    a, b, c = plane.a, plane.b, plane.c
    if rng is not None:
        a, b, c = a + rng.normal(0, 0.003), b + rng.normal(0, 0.003), c + rng.normal(0, 0.04)
    xyz[:, 2] -= (a * xyz[:, 0] + b * xyz[:, 1] + c).astype(np.float32)
    boxes[:, 2] -= a * boxes[:, 0] + b * boxes[:, 1] + c
    objects = len(boxes)
    whole = None
    share = np.ones(objects)
    if rng is not None:
        angle = rng.uniform(0, 2 * math.pi)
        if rng.random() < 0.5:
            angle = round(angle / (math.pi / 2)) * math.pi / 2 + rng.normal(0, 0.1)
        scale = rng.uniform(MIN_SCALE, 1.05)
        mirror = -1.0 if rng.random() < 0.5 else 1.0
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        turn[:, 1] *= mirror
        xyz[:, :2] = xyz[:, :2] @ turn.T.astype(np.float32)
        xyz[:, 2] *= np.float32(scale)
        boxes[:, :2] = boxes[:, :2] @ turn.T
        boxes[:, 2:6] *= scale
        boxes[:, 7:] = boxes[:, 7:] @ turn.T if boxes.shape[1] > 7 else boxes[:, 7:]
        boxes[:, 6] = mirror * boxes[:, 6] + angle
        if rng.random() < 0.35:
            keep = rng.random(len(xyz), dtype=np.float32) < rng.uniform(0.25, 1.0)
            xyz, owner = xyz[keep], owner[keep]
        if rng.random() < 0.4:
            cut = rng.uniform(0, 2 * math.pi)
            u = xyz[:, 0] * math.cos(cut) + xyz[:, 1] * math.sin(cut)
            v = xyz[:, 1] * math.cos(cut) - xyz[:, 0] * math.sin(cut)
            z = xyz[:, 2] - scan.sensor.height
            keep = (np.abs(v) < VIEW_TAN * u) & (z > VIEW_DOWN * u) & (z < VIEW_UP * u)
            before = np.bincount(owner[owner >= 0], minlength=objects)
            whole = xyz
            xyz, owner = xyz[keep], owner[keep]
            share = np.bincount(owner[owner >= 0], minlength=objects) / np.maximum(before, 1)
    kept = np.bincount(owner[owner >= 0], minlength=objects)
    return View(xyz, boxes, target_kinds(scan, kept, share), whole)


def crops_of(seen: View) -> list[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Points and maps of the quadrants of a view; those that a cut left nearly empty are left out."""
    out = []
    for turn in range(4):
        points = crop_points(seen.points, turn)
        if seen.whole is not None and len(points) < 0.25 * len(crop_points(seen.whole, turn)):
            continue
        if len(points) < 50:
            continue
        maps = empty_targets(OUT_CELLS, seen.boxes.shape[1] - 7)
        boxes = turned(seen.boxes, turn)
        near = (np.abs(boxes[:, :2] - LOW - SIZE / 2) < SIZE / 2 + 8).all(1)
        draw_targets(boxes[near], seen.kinds[near], LOW, OUT_CELL, *maps)
        out.append((points, maps))
    return out


def has(crop: tuple[np.ndarray, tuple[np.ndarray, ...]], kind: int) -> bool:
    """Whether a crop holds the centre of an object of a class to learn."""
    heat, *_ = crop[1]
    return bool(heat[kind].max(initial=0.0) == 1.0)


def batch_of(crops: Sequence[tuple[np.ndarray, tuple[np.ndarray, ...]]]) -> Crops:
    """Crops as one packed batch."""
    heat, mask, numbers, weight = (np.stack([maps[k] for _, maps in crops]) for k in range(4))
    cells = np.flatnonzero(weight)
    points = np.concatenate([points for points, _ in crops])
    return Crops(
        points=np.round(points / STEP).astype(np.int16),
        sizes=np.array([len(points) for points, _ in crops], np.int64),
        heat=heat.astype(np.float16),
        mask=mask > 0,
        cells=cells,
        numbers=numbers.transpose(0, 2, 3, 1).reshape(-1, numbers.shape[1])[cells],
        weight=weight.ravel()[cells],
    )


@dataclass(frozen=True)
class MakeCrops:
    """Makes a batch of crops from generated scans; whatever is random comes from the generator."""

    sensor: str
    views: int
    sweeps: int = 1
    pool: int = 0
    """How many different scans there are; 0: a fresh one each time."""
    store: str = ""
    """Folder that keeps them; empty: each is made again when it is drawn."""
    riderless: float = 1.0
    """Share of the crops without a cyclist that stay."""

    def __call__(self, scans: int, generator: Generator) -> Crops:
        """So many scans, each seen `views` times, each view up to four crops."""
        crops = []
        last = FIRST_TRAINING + self.pool if self.pool else FIRST_TEST
        while not crops:
            for _ in range(scans):
                seed = int(torch.randint(FIRST_TRAINING, last, (), generator=generator))
                way = int(torch.randint(1 << 62, (), generator=generator))
                scan = self.scan(seed)
                rng = np.random.default_rng((seed, way))
                for _ in range(self.views):
                    made = crops_of(view(scan, rng))
                    if self.riderless < 1:
                        made = [crop for crop in made if has(crop, CYCLIST) or rng.random() < self.riderless]
                    crops += made
        return batch_of(crops)

    def scan(self, seed: int) -> Scan:
        """A scan by its seed."""
        if self.store:
            return kept_scan(seed, self.sensor, self.sweeps, self.store)
        return made_scan(seed, self.sensor, self.sweeps)
