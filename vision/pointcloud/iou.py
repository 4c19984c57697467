"""Exact overlap of turned boxes: one polygon clipped by the other, in double precision (spec: no slack)."""

import math

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.boxes import corners_bev


@compiled(fastmath=False)
def clip_area(a, b, buffer):  # noqa: ANN001, ANN201
    """Area that two convex counter-clockwise quadrilaterals (4, 2) share; buffer is (2, 16, 2)."""
    count = 4
    for k in range(4):
        buffer[0, k, 0], buffer[0, k, 1] = a[k, 0], a[k, 1]
    now = 0
    for edge in range(4):
        x0, y0 = b[edge, 0], b[edge, 1]
        ex, ey = b[(edge + 1) % 4, 0] - x0, b[(edge + 1) % 4, 1] - y0
        kept = 0
        for k in range(count):
            px, py = buffer[now, k, 0], buffer[now, k, 1]
            following = (k + 1) % count
            qx, qy = buffer[now, following, 0], buffer[now, following, 1]
            p = ex * (py - y0) - ey * (px - x0)
            q = ex * (qy - y0) - ey * (qx - x0)
            if p >= 0:
                buffer[1 - now, kept, 0], buffer[1 - now, kept, 1] = px, py
                kept += 1
            if (p >= 0) != (q >= 0):
                t = p / (p - q)
                buffer[1 - now, kept, 0] = px + t * (qx - px)
                buffer[1 - now, kept, 1] = py + t * (qy - py)
                kept += 1
        now = 1 - now
        count = kept
        if count < 3:
            return 0.0
    area = 0.0
    x0, y0 = buffer[now, 0, 0], buffer[now, 0, 1]
    for k in range(1, count - 1):
        ux, uy = buffer[now, k, 0] - x0, buffer[now, k, 1] - y0
        vx, vy = buffer[now, k + 1, 0] - x0, buffer[now, k + 1, 1] - y0
        area += ux * vy - uy * vx
    return max(0.0, area / 2)


@compiled(fastmath=False)
def overlaps(a, corners_a, b, corners_b, out):  # noqa: ANN001, ANN201
    """Shared areas (N, M) of boxes a (N, 7) and b (M, 7)."""
    buffer = np.empty((2, 16, 2))
    for i in range(len(a)):
        reach = math.sqrt(a[i, 3] ** 2 + a[i, 4] ** 2)
        for j in range(len(b)):
            far = (reach + math.sqrt(b[j, 3] ** 2 + b[j, 4] ** 2)) / 2
            if abs(a[i, 0] - b[j, 0]) <= far and abs(a[i, 1] - b[j, 1]) <= far:
                out[i, j] = clip_area(corners_a[i], corners_b[j], buffer)


def shared_area(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas (N, M) that boxes a (N, 7) and b (M, 7) share seen from above."""
    a, b = np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64)
    out = np.zeros((len(a), len(b)))
    if out.size:
        overlaps(a, corners_bev(a), b, corners_bev(b), out)
    # a box without an area has no inside, and every point counts as within its edges
    return np.minimum(out, np.minimum((a[:, 3] * a[:, 4])[:, None], (b[:, 3] * b[:, 4])[None]))


def iou_bev(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) seen from above."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    shared = shared_area(a, b)
    whole = (a[:, 3] * a[:, 4])[:, None] + (b[:, 3] * b[:, 4])[None] - shared
    return shared / np.maximum(whole, 1e-12)


def iou_3d(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) of the volumes."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    top = np.minimum((a[:, 2] + a[:, 5] / 2)[:, None], (b[:, 2] + b[:, 5] / 2)[None])
    bottom = np.maximum((a[:, 2] - a[:, 5] / 2)[:, None], (b[:, 2] - b[:, 5] / 2)[None])
    shared = shared_area(a, b) * np.maximum(0.0, top - bottom)
    whole = (a[:, 3:6].prod(1))[:, None] + (b[:, 3:6].prod(1))[None] - shared
    return shared / np.maximum(whole, 1e-12)
