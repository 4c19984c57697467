"""KITTI's object evaluation: AP of image boxes, boxes from above, volumes, and orientation; R11 and R40.

Per image and threshold a truth takes one detection; boxes harder than the difficulty, vans (for cars) and
sitting people (for pedestrians) are ignored, DontCare regions excuse false alarms of the image metric only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vision.pointcloud.iou import shared_area

CLASSES = ("Car", "Pedestrian", "Cyclist")
SIMILAR = {"Car": "van", "Pedestrian": "person_sitting"}
MIN_HEIGHT, MAX_OCCLUSION, MAX_TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)
STRICT = {"bbox": (0.7, 0.5, 0.5), "bev": (0.7, 0.5, 0.5), "3d": (0.7, 0.5, 0.5)}
LOOSE = {"bbox": (0.7, 0.5, 0.5), "bev": (0.5, 0.25, 0.25), "3d": (0.5, 0.25, 0.25)}
METRICS = ("bbox", "bev", "3d")
SAMPLES = 41


@dataclass(frozen=True)
class Objects:
    """Labels or detections of one image, in KITTI's own terms."""

    name: np.ndarray
    bbox: np.ndarray
    """(N, 4) left, top, right, bottom."""
    location: np.ndarray
    """(N, 3) bottom's centre in the rectified camera frame."""
    dimensions: np.ndarray
    """(N, 3) length, height, width."""
    rotation_y: np.ndarray
    alpha: np.ndarray
    truncated: np.ndarray | None = None
    occluded: np.ndarray | None = None
    score: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.name)


def image_overlap(a: np.ndarray, b: np.ndarray, own: bool = False) -> np.ndarray:
    """Overlap (N, M) of image boxes; with `own` over the area of a alone."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    whole = area_a[:, None] + 0 * area_b if own else area_a[:, None] + area_b[None] - shared
    return np.where(shared > 0, shared / np.where(whole > 0, whole, 1), 0.0)


def overlap_of(found: Objects, truth: Objects, metric: str) -> np.ndarray:
    """Overlaps (detections, truths) of a metric."""
    if metric == "bbox":
        return image_overlap(found.bbox, truth.bbox)
    ours, theirs = flat(found), flat(truth)
    shared = shared_area(ours, theirs)
    if metric == "bev":
        whole = (ours[:, 3] * ours[:, 4])[:, None] + (theirs[:, 3] * theirs[:, 4])[None] - shared
        return shared / np.maximum(whole, 1e-12)
    bottom = np.minimum(found.location[:, 1][:, None], truth.location[:, 1][None])  # y points down
    top = np.maximum(
        (found.location[:, 1] - found.dimensions[:, 1])[:, None],
        (truth.location[:, 1] - truth.dimensions[:, 1])[None],
    )
    shared = shared * np.maximum(bottom - top, 0)
    whole = found.dimensions.prod(1)[:, None] + truth.dimensions.prod(1)[None] - shared
    return shared / np.maximum(whole, 1e-12)


def flat(objects: Objects) -> np.ndarray:
    """Boxes (N, 7) seen from above: x to the right, z ahead; rotation_y turns clockwise there."""
    location, dimensions = objects.location, objects.dimensions
    return np.column_stack(
        [
            location[:, 0], location[:, 2], location[:, 1], dimensions[:, 0], dimensions[:, 2],
            dimensions[:, 1], -objects.rotation_y,
        ]
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One image for one class, difficulty and metric."""

    overlap: np.ndarray
    truth_state: np.ndarray
    """0 counts, 1 ignored, -1 another class."""
    found_state: np.ndarray
    score: np.ndarray
    truth_alpha: np.ndarray
    found_alpha: np.ndarray
    excused: np.ndarray | None
    """Image metric: overlap of detections with DontCare regions."""


