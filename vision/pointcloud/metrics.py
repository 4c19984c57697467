"""Recall, precision and average precision of boxes, with the protocol of `recurra pointcloud evaluate`.

Matching is one to one, highest score first, by overlap seen from above (or of the volumes). Truth that is
neutral neither counts nor makes a detection false: cars beyond the range or without points, and vehicles
that are not cars.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vision.pointcloud.iou import iou_3d, iou_bev

NEUTRAL_OVERLAP = 0.1


@dataclass(frozen=True)
class Frame:
    """Truth and detections of one class in one scan."""

    truth: np.ndarray
    """(T, 7) boxes to find."""
    neutral: np.ndarray
    """(K, 7) boxes that do not count."""
    boxes: np.ndarray
    """(M, 7) detections of any range."""
    scores: np.ndarray
    """(M,)"""


def matched(frame: Frame, overlap: float, volume: bool = False, range_m: float | None = None) -> np.ndarray:
    """For each detection 1 (found), 0 (false) or -1 (does not count), (M,).

    Args:
        overlap: least intersection over union with the truth.
        volume: overlaps of volumes instead of areas.
        range_m: detections beyond it are never false.
    """
    iou = iou_3d if volume else iou_bev
    to_truth = iou(frame.boxes, frame.truth)
    to_neutral = iou_bev(frame.boxes, frame.neutral)
    taken = np.zeros(len(frame.truth), bool)
    out = np.zeros(len(frame.boxes), int)
    for k in np.argsort(-frame.scores, kind="stable"):
        row = np.where(taken, -1.0, to_truth[k])
        best = int(row.argmax()) if len(row) else -1
        if best >= 0 and row[best] >= overlap:
            taken[best] = True
            out[k] = 1
        elif (len(frame.neutral) and to_neutral[k].max() >= NEUTRAL_OVERLAP) or (
            range_m is not None and np.hypot(frame.boxes[k, 0], frame.boxes[k, 1]) >= range_m
        ):
            out[k] = -1
    return out


def recall_precision(
    frames: Sequence[Frame], overlap: float, threshold: float, range_m: float | None = None
) -> tuple[float | None, float | None, dict[str, int]]:
    """Recall and precision over scans at a score threshold; None where there is nothing to find or found.

    The counts are truth, found and false.
    """
    found = false = truth = 0
    for frame in frames:
        keep = frame.scores >= threshold
        state = matched(
            Frame(frame.truth, frame.neutral, frame.boxes[keep], frame.scores[keep]), overlap, False, range_m
        )
        found += int((state == 1).sum())
        false += int((state == 0).sum())
        truth += len(frame.truth)
    recall = found / truth if truth else None
    precision = found / (found + false) if truth and found + false else None
    return recall, precision, {"truth": truth, "found": found, "false": false}


def curve(
    frames: Sequence[Frame], overlap: float, volume: bool = False, range_m: float | None = None
) -> np.ndarray:
    """Rows (score, recall, precision) at each detection that counts, best score first."""
    scores, states, truth = [], [], sum(len(frame.truth) for frame in frames)
    for frame in frames:
        state = matched(frame, overlap, volume, range_m)
        scores.append(frame.scores[state >= 0])
        states.append(state[state >= 0])
    score = np.concatenate(scores) if scores else np.zeros(0)
    state = np.concatenate(states) if states else np.zeros(0, int)
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(state[order] == 1)
    false = np.cumsum(state[order] == 0)
    return np.column_stack([score[order], found / max(truth, 1), found / np.maximum(found + false, 1)])


def average_precision(
    frames: Sequence[Frame],
    overlap: float,
    volume: bool = False,
    range_m: float | None = None,
    samples: int = 40,
) -> float | None:
    """Mean precision at recalls 1/40, 2/40, ..., 1, in percent; None without truth.

    The precision at a recall is the best at that recall or more.
    """
    if not any(len(frame.truth) for frame in frames):
        return None
    rows = curve(frames, overlap, volume, range_m)
    total = 0.0
    for k in range(1, samples + 1):
        good = rows[:, 1] >= k / samples - 1e-9
        total += rows[good, 2].max() if good.any() else 0.0
    return 100 * total / samples


def calibration_error(
    frames: Sequence[Frame],
    overlap: float,
    volume: bool = False,
    range_m: float | None = None,
    bins: int = 10,
) -> float | None:
    """Expected calibration error of the scores: mean |share found - mean score| over bins, by their sizes."""
    rows = hits_of(frames, overlap, volume, range_m)
    if not len(rows):
        return None
    place = np.minimum((rows[:, 0] * bins).astype(int), bins - 1)
    total = 0.0
    for k in range(bins):
        own = rows[place == k]
        if len(own):
            total += abs(own[:, 1].mean() - own[:, 0].mean()) * len(own)
    return total / len(rows)


def hits_of(
    frames: Sequence[Frame], overlap: float, volume: bool = False, range_m: float | None = None
) -> np.ndarray:
    """Rows (score, 1 found or 0 false) of all detections that count."""
    parts = [np.zeros((0, 2))]
    for frame in frames:
        state = matched(frame, overlap, volume, range_m)
        parts.append(np.column_stack([frame.scores, state])[state >= 0])
    return np.concatenate(parts)


def front_share(frames: Sequence[Frame], overlap: float, threshold: float) -> float | None:
    """Share of what is found whose front points to the right side: headings less than 90 degrees apart."""
    good: list[bool] = []
    for frame in frames:
        boxes = frame.boxes[frame.scores >= threshold]
        if not len(boxes) or not len(frame.truth):
            continue
        alike = iou_bev(frame.truth, boxes)
        best = alike.argmax(1)
        found = alike.max(1) >= overlap
        good += list(np.cos(frame.truth[found, 6] - boxes[best[found], 6]) > 0)
    return float(np.mean(good)) if good else None


def best_threshold(
    frames: Sequence[Frame], overlap: float, range_m: float | None = None
) -> tuple[float, float]:
    """The score with the best F1, and that F1."""
    rows = curve(frames, overlap, False, range_m)
    if not len(rows):
        return 0.5, 0.0
    f1 = 2 * rows[:, 1] * rows[:, 2] / np.maximum(rows[:, 1] + rows[:, 2], 1e-9)
    best = int(f1.argmax())
    return just_below(rows, best), float(f1[best])


def precise_threshold(
    frames: Sequence[Frame], overlap: float, precision: float, range_m: float | None = None
) -> float:
    """The lowest score from which on detections are right as often as asked; else that of the best F1."""
    rows = curve(frames, overlap, False, range_m)
    good = np.flatnonzero(rows[:, 2] >= precision)
    if not len(good):
        return best_threshold(frames, overlap, range_m)[0]
    return just_below(rows, int(good[-1]))


def just_below(rows: np.ndarray, last: int) -> float:
    """The score half way between a row of `curve`, the last that is taken, and the one after it."""
    following = rows[last + 1, 0] if last + 1 < len(rows) else rows[last, 0] * 0.9
    return float((rows[last, 0] + following) / 2)
