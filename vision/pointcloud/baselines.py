"""Cars without learning: ground removal, clusters seen from above, L-shapes, grown to the size of a car.

It stands beside every learned detector, for what learning is worth.
"""

import math

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.boxes import count_inside, wrap
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.ground import Plane, estimate_ground
from vision.pointcloud.nms import nms
from vision.pointcloud.predict import Boxes, to_ours, to_theirs

CELL_M, REACH_M = 0.2, 40.0
SIDE = int(2 * REACH_M / CELL_M)
LOW_M, HIGH_M = 0.3, 2.2
"""Heights above ground of the points that make clusters."""
LENGTH_M, WIDTH_M, HEIGHT_M = 4.0, 1.65, 1.55
ANGLES = 45


@compiled
def label_cells(count, label):  # noqa: ANN001, ANN201
    """Number connected cells (eight neighbours) that hold points; gives how many groups there are."""
    size = count.shape[0]
    stack = np.empty(size * size, np.int64)
    groups = 0
    for start in range(size * size):
        i, j = start // size, start % size
        if count[i, j] == 0 or label[i, j] >= 0:
            continue
        top = 1
        stack[0] = start
        label[i, j] = groups
        while top:
            top -= 1
            a, b = stack[top] // size, stack[top] % size
            for u in range(max(0, a - 1), min(size, a + 2)):
                for v in range(max(0, b - 1), min(size, b + 2)):
                    if count[u, v] and label[u, v] < 0:
                        label[u, v] = groups
                        stack[top] = u * size + v
                        top += 1
        groups += 1
    return groups


@compiled
def fit_angle(xy):  # noqa: ANN001, ANN201
    """The heading in 0..pi/2 for which points lie closest to the edges of their rectangle (L-shape fit)."""
    best, angle = -1.0, 0.0
    for k in range(ANGLES):
        a = k * math.pi / 2 / ANGLES
        c, s = math.cos(a), math.sin(a)
        u0, u1, v0, v1 = 1e9, -1e9, 1e9, -1e9
        for p in range(len(xy)):
            u, v = c * xy[p, 0] + s * xy[p, 1], c * xy[p, 1] - s * xy[p, 0]
            u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
        total = 0.0
        for p in range(len(xy)):
            u, v = c * xy[p, 0] + s * xy[p, 1], c * xy[p, 1] - s * xy[p, 0]
            near = min(min(u - u0, u1 - u), min(v - v0, v1 - v))
            total += 1 / max(near, 0.05)
        if total > best:
            best, angle = total, a
    return angle


def hand_made(cloud: Cloud, plane: Plane | None = None) -> Boxes:
    """Cars of a cloud, in the frame of its file, scored by how much of a car's outline is there."""
    xyz = to_ours(cloud.points, cloud.frame)
    plane = estimate_ground(xyz) if plane is None else plane
    up = xyz[:, 2] - plane.height(xyz)
    near = (np.abs(xyz[:, :2]) < REACH_M).all(1) & (up > LOW_M) & (up < 4.0)
    points, up = xyz[near].astype(np.float64), up[near]
    body = up < HIGH_M
    cell = ((points[:, :2] + REACH_M) / CELL_M).astype(int)
    count, label = np.zeros((SIDE, SIDE), np.int32), np.full((SIDE, SIDE), -1, np.int32)
    np.add.at(count, (cell[body, 0], cell[body, 1]), 1)
    label_cells(count, label)
    group = label[cell[:, 0], cell[:, 1]]
    order = np.argsort(group[body], kind="stable")
    groups = group[body][order]
    boxes, scores = [], []
    for rows in np.split(order, np.flatnonzero(np.diff(groups)) + 1):
        if len(rows) < 10:
            continue
        part = points[body][rows]
        number = group[body][rows[0]]
        top = up[group == number].max()
        found = as_car(part[:, :2], float(top))
        if found is None:
            continue
        box, score = found
        box[2] = plane.height(box) + HEIGHT_M / 2
        boxes.append(box)
        scores.append(score)
    box = np.array(boxes).reshape(-1, 7)
    score = np.array(scores)
    keep = nms(box, score, 0.1) if len(box) else np.zeros(0, int)
    box, score = box[keep], score[keep]
    return Boxes(
        boxes=to_theirs(box, cloud.frame),
        scores=score,
        names=("Car",) * len(box),
        points=count_inside(xyz, box),
        ground=plane,
        source=cloud.name,
    )


def as_car(xy: np.ndarray, top: float) -> tuple[np.ndarray, float] | None:
    """A cluster seen from above as a car's box, its near corner kept; None when it cannot be one."""
    if not 0.9 < top < 2.4:
        return None
    angle = fit_angle(np.ascontiguousarray(xy))
    c, s = math.cos(angle), math.sin(angle)
    u, v = c * xy[:, 0] + s * xy[:, 1], c * xy[:, 1] - s * xy[:, 0]
    size = np.array([np.ptp(u), np.ptp(v)])
    if size.max() < 1.0 or size.max() > 6.0 or size.min() > 2.6:
        return None
    along = 0 if size[0] >= size[1] else 1
    if size.max() < 2.3 and size.min() < 1.2:
        along = 1 - along  # only an end is seen: the length goes away from the sensor
    want = np.array([LENGTH_M, WIDTH_M]) if along == 0 else np.array([WIDTH_M, LENGTH_M])
    grown = np.maximum(size, want)
    middle = []
    for values, extent in ((u, grown[0]), (v, grown[1])):
        low, high = float(values.min()), float(values.max())
        near = low if abs(low) < abs(high) else high
        middle.append(near + extent / 2 if near == low else near - extent / 2)
    x, y = c * middle[0] - s * middle[1], s * middle[0] + c * middle[1]
    length, width = (grown[0], grown[1]) if along == 0 else (grown[1], grown[0])
    heading = angle if along == 0 else angle + math.pi / 2
    fit = math.exp(-abs(size.max() - 4.0) / 2) * math.exp(-abs(top - 1.5)) * min(1.0, len(xy) / 100)
    return np.array([x, y, 0.0, length, width, HEIGHT_M, float(wrap(np.array(heading)))]), float(fit)
