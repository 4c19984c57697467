"""Boxes as rows: centre x, y, z, length, width, height, heading (counter-clockwise, 0 along +x)."""

import math

import numpy as np

from core.kernels.jit import compiled


@compiled
def count_loop(points, boxes, out):  # noqa: ANN001, ANN201
    for b in range(len(boxes)):
        c, s = math.cos(boxes[b, 6]), math.sin(boxes[b, 6])
        x, y, z = boxes[b, 0], boxes[b, 1], boxes[b, 2]
        l, w, h = boxes[b, 3] / 2, boxes[b, 4] / 2, boxes[b, 5] / 2  # noqa: E741
        reach = math.sqrt(l * l + w * w)
        for p in range(len(points)):
            dx = points[p, 0] - x
            if dx > reach or dx < -reach:
                continue
            dy = points[p, 1] - y
            if dy > reach or dy < -reach or abs(points[p, 2] - z) > h:
                continue
            if abs(c * dx + s * dy) <= l and abs(c * dy - s * dx) <= w:
                out[b] += 1


def count_inside(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Points (N, 3+) inside each box (M, 7), faces included: (M,) int64."""
    out = np.zeros(len(boxes), np.int64)
    if len(boxes) and len(points):
        count_loop(np.ascontiguousarray(points), np.ascontiguousarray(boxes), out)
    return out


def corners_bev(boxes: np.ndarray) -> np.ndarray:
    """The four corners (M, 4, 2) of boxes (M, 7) seen from above, counter-clockwise from front left."""
    boxes = np.asarray(boxes, np.float64)
    length, width = boxes[:, 3] / 2, boxes[:, 4] / 2
    u = np.stack([length, -length, -length, length], 1)
    v = np.stack([width, width, -width, -width], 1)
    c, s = np.cos(boxes[:, 6])[:, None], np.sin(boxes[:, 6])[:, None]
    return np.stack([boxes[:, :1] + c * u - s * v, boxes[:, 1:2] + s * u + c * v], -1)


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles in (-pi, pi]."""
    return math.pi - np.mod(math.pi - np.asarray(angle), 2 * math.pi)


def corners_3d(boxes: np.ndarray) -> np.ndarray:
    """The eight corners (M, 8, 3) of boxes: the bottom from front left on, as in OpenPCDet, then the top."""
    boxes = np.asarray(boxes, np.float64)
    signs = np.array(
        [[1, 1, -1], [1, -1, -1], [-1, -1, -1], [-1, 1, -1], [1, 1, 1], [1, -1, 1], [-1, -1, 1], [-1, 1, 1]]
    )
    local = signs[None] * boxes[:, None, 3:6] / 2
    c, s = np.cos(boxes[:, 6])[:, None], np.sin(boxes[:, 6])[:, None]
    x, y = c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]
    return np.stack([x, y, local[..., 2]], -1) + boxes[:, None, :3]
