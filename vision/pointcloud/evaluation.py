"""Figures of a detector beside both baselines, by one protocol for every folder."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vision.pointcloud.baselines import hand_made
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.examples import Example, generated
from vision.pointcloud.formats.kitti import Camera, corners, image_box
from vision.pointcloud.formats.labels import role
from vision.pointcloud.metrics import (
    Frame,
    average_precision,
    calibration_error,
    front_share,
    recall_precision,
)
from vision.pointcloud.predict import NAMES, Boxes, Detector, to_ours

NEAR_M = 30.0
AP_FLOOR = 0.02
"""Smallest score in a curve of precision over recall."""
MADE_POINTS = 5
"""Least points of a generated car: its label knows of returns that no annotator would see."""
MODERATE = (25.0, 1, 0.3)
"""KITTI moderate: least height in the image, largest occlusion and truncation."""
PROTOCOL = (
    "Recall and precision: cars within 30 m (hypot(x, y) of the centre in the frame of the file) with at "
    "least one point (generated scans: five), overlap seen from above, one to one, highest score first, "
    "at the threshold of the weights. Neutral: cars beyond or without points and vehicles that are not "
    "cars (an overlap of .1 is no false alarm). KITTI: points, labels and detections cut to the camera's "
    "view. AP: R40 in percent, moderate (KITTI labels: 25 px, occlusion 1, truncation .3; elsewhere five "
    "points), bev from above, 3d by volume. Front: share of the found cars whose front points to the right "
    "side."
)

Finder = Callable[[Example], Boxes]
"""Boxes of an example in the axes of its file, down to a low score, cut to what is seen."""


def view_points(box: np.ndarray) -> np.ndarray:
    """Corners, middles of edges and of faces (26, 3) of a box."""
    corner = corners(box)
    low_high = corner.reshape(2, 2, 2, 3)
    points = []
    for i in (0, 0.5, 1):
        for j in (0, 0.5, 1):
            for k in (0, 0.5, 1):
                if (i, j, k) == (0.5, 0.5, 0.5):
                    continue
                at = low_high[0] * (1 - i) + low_high[1] * i
                at = at[0] * (1 - j) + at[1] * j
                points.append(at[0] * (1 - k) + at[1] * k)
    return np.array(points)


def in_view(boxes: np.ndarray, camera: Camera | None) -> np.ndarray:
    """Which boxes (M, 7) a camera sees some part of; all without a camera."""
    if camera is None:
        return np.ones(len(boxes), bool)
    return np.array([bool(camera.sees(view_points(box)).any()) for box in boxes], bool).reshape(-1)


def seen_part(example: Example) -> Example:
    """The points that the camera sees."""
    if example.camera is None:
        return example
    cloud = example.cloud
    keep = example.camera.sees(cloud.points)
    return replace(
        example, cloud=replace(cloud, points=cloud.points[keep], intensity=None, ring=None, time=None)
    )


def network_finder(detector: Detector) -> Finder:
    """The detector on examples already cut to their view."""

    def find(example: Example) -> Boxes:
        found = detector(example.cloud, floor=AP_FLOOR, front=example.camera is not None)
        return found.having(in_view(found.boxes, example.camera))

    return find


def hand_made_finder() -> Finder:
    """The detector without learning."""

    def find(example: Example) -> Boxes:
        found = hand_made(example.cloud)
        return found.having(in_view(found.boxes, example.camera))

    return find


def sensors_report(
    count: int, detector: Detector, names: Sequence[str], front: bool = False, first: int = 0
) -> dict[str, dict[str, float | int | None]]:
    """Figures of cars by sensor, one file of weights and one threshold, on generated scans."""
    out = {}
    for name in names:
        rows = list(generated(count, name, front, first))
        finder = network_finder(detector)
        found = [finder(example) for example in rows]
        out[name] = figures(rows, found, detector.thresholds)["Car"]
    return out


def frame_of(example: Example, found: Boxes, kind: str, moderate: bool) -> Frame:
    """Truth, neutral boxes and detections of a class.

    With `moderate` the truth of AP (any range), else that within 30 m.
    """
    truth = replace(example.truth, boxes=example.cloud.local(example.truth.boxes))
    found = replace(found, boxes=example.cloud.local(found.boxes))
    roles = np.array([role(name) for name in truth.names], dtype=object)
    ours = to_ours(example.cloud.points, example.cloud.frame)
    turned = axes_of(truth.boxes, example.cloud.frame)
    inside = count_inside(ours, turned)
    seen = in_view(truth.boxes, example.camera)
    near = np.hypot(truth.boxes[:, 0], truth.boxes[:, 1]) < NEAR_M
    same = roles == kind
    if moderate:
        asked = (
            same
            & seen
            & (inside >= (1 if example.camera is not None and truth.image_boxes is not None else 5))
        )
        asked &= is_moderate(example)
    else:
        asked = same & seen & (inside >= (MADE_POINTS if example.cloud.format == "made" else 1)) & near
    neutral = (same & ~asked) | ((roles == "neutral") & (kind == "Car"))
    mine = np.array([name == kind for name in found.names], bool).reshape(-1)
    return Frame(truth.boxes[asked], truth.boxes[neutral], found.boxes[mine], found.scores[mine])


def axes_of(boxes: np.ndarray, frame: str) -> np.ndarray:
    """Boxes of a file in our axes."""
    out = boxes.copy()
    if frame == "yx":
        out[:, 0], out[:, 1] = boxes[:, 1], -boxes[:, 0]
        out[:, 6] = boxes[:, 6] - np.pi / 2
    return out


def is_moderate(example: Example) -> np.ndarray:
    """Which labels are moderate or easier; all where nothing is said about it."""
    truth = example.truth
    good = np.ones(len(truth), bool)
    if truth.occluded is not None and example.camera is not None:
        good &= truth.occluded <= MODERATE[1]
    if truth.truncated is not None and example.camera is not None:
        good &= truth.truncated <= MODERATE[2]
    rectangles = truth.image_boxes
    if rectangles is not None:
        good &= rectangles[:, 3] - rectangles[:, 1] > MODERATE[0]
    elif example.camera is not None:
        for k, box in enumerate(truth.boxes):
            flat = image_box(box, example.camera)
            good[k] &= flat is not None and flat[0][3] - flat[0][1] > MODERATE[0] and flat[1] <= MODERATE[2]
    return good


def figures(
    examples: Sequence[Example], found: Sequence[Boxes], thresholds: dict[str, float]
) -> dict[str, dict[str, float | int | None]]:
    """The figures of one detector, by class."""
    out: dict[str, dict[str, float | int | None]] = {}
    for kind in NAMES:
        near = [frame_of(e, b, kind, False) for e, b in zip(examples, found, strict=True)]
        every = [frame_of(e, b, kind, True) for e, b in zip(examples, found, strict=True)]
        row: dict[str, float | int | None] = {"gt30m": sum(len(frame.truth) for frame in near)}
        for overlap in (0.3, 0.5):
            recall, precision, counts = recall_precision(near, overlap, thresholds[kind], NEAR_M)
            row[f"recall30m@{overlap}"], row[f"precision30m@{overlap}"] = recall, precision
            row[f"found30m@{overlap}"], row[f"false30m@{overlap}"] = counts["found"], counts["false"]
        row["front30m@0.5"] = front_share(near, 0.5 if kind == "Car" else 0.25, thresholds[kind])
        row["ece@0.5"] = calibration_error(near, 0.5 if kind == "Car" else 0.25, range_m=NEAR_M)
        row["bev@0.5"] = average_precision(every, 0.5)
        for overlap in (0.25, 0.5, 0.7):
            row[f"3d@{overlap}"] = average_precision(every, overlap, volume=True)
        out[kind] = row
    return out


def evaluate(
    examples: Iterable[Example],
    detector: Detector,
    baselines: dict[str, Finder] | None = None,
    disturb: Callable[[Example], Example] | None = None,
) -> dict[str, Any]:
    """Score a detector, and baselines beside it, on labelled scans.

    Args:
        disturb: done to every scan and its labels after the camera's cut, which then no longer counts.

    Baselines answer at `thresholds["hand_made"]` or at those of their own weights, which their finders know.
    """
    rows = [seen_part(example) for example in examples]
    if disturb is not None:
        rows = [disturb(example) for example in rows]
    finder = network_finder(detector)
    found = [finder(example) for example in rows]
    report: dict[str, Any] = {
        "n": len(rows),
        "model": figures(rows, found, detector.thresholds),
        "baselines": {},
        "items": [item(e, b, detector.thresholds) for e, b in zip(rows, found, strict=True)],
        "protocol": PROTOCOL,
        "weights": detector.name,
        "thresholds": dict(detector.thresholds),
    }
    for name, other in (baselines or {}).items():
        limits = getattr(other, "thresholds", dict.fromkeys(NAMES, 0.0))
        report["baselines"][name] = figures(rows, [other(example) for example in rows], limits)
    return report


def item(example: Example, found: Boxes, thresholds: dict[str, float]) -> dict[str, Any]:
    """What was labelled and what was found in one scan."""
    keep = np.array([s >= thresholds[n] for s, n in zip(found.scores, found.names, strict=True)], bool)
    shown = found.having(keep.reshape(-1))
    seen = in_view(example.truth.boxes, example.camera)
    return {
        "name": example.name,
        "points": len(example.cloud),
        "truth": [
            {"class": name, "box": [round(float(value), 3) for value in box]}
            for name, box, good in zip(example.truth.names, example.truth.boxes, seen, strict=True)
            if good
        ],
        "found": [
            {"class": name, "score": round(float(score), 4), "box": [round(float(value), 3) for value in box]}
            for name, score, box in zip(shown.names, shown.scores, shown.boxes, strict=True)
        ],
        "ground_support": round(found.ground.support, 3),
    }


def table(report: dict[str, Any]) -> list[str]:
    """The report for people."""

    def text(value: float | int | None, digits: int = 2) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [
        f"{report['n']} scans",
        f"{'':<24}{'cars':>6}{'recall@.5':>11}{'precision':>11}{'bev@.5':>8}{'3d@.7':>8}{'front':>7}{'ece':>6}",
    ]
    rows = {f"model ({report['weights']})": report["model"], **report["baselines"]}
    for name, value in rows.items():
        car = value["Car"]
        lines.append(
            f"{name[:23]:<24}{car['gt30m']:>6}{text(car['recall30m@0.5']):>11}{text(car['precision30m@0.5']):>11}"
            f"{text(car['bev@0.5'], 1):>8}{text(car['3d@0.7'], 1):>8}{text(car['front30m@0.5']):>7}"
            f"{text(car['ece@0.5']):>6}"
        )
    for kind in NAMES[1:]:
        row = report["model"][kind]
        lines.append(
            f"{kind:<24}{row['gt30m']:>6}{text(row['recall30m@0.5']):>11}{text(row['precision30m@0.5']):>11}"
            f"{text(row['bev@0.5'], 1):>8}{text(row['3d@0.25'], 1):>8} (3d at .25)"
        )
    return lines
