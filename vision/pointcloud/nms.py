"""Non-maximum suppression of turned boxes: greedy by score, per class, by distance, or by lowered scores."""

import math
from collections.abc import Sequence

import numpy as np

from core.kernels.jit import compiled
from vision.pointcloud.boxes import corners_bev
from vision.pointcloud.iou import clip_area, iou_bev


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


def nms_per_class(
    boxes: np.ndarray, scores: np.ndarray, kinds: np.ndarray, threshold: float | Sequence[float]
) -> np.ndarray:
    """As `nms` among the boxes of each class (N,) alone; indices of what stays, best first.

    Args:
        threshold: of all classes, or of each, by its number.
    """
    kinds = np.asarray(kinds)
    limits = {
        kind: threshold[kind] if isinstance(threshold, Sequence) else threshold for kind in np.unique(kinds)
    }
    kept = [np.flatnonzero(kinds == kind) for kind in limits]
    kept = [
        rows[nms(boxes[rows], scores[rows], limit)] for rows, limit in zip(kept, limits.values(), strict=True)
    ]
    every = np.concatenate(kept) if kept else np.zeros(0, int)
    return every[np.argsort(-np.asarray(scores)[every], kind="stable")]


def circle_nms(boxes: np.ndarray, scores: np.ndarray, radius_m: float) -> np.ndarray:
    """Indices of the boxes (N, 7) that stay: centres within `radius_m` of a better one go."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    places = np.asarray(boxes, np.float64)[order, :2]
    keep = np.ones(len(order), bool)
    for k in range(len(order)):
        if keep[k]:
            near = np.hypot(*(places[k + 1 :] - places[k]).T) <= radius_m
            keep[k + 1 :] &= ~near
    return order[keep]


def soft_nms(
    boxes: np.ndarray, scores: np.ndarray, sigma: float = 0.5, floor: float = 0.001
) -> tuple[np.ndarray, np.ndarray]:
    """Lower scores by exp(-overlap^2 / sigma) instead of dropping boxes (Bodla et al. 2017, 1704.04503).

    Gives indices of those at `floor` or above in the order in which they were taken, and their new scores.
    """
    boxes, left = np.asarray(boxes, np.float64), np.array(scores, np.float64)
    overlap = iou_bev(boxes, boxes)
    open_, order, out = np.ones(len(boxes), bool), [], []
    while open_.any():
        k = int(np.where(open_, left, -1.0).argmax())
        if left[k] < floor:
            break
        order.append(k)
        out.append(left[k])
        open_[k] = False
        left[open_] *= np.exp(-(overlap[k, open_] ** 2) / sigma)
    return np.array(order, int), np.array(out)
