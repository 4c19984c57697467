"""What is odd about labels: sizes in another order, boxes beside their objects, places nobody saw."""

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from core.files import whole_file
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.evaluation import axes_of
from vision.pointcloud.examples import stem
from vision.pointcloud.formats.kitti import CAMERA, read_calibration
from vision.pointcloud.formats.labels import (
    Truth,
    read_json_labels,
    read_kitti_labels,
    read_table_labels,
    role,
)
from vision.pointcloud.predict import to_ours

PRIORS = {"Car": (4.2, 1.8, 1.6), "Pedestrian": (0.8, 0.65, 1.73), "Cyclist": (1.76, 0.65, 1.73)}
"""Usual length, width and height."""
SIDES = ("length", "width", "height")
FAR_M = 120.0
BETTER = 1.5
"""So many times more points inside speak for other axes or another height."""


def read_labels(path: str | Path, scan: str | Path) -> Truth:
    """Labels by their suffix; KITTI text takes the calibration beside the scan, else the default camera.

    Raises:
        DataError: they cannot be read.
    """
    path, scan = Path(path), Path(scan)
    if path.suffix == ".csv":
        return read_table_labels(path)
    if path.suffix == ".json":
        return read_json_labels(path)
    beside = scan.parent / f"{stem(scan)}.calib.txt"
    return read_kitti_labels(path, read_calibration(beside) if beside.is_file() else CAMERA)


def about_labels(cloud: Cloud, truth: Truth) -> dict[str, Any]:
    """Counts and remarks on the labels of a cloud."""
    xyz = to_ours(cloud.points, cloud.frame)
    boxes = axes_of(cloud.local(truth.boxes), cloud.frame)
    inside = count_inside(xyz, boxes)
    flat = (boxes[:, 3:6] <= 0).any(1)
    outside = np.hypot(boxes[:, 0], boxes[:, 1]) > FAR_M
    known = {name: sum(role(one) == name for one in truth.names) for name in (*PRIORS, "neutral", "other")}
    remarks = []
    for count, words in (
        (int((inside == 0).sum()), "without a point inside"),
        (int(flat.sum()), "with a side of zero or less"),
        (int(outside.sum()), f"beyond {FAR_M:g} m"),
        (known["other"], "of classes that no head knows"),
    ):
        if count:
            remarks.append(f"  {count} of {len(truth)} labels {words}.")
    remarks += [line for name in PRIORS if (line := odd_sizes(truth, name))]
    remarks += turned_frame(xyz, boxes, inside)
    remarks += cut_at_the_waist(xyz, boxes, inside)
    return {
        "labels": len(truth),
        "classes": known,
        "without_points": int((inside == 0).sum()),
        "points": [int(value) for value in inside],
        "remarks": remarks,
    }


def odd_sizes(truth: Truth, name: str) -> str | None:
    """A sentence when another order of the sides fits a class much better, or none fits."""
    mine = [k for k, one in enumerate(truth.names) if role(one) == name]
    sizes = truth.boxes[mine, 3:6]
    if not len(sizes) or (sizes <= 0).any():
        return None
    mean = np.median(sizes, axis=0)
    costs = {
        order: float(np.abs(np.log(mean[list(order)] / PRIORS[name])).sum())
        for order in permutations(range(3))
    }
    best = min(costs, key=lambda order: costs[order])
    shown = " x ".join(f"{value:.2f}" for value in mean)
    if best != (0, 1, 2) and costs[best] < 0.5 * costs[0, 1, 2] and costs[0, 1, 2] > 0.5:
        order = ", ".join(SIDES[k] for k in best)
        return f"  {name}: sizes {shown} fit when the columns are read as {order}."
    if costs[best] > 1.2:
        return f"  {name}: sizes {shown} are not those of a {name.lower()}; is the unit metres?"
    return None


def turned_frame(xyz: np.ndarray, boxes: np.ndarray, inside: np.ndarray) -> list[str]:
    """A sentence when boxes turned by a quarter or half hold many more points."""
    if not len(boxes):
        return []
    counts = {0: int(inside.sum())}
    for turn in (1, 2, 3):
        moved = boxes.copy()
        c, s = ((0, 1), (-1, 0), (0, -1))[turn - 1]
        moved[:, 0], moved[:, 1] = c * boxes[:, 0] - s * boxes[:, 1], s * boxes[:, 0] + c * boxes[:, 1]
        moved[:, 6] += turn * np.pi / 2
        counts[turn] = int(count_inside(xyz, moved).sum())
    best = max(counts, key=lambda turn: counts[turn])
    if best and counts[best] > BETTER * counts[0] + 20:
        return [
            f"  labels turned by {90 * best} degrees hold {counts[best]} points instead of {counts[0]}: "
            "do scan and labels have the same axes?"
        ]
    return []


def cut_at_the_waist(xyz: np.ndarray, boxes: np.ndarray, inside: np.ndarray) -> list[str]:
    """A sentence when boxes lifted by half their height hold many more points: bottoms given as centres."""
    if not len(boxes):
        return []
    best = {}
    for sign in (1, -1):
        moved = boxes.copy()
        moved[:, 2] += sign * boxes[:, 5] / 2
        best[sign] = int(count_inside(xyz, moved).sum())
    up, down, now = best[1], best[-1], int(inside.sum())
    # the ground fills boxes that reach into it, so that only a rise speaks for itself
    if up > BETTER * now + 20 and up > down:
        return [f"  boxes lifted by half their height hold {up} points instead of {now}: is z their bottom?"]
    return []


def write_truth(cloud: Cloud, truth: Truth | None, path: str | Path) -> None:
    """A picture of a cloud and its labels from above."""
    from vision.pointcloud.answers import draw_above
    from vision.pointcloud.ground import estimate_ground
    from vision.pointcloud.predict import Boxes

    plane = estimate_ground(to_ours(cloud.points, cloud.frame))
    none = Boxes(np.zeros((0, 7)), np.zeros(0), (), np.zeros(0, int), plane)
    with whole_file(path) as part:
        figure = draw_above(cloud, none, truth=None if truth is None else truth.boxes)
        figure.savefig(part, format="png")
