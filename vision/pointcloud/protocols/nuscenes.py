"""nuScenes detection: AP by distance of centres, five errors of what was found, and their score NDS."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

CLASSES = (
    "car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle", "bicycle",
    "traffic_cone", "barrier",
)  # fmt: skip
DISTANCES = (0.5, 1.0, 2.0, 4.0)
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
AT_M = 2.0
"""Distance at which the errors are taken."""
MIN_RECALL, MIN_PRECISION, AP_WEIGHT = 0.1, 0.1, 5
RECALLS = np.linspace(0, 1, 101)
UNDEFINED = {"traffic_cone": ("orient_err", "vel_err", "attr_err"), "barrier": ("vel_err", "attr_err")}


@dataclass(frozen=True)
class Things:
    """Labels or detections of all samples together."""

    frame: np.ndarray
    name: np.ndarray
    place: np.ndarray
    """(N, 3)"""
    size: np.ndarray
    """(N, 3) in any order that both sides share."""
    yaw: np.ndarray
    velocity: np.ndarray
    """(N, 2), NaN where it is not known."""
    attribute: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def where(self, keep: np.ndarray) -> "Things":
        return replace(self, **{name: getattr(self, name)[keep] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Curve:
    """Precision, confidence and errors at 101 recalls."""

    precision: np.ndarray
    confidence: np.ndarray
    errors: dict[str, np.ndarray]


def accumulate(truth: Things, found: Things, name: str, distance: float) -> Curve:
    """Match one class at a distance: best score first, the nearest truth that is still free."""
    truth, found = truth.where(truth.name == name), found.where(found.name == name)
    nothing = Curve(np.zeros(101), np.zeros(101), {error: np.ones(101) for error in ERRORS})
    if not len(truth):
        return nothing
    order = np.lexsort((np.arange(len(found)), found.score))[::-1]  # of equal scores the later row first
    taken = np.zeros(len(truth), bool)
    hits, scores, errors = [], [], {error: [] for error in ERRORS}
    matched = []
    for k in order:
        gaps = np.hypot(*(truth.place[:, :2] - found.place[k, :2]).T)
        gaps = np.where(taken | (truth.frame != found.frame[k]), np.inf, gaps)
        best = int(gaps.argmin())
        hit = bool(gaps[best] < distance)
        hits.append(hit)
        scores.append(found.score[k])
        if hit:
            taken[best] = True
            matched.append(found.score[k])
            for error, value in zip(ERRORS, pair_errors(truth, best, found, k, name), strict=True):
                errors[error].append(value)
    if not matched:
        return nothing
    tp, fp = np.cumsum(hits), np.cumsum(~np.array(hits))
    recall = tp / len(truth)
    precision = np.interp(RECALLS, recall, tp / (tp + fp), right=0)
    confidence = np.interp(RECALLS, recall, np.array(scores), right=0)
    curves = {
        error: np.interp(confidence[::-1], np.array(matched)[::-1], running_mean(values)[::-1])[::-1]
        for error, values in errors.items()
    }
    return Curve(precision, confidence, curves)


def pair_errors(truth: Things, i: int, found: Things, k: int, name: str) -> tuple[float, ...]:
    """The five errors of a detection against its truth."""
    place = math.hypot(*(truth.place[i, :2] - found.place[k, :2]))
    shared = float(np.minimum(truth.size[i], found.size[k]).prod())
    scale = 1 - shared / (float(truth.size[i].prod()) + float(found.size[k].prod()) - shared)
    period = math.pi if name == "barrier" else 2 * math.pi
    turn = (truth.yaw[i] - found.yaw[k] + period / 2) % period - period / 2
    turn = turn - 2 * math.pi if turn > math.pi else turn
    speed = math.hypot(*(truth.velocity[i] - found.velocity[k]))
    known = truth.attribute[i] != ""
    attribute = float(truth.attribute[i] != found.attribute[k]) if known else math.nan
    return place, scale, abs(turn), speed, attribute


def running_mean(values: Sequence[float]) -> np.ndarray:
    """Means of all values up to each, unknown ones left out; ones when none is known."""
    array = np.array(values, float)
    if np.isnan(array).all():
        return np.ones(len(array))
    count = np.cumsum(~np.isnan(array))
    return np.divide(np.nancumsum(array), count, out=np.zeros_like(array), where=count != 0)


def average_precision(curve: Curve) -> float:
    """The part of the curve above the least precision, beyond the least recall, scaled to 0..1."""
    part = curve.precision[round(100 * MIN_RECALL) + 1 :] - MIN_PRECISION
    return float(np.maximum(part, 0).mean() / (1 - MIN_PRECISION))


def mean_error(curve: Curve, error: str) -> float:
    """The error from the least recall to the last that was reached; 1 when that is less."""
    first = round(100 * MIN_RECALL) + 1
    reached = np.flatnonzero(curve.confidence)
    last = int(reached[-1]) if len(reached) else 0
    return 1.0 if last < first else float(curve.errors[error][first : last + 1].mean())


def nuscenes_score(
    truth: Things, found: Things, classes: Sequence[str] = CLASSES
) -> dict[str, np.ndarray | float]:
    """mAP, the errors by class (NaN where undefined) and NDS."""
    precision = np.zeros((len(classes), len(DISTANCES)))
    errors = np.full((len(classes), len(ERRORS)), np.nan)
    for c, name in enumerate(classes):
        for d, distance in enumerate(DISTANCES):
            curve = accumulate(truth, found, name, distance)
            precision[c, d] = average_precision(curve)
            if distance == AT_M:
                for e, error in enumerate(ERRORS):
                    if error not in UNDEFINED.get(name, ()):
                        errors[c, e] = mean_error(curve, error)
    mean_errors = np.nanmean(errors, axis=0)
    scores = np.maximum(0, 1 - mean_errors)
    mean = float(precision.mean())
    return {
        "ap": precision,
        "errors": errors,
        "mean_ap": mean,
        "mean_errors": mean_errors,
        "scores": scores,
        "nds": float((AP_WEIGHT * mean + scores.sum()) / (AP_WEIGHT + len(ERRORS))),
    }
