"""Benchmarks by overlap of volumes: Waymo's AP and APH with two levels, ONCE's orientation-aware AP by range.

Written from their published definitions; neither evaluation program was run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vision.pointcloud.boxes import wrap
from vision.pointcloud.iou import iou_3d

WAYMO = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
ONCE = {"Car": 0.7, "Pedestrian": 0.3, "Cyclist": 0.5}
"""Least overlaps."""
HARD_POINTS = 5
"""Truths with at most so many points are of level 2."""
ONCE_RECALLS = 50
ONCE_RANGES = {"all": (0.0, math.inf), "0-30": (0.0, 30.0), "30-50": (30.0, 50.0), "50-": (50.0, math.inf)}


@dataclass(frozen=True)
class JudgedScene:
    """Labels and detections of one class in one scan."""

    truth: np.ndarray
    """(T, 7)"""
    points: np.ndarray
    """(T,) inside each label."""
    hard: np.ndarray
    """(T,) bool: marked as hard by the annotators."""
    boxes: np.ndarray
    """(M, 7)"""
    scores: np.ndarray
    """(M,)"""


def taken_by(
    scene: JudgedScene, asked: np.ndarray, overlap: np.ndarray, least: float
) -> tuple[np.ndarray, ...]:
    """For each detection 1, 0 or -1 (does not count) and the truth that it takes, or -1.

    Best score first; each takes the free truth that it overlaps most. One that takes a truth which is not
    asked for does not count.
    """
    state, which = np.zeros(len(scene.boxes), int), np.full(len(scene.boxes), -1)
    free = np.ones(len(scene.truth), bool)
    for k in np.argsort(-scene.scores, kind="stable"):
        row = np.where(free, overlap[k], -1.0)
        best = int(row.argmax()) if len(row) else -1
        if best < 0 or row[best] < least:
            continue
        free[best] = False
        state[k], which[k] = (1 if asked[best] else -1), best
    return state, which


def waymo_score(scenes: Sequence[JudgedScene], kind: str) -> dict[str, float | None]:
    """AP and APH of both levels, 0..1; None without truth.

    Level 1 asks for labels with more than five points that are not hard, level 2 for all with a point;
    labels without points never count. The curve of precision never rises to the right; AP is its area. APH
    weighs what is found by 1 - |error of heading| / pi.
    """
    out: dict[str, float | None] = {}
    for level in (1, 2):
        scores, hits, weights, truths = [], [], [], 0
        for scene in scenes:
            asked = scene.points > 0
            if level == 1:
                asked = asked & (scene.points > HARD_POINTS) & ~scene.hard
            truths += int(asked.sum())
            state, which = taken_by(scene, asked, iou_3d(scene.boxes, scene.truth), WAYMO[kind])
            right = np.zeros(len(state))
            good = state == 1
            right[good] = 1 - np.abs(wrap(scene.boxes[good, 6] - scene.truth[which[good], 6])) / math.pi
            scores.append(scene.scores[state >= 0])
            hits.append(state[state >= 0])
            weights.append(right[state >= 0])
        order = np.argsort(-np.concatenate(scores), kind="stable") if scores else np.zeros(0, int)
        found = np.concatenate(hits)[order] if hits else np.zeros(0)
        weight = np.concatenate(weights)[order] if weights else np.zeros(0)
        rank = np.arange(1, len(found) + 1)
        for name, gain in (("AP", found), ("APH", weight)):
            out[f"{name}_L{level}"] = area(np.cumsum(gain) / max(truths, 1), np.cumsum(gain) / rank, truths)
    return out


def area(recall: np.ndarray, precision: np.ndarray, truths: int) -> float | None:
    """Area under a curve whose precision is made to fall only; None without truth."""
    if not truths:
        return None
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def once_score(scenes: Sequence[JudgedScene], kind: str) -> dict[str, float | None]:
    """AP at 50 recalls over all ranges and by range; a box that is turned by over 90 degrees is false."""
    out: dict[str, float | None] = {}
    for name, (low, high) in ONCE_RANGES.items():
        scores, hits, truths = [], [], 0
        for scene in scenes:
            away = np.hypot(scene.truth[:, 0], scene.truth[:, 1])
            asked = (away >= low) & (away < high)
            truths += int(asked.sum())
            overlap = iou_3d(scene.boxes, scene.truth)
            turn = np.abs(wrap(scene.boxes[:, 6][:, None] - scene.truth[:, 6][None]))
            overlap = np.where(turn > math.pi / 2, 0.0, overlap)
            state, _ = taken_by(scene, asked, overlap, ONCE[kind])
            range_m = np.hypot(scene.boxes[:, 0], scene.boxes[:, 1])
            state[(state == 0) & ((range_m < low) | (range_m >= high))] = -1
            scores.append(scene.scores[state >= 0])
            hits.append(state[state >= 0])
        if not truths:
            out[name] = None
            continue
        order = np.argsort(-np.concatenate(scores), kind="stable")
        found = np.cumsum(np.concatenate(hits)[order])
        precision = found / np.arange(1, len(found) + 1)
        recall = found / truths
        steps = np.arange(1, ONCE_RECALLS + 1) / ONCE_RECALLS
        best = [precision[recall >= step - 1e-9].max(initial=0.0) for step in steps]
        out[name] = float(np.mean(best))
    return out