def states(truth: Objects, found: Objects, kind: str, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Which truths and detections count, are ignored, or are of another class."""
    assert truth.occluded is not None
    assert truth.truncated is not None
    lower = np.char.lower(truth.name.astype(str)) if len(truth) else np.zeros(0, str)
    same, like = lower == kind.lower(), lower == SIMILAR.get(kind, "")
    height = np.abs(truth.bbox[:, 3] - truth.bbox[:, 1])
    hard = (truth.occluded > MAX_OCCLUSION[level]) | (truth.truncated > MAX_TRUNCATION[level])
    hard |= height <= MIN_HEIGHT[level]
    truth_state = np.where(same & ~hard, 0, np.where(like | same, 1, -1))
    mine = (np.char.lower(found.name.astype(str)) if len(found) else np.zeros(0, str)) == kind.lower()
    small = np.abs(found.bbox[:, 3] - found.bbox[:, 1]) < MIN_HEIGHT[level]
    return truth_state, np.where(small, 1, np.where(mine, 0, -1))


def scores_of_found(case: Case, least: float) -> list[float]:
    """First pass: scores of the detections that the truths take, each the best that overlaps enough."""
    taken, out = np.zeros(len(case.score), bool), []
    for i in np.flatnonzero(case.truth_state >= 0):
        free = (case.found_state >= 0) & ~taken & (case.overlap[:, i] > least)
        if not free.any():
            continue
        j = int(np.where(free, case.score, -np.inf).argmax())
        taken[j] = True
        if case.truth_state[i] == 0 and case.found_state[j] == 0:
            out.append(float(case.score[j]))
    return out


def counts_at(case: Case, least: float, threshold: float) -> tuple[int, int, int, float]:
    """Second pass: found, false and missed at a threshold, and the similarity of orientations."""
    open_to = (case.found_state >= 0) & (case.score >= threshold)
    taken = np.zeros(len(case.score), bool)
    found = missed = 0
    similar = 0.0
    for i in np.flatnonzero(case.truth_state >= 0):
        free = open_to & ~taken & (case.overlap[:, i] > least)
        good = free & (case.found_state == 0)
        if good.any():
            j = int(np.where(good, case.overlap[:, i], -1).argmax())
        elif free.any():
            j = int(np.flatnonzero(free)[0])
        else:
            missed += int(case.truth_state[i] == 0)
            continue
        taken[j] = True
        if case.truth_state[i] == 0 and case.found_state[j] == 0:
            found += 1
            similar += (1 + np.cos(case.truth_alpha[i] - case.found_alpha[j])) / 2
    false = open_to & (case.found_state == 0) & ~taken
    count = int(false.sum())
    if case.excused is not None and case.excused.shape[1]:
        count -= int((false & (case.excused > least).any(1)).sum())
    return found, count, missed, similar


def thresholds_of(scores: Sequence[float], truths: int) -> list[float]:
    """At most 41 scores whose recalls lie nearest to 0, 1/40, ..., 1."""
    out, target = [], 0.0
    ordered = sorted(scores, reverse=True)
    for i, score in enumerate(ordered):
        last = i == len(ordered) - 1
        here, following = (i + 1) / truths, ((i + 2) / truths if not last else (i + 1) / truths)
        if not last and following - target < target - here:
            continue
        out.append(score)
        target += 1 / (SAMPLES - 1)
    return out


def precision_curve(cases: Sequence[Case], least: float) -> tuple[np.ndarray, np.ndarray]:
    """Precision and orientation similarity at 41 recalls, none rising to the right."""
    truths = sum(int((case.truth_state == 0).sum()) for case in cases)
    scores = [score for case in cases for score in scores_of_found(case, least)]
    precision, orientation = np.zeros(SAMPLES), np.zeros(SAMPLES)
    for k, threshold in enumerate(thresholds_of(scores, truths) if truths else []):
        found, false, _, similar = np.sum([counts_at(case, least, threshold) for case in cases], axis=0)
        if found + false > 0:
            precision[k], orientation[k] = found / (found + false), similar / (found + false)
    return tuple(np.maximum.accumulate(part[::-1])[::-1] for part in (precision, orientation))  # pyright: ignore[reportReturnType]


def kitti_ap(
    truths: Sequence[Objects], founds: Sequence[Objects], classes: Sequence[str] = CLASSES
) -> dict[str, Any]:
    """Every figure of the benchmark in percent.

    Gives `precision` by metric ("bbox", "bev", "3d", "aos") as arrays (class, difficulty, overlap set, 41),
    and `R11`, `R40` by metric as (class, difficulty, overlap set); overlap sets are strict and loose.
    """
    names = (*METRICS, "aos")
    precision = {name: np.zeros((len(classes), 3, 2, SAMPLES)) for name in names}
    for metric in METRICS:
        overlaps = [overlap_of(found, truth, metric) for found, truth in zip(founds, truths, strict=True)]
        for c, kind in enumerate(classes):
            for level in range(3):
                cases = []
                for truth, found, overlap in zip(truths, founds, overlaps, strict=True):
                    truth_state, found_state = states(truth, found, kind, level)
                    excused = None
                    if metric == "bbox":
                        regions = truth.bbox[truth.name == "DontCare"]
                        excused = image_overlap(found.bbox, regions, own=True)
                    assert found.score is not None
                    cases.append(
                        Case(
                            overlap, truth_state, found_state, found.score, truth.alpha, found.alpha, excused
                        )
                    )
                for s, table in enumerate((STRICT, LOOSE)):
                    least = table[metric][CLASSES.index(kind)]
                    curve, orientation = precision_curve(cases, least)
                    precision[metric][c, level, s] = curve
                    if metric == "bbox":
                        precision["aos"][c, level, s] = orientation
    return {"precision": precision, **sampled(precision)}


def sampled(precision: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Average precision of both samplings."""
    return {
        "R11": {name: 100 * curve[..., ::4].mean(-1) for name, curve in precision.items()},
        "R40": {name: 100 * curve[..., 1:].mean(-1) for name, curve in precision.items()},
    }
