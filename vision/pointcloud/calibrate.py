"""Thresholds and chances from generated scans, made as hard as recorded ones; no recording is looked at.

Generated scans are nearly solved, so the best threshold on them is too high for real ones. The scans here
are thinned and noisier: what a recorded scene has in variety is asked for in lost points. The threshold of
cars is the lowest score at which so many of their boxes in these scans are right as `PRECISION` asks, with
every sensor: one threshold serves all of them, so the hardest sensor decides. People and cyclists, of whom
thinning leaves little, have the score of the best F1.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from vision.pointcloud.assign import NEUTRAL
from vision.pointcloud.crops import FIRST_TEST, view
from vision.pointcloud.ground import Plane
from vision.pointcloud.metrics import Frame, best_threshold, hits_of, precise_threshold
from vision.pointcloud.predict import NAMES, Detector
from vision.pointcloud.synth.kept import made_scan
from vision.pointcloud.synth.sensors import NAMES as SENSORS

FIRST = FIRST_TEST + 500_000
"""Seeds of calibration: neither trained on nor in any table."""
SCANS = 96
PRECISION = 0.9
"""Share of right boxes in hard scans of any sensor that the threshold of cars keeps."""
FEW = 4
"""Scans of a sensor that say something of it; with fewer all sensors are taken together."""
KEPT = (0.2, 0.7)
"""Share of the points that is left, drawn for each scan."""
NOISE_M = 0.03
NEAR_M = 30.0
OVERLAP = {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25}
FLAT = Plane(0.0, 0.0, 0.0, 1.0)
LOW_SCORE = 0.05


def hard_frames(
    network: nn.Module, scans: int, sensor: str = "mixture", quick: bool = False, first: int = FIRST
) -> Iterator[dict[str, Frame]]:
    """Truth and detections of each class on hard scans; `quick` looks at each quadrant once."""
    detector = Detector(network, {}, "training")
    detector.mirror = not quick
    for number in range(scans):
        scan = made_scan(first + number, sensor, detector.sweeps)
        rng = np.random.default_rng(first + number)
        seen = view(scan, rng)
        keep = rng.random(len(seen.points)) < rng.uniform(*KEPT)
        points = seen.points[keep]
        points[:, :3] += rng.normal(0, NOISE_M, (len(points), 3)).astype(np.float32)
        boxes, scores, kinds = detector.find(points, FLAT, LOW_SCORE)
        near = np.hypot(seen.boxes[:, 0], seen.boxes[:, 1]) < NEAR_M
        truth, boxes = seen.boxes[:, :7], boxes[:, :7]
        frames = {}
        for k, name in enumerate(NAMES):
            asked = (seen.kinds == k) & near
            other = ((seen.kinds == k) & ~near) | (seen.kinds == NEUTRAL)
            mine = kinds == k
            frames[name] = Frame(truth[asked], truth[other], boxes[mine], scores[mine])
        yield frames


def thresholds(
    network: nn.Module,
    scans: int = SCANS,
    sensor: str = "mixture",
    precision: float = PRECISION,
    first: int = FIRST,
) -> dict[str, Any]:
    """The scores to answer at, for the card of the weights: of whole detection, of quick, and their rule."""
    each = scans // len(SENSORS)
    sensors = dict.fromkeys(SENSORS, each) if sensor == "mixture" and each >= FEW else {sensor: scans}
    training = network.training
    network.eval()
    found: dict[str, Any] = {"thresholds_for": {"precision": precision, "scans": sensors}}
    for part, quick in (("thresholds", False), ("quick_thresholds", True)):
        with torch.no_grad():
            groups = [
                list(hard_frames(network, count, name, quick, first)) for name, count in sensors.items()
            ]
        found[part] = chosen(groups, precision)
    network.train(training)
    return found


def chosen(groups: Sequence[Sequence[dict[str, Frame]]], precision: float) -> dict[str, float]:
    """The threshold of each class from frames of one sensor after another."""
    cars = [[frame["Car"] for frame in group] for group in groups]
    found = {"Car": max(precise_threshold(rows, OVERLAP["Car"], precision, NEAR_M) for rows in cars)}
    for name in NAMES[1:]:
        rows = [frame[name] for group in groups for frame in group]
        found[name] = best_threshold(rows, OVERLAP[name], NEAR_M)[0]
    return {name: round(score, 3) for name, score in found.items()}


def curves(
    network: nn.Module, scans: int = SCANS, sensor: str = "mixture", first: int = FIRST
) -> dict[str, dict[str, tuple[float, float]]]:
    """Slope and offset of each class's logits that make scores chances on generated scans (Platt scaling)."""
    detector = Detector(network, {}, "training")
    rows: dict[str, list[Frame]] = {name: [] for name in NAMES}
    for number in range(scans):
        seen = view(made_scan(first + 100_000 + number, sensor, detector.sweeps), None)
        with torch.no_grad():
            boxes, scores, kinds = detector.find(seen.points, FLAT, LOW_SCORE)
        near = np.hypot(seen.boxes[:, 0], seen.boxes[:, 1]) < NEAR_M
        for k, name in enumerate(NAMES):
            asked, mine = (seen.kinds == k) & near, kinds == k
            other = ((seen.kinds == k) & ~near) | (seen.kinds == NEUTRAL)
            truth, found = seen.boxes[:, :7], boxes[:, :7]
            rows[name].append(Frame(truth[asked], truth[other], found[mine], scores[mine]))
    found = {}
    for name in NAMES:
        hits = hits_of(rows[name], OVERLAP[name], False, NEAR_M)
        found[name] = fitted(hits[:, 0], hits[:, 1])
    return {"calibration": found}


def calibrated(
    network: nn.Module,
    scans: int = SCANS,
    sensor: str = "mixture",
    precision: float = PRECISION,
    first: int = FIRST,
) -> dict[str, Any]:
    """Thresholds and curves, for the card of weights; scans are those of seeds from `first` on."""
    return {**thresholds(network, scans, sensor, precision, first), **curves(network, scans, sensor, first)}


def fitted(scores: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the logits of scores (N,) against hits 0 or 1 (N,), with a weak pull to 1 and 0."""
    p = np.clip(scores, 1e-6, 1 - 1e-6)
    x = np.column_stack([np.log(p / (1 - p)), np.ones(len(p))])
    pull, prior = np.diag([2.0, 2.0]), np.array([1.0, 0.0])
    w = prior.copy()
    for _ in range(30):  # Newton's steps
        q = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (q - hits) + pull @ (w - prior)
        curvature = (x * (q * (1 - q))[:, None]).T @ x + pull
        w = w - np.linalg.solve(curvature, gradient)
    return round(float(max(0.2, w[0])), 4), round(float(w[1]), 4)
