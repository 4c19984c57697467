"""Argoverse 2 detection: AP by distance of centres in space, errors of what was found, and their score CDS.

The region of interest needs the map of the log and is not applied; say so beside the figures.
"""

import math
from dataclasses import dataclass

import numpy as np

THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
AT_M, RANGE_M, MOST = 2.0, 150.0, 100
EPS = np.finfo(np.float64).eps
RECALLS = np.linspace(0, 1, 101)
WORST = (2.0, 1.0, math.pi)
"""Errors of a class of which nothing was found."""


@dataclass(frozen=True)
class Cuboids:
    """Labels or detections of all sweeps together."""

    sweep: np.ndarray
    kind: np.ndarray
    place: np.ndarray
    """(N, 3)"""
    size: np.ndarray
    """(N, 3)"""
    yaw: np.ndarray
    value: np.ndarray
    """(N,) points inside (labels) or score (detections)."""


def yaw_of(quaternion: np.ndarray) -> np.ndarray:
    """Headings of quaternions (N, 4) w, x, y, z."""
    w, x, y, z = np.asarray(quaternion, np.float64).T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def argoverse_score(truth: Cuboids, found: Cuboids, kinds: int) -> dict[str, np.ndarray]:
    """`AP`, `ATE`, `ASE`, `AOE`, `CDS` (kinds,); `true_positive` (N, 4), `evaluated` (N,) of detections.

    A detection belongs to its nearest truth, and a truth to the first of them by score: a second one is
    false even where another truth is within reach.
    """
    count = len(found.sweep)
    hit, used = np.zeros((count, len(THRESHOLDS)), bool), np.zeros(count, bool)
    errors = np.zeros((count, 3))
    near_truth = (np.linalg.norm(truth.place, axis=1) <= RANGE_M) & (truth.value > 0)
    near_found = np.linalg.norm(found.place, axis=1) <= RANGE_M
    for sweep in np.unique(found.sweep):
        for kind in range(kinds):
            rows = np.flatnonzero((found.sweep == sweep) & (found.kind == kind) & near_found)
            rows = rows[np.argsort(-found.value[rows], kind="stable")][:MOST]
            used[rows] = True
            asked = np.flatnonzero((truth.sweep == sweep) & (truth.kind == kind) & near_truth)
            if not len(rows) or not len(asked):
                continue
            gaps = np.linalg.norm(found.place[rows][:, None] - truth.place[asked][None], axis=2)
            nearest = gaps.argmin(1)
            _, firsts = np.unique(nearest, return_index=True)
            for first in firsts:
                k, i = int(rows[first]), int(asked[nearest[first]])
                gap = gaps[first, nearest[first]]
                hit[k] = gap < np.array(THRESHOLDS)
                errors[k] = pair_errors(truth, i, found, k, float(gap))
    out = {name: np.zeros(kinds) for name in ("AP", "ATE", "ASE", "AOE", "CDS")}
    for kind in range(kinds):
        truths = int(((truth.kind == kind) & near_truth).sum())
        rows = np.flatnonzero(used & (found.kind == kind))
        rows = rows[np.argsort(-found.value[rows], kind="stable")]
        good = rows[hit[rows, THRESHOLDS.index(AT_M)]]
        out["ATE"][kind], out["ASE"][kind], out["AOE"][kind] = (
            errors[good].mean(0) if len(good) else np.array(WORST)
        )
        if truths:
            out["AP"][kind] = np.mean([precision_mean(hit[rows, t], truths) for t in range(len(THRESHOLDS))])
        share = 1 - np.array([out[name][kind] for name in ("ATE", "ASE", "AOE")]) / WORST
        out["CDS"][kind] = out["AP"][kind] * np.clip(share, 0, 1).mean()
    return {**out, "true_positive": hit.astype(np.int64), "evaluated": used.astype(np.int64)}


def pair_errors(truth: Cuboids, i: int, found: Cuboids, k: int, gap: float) -> tuple[float, float, float]:
    """Distance, 1 - overlap once aligned, and difference of headings."""
    shared = float(np.minimum(truth.size[i], found.size[k]).prod())
    overlap = shared / float(np.maximum(truth.size[i], found.size[k]).prod())  # as published
    turn = abs(float(truth.yaw[i] - found.yaw[k])) % (2 * math.pi)
    return gap, 1 - overlap, min(turn, 2 * math.pi - turn)


def precision_mean(hits: np.ndarray, truths: int) -> float:
    """Mean precision at 101 recalls."""
    found, false = np.cumsum(hits), np.cumsum(~hits)
    if not len(hits):
        return 0.0
    precision = found / (found + false + EPS)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.interp(RECALLS, found / (truths + EPS), precision, right=0).mean())
