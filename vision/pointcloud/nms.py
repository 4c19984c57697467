"""Non-maximum suppression of turned boxes: greedy by score."""

import math

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.boxes import corners_bev
from vision.pointcloud.iou import clip_area


@compiled(fastmath=False)
def greedy(boxes, corners, threshold, keep):  # noqa: ANN001, ANN201
    """Boxes in falling order of score; `keep` (N,) starts true and loses what is suppressed."""
    buffer = np.empty((2, 16, 2))
    for i in range(len(boxes)):
        if not keep[i]:
            continue
        area, reach = boxes[i, 3] * boxes[i, 4], math.sqrt(boxes[i, 3] ** 2 + boxes[i, 4] ** 2)
        for j in range(i + 1, len(boxes)):
            if not keep[j]:
                continue
            far = (reach + math.sqrt(boxes[j, 3] ** 2 + boxes[j, 4] ** 2)) / 2
            if abs(boxes[i, 0] - boxes[j, 0]) > far or abs(boxes[i, 1] - boxes[j, 1]) > far:
                continue
            other = boxes[j, 3] * boxes[j, 4]
            shared = min(clip_area(corners[i], corners[j], buffer), area, other)
            if shared > threshold * (area + other - shared):
                keep[j] = False


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Indices of the boxes (N, 7) that stay, best first; equal scores keep their order.

    A box goes when its overlap from above with a better one that stays exceeds `threshold`.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    ordered = np.ascontiguousarray(np.asarray(boxes, np.float64)[order])
    keep = np.ones(len(order), bool)
    if len(order):
        greedy(ordered, corners_bev(ordered), float(threshold), keep)
    return order[keep]
