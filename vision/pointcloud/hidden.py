"""What sweeps gain over one: hidden cars by a memory, velocities and denser cars by merged sweeps."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from vision.pointcloud.assign import CAR
from vision.pointcloud.calibrate import FLAT, LOW_SCORE, NEAR_M, calibrated
from vision.pointcloud.crops import view
from vision.pointcloud.drives import levelled, remembered
from vision.pointcloud.iou import iou_bev
from vision.pointcloud.merge import merged
from vision.pointcloud.metrics import Frame, average_precision, curve, recall_precision
from vision.pointcloud.predict import Detector
from vision.pointcloud.remember import REMEMBERED, Remembering
from vision.pointcloud.synth.sequence import sequence

FIRST = 1_700_000
"""Seeds of the drives that score."""
OVERLAP = 0.5


def memory_thresholds(network: nn.Module, drives: int, sweeps: int, sensor: str) -> dict[str, Any]:
    """For a card: thresholds of single sweeps, and the one of cars in memory with the same precision."""
    usual = calibrated(network, drives, sensor)
    detector = Detector(network, usual["thresholds"], "training")
    report = hidden_report(detector, max(1, drives // 4), sweeps, sensor, FIRST + 100_000)
    return {**usual, REMEMBERED: {"Car": report["memory"]["threshold"]}}


def hidden_report(
    detector: Detector, drives: int, sweeps: int, sensor: str = "hdl64", first: int = FIRST
) -> dict[str, Any]:
    """Cars within 30 m in generated drives, by single sweeps and with the memory.

    A car is hidden in a sweep where it is no target (fewer than five points, or less than .15 of it) but was
    one earlier in the drive. Single sweeps answer at the threshold of the weights; the memory answers at the
    least score with the same precision or a better one.

    Raises:
        ConfigError: weights without a memory.
    """
    memory = Remembering(detector)
    every: dict[str, list[Frame]] = {"single": [], "memory": []}
    only: dict[str, list[Frame]] = {"single": [], "memory": []}
    slips: list[float] = []
    for number in range(drives):
        memory.reset()
        turns = sequence(first + number, sensor, sweeps)
        levels = levelled(turns)
        for turn, level, kinds in zip(turns, levels, remembered(levels), strict=True):
            boxes = level.boxes[:, :7]
            near = np.hypot(boxes[:, 0], boxes[:, 1]) < NEAR_M
            asked = (kinds == CAR) & near
            hidden = asked & (level.kinds != CAR)
            single = detector.find(level.points, FLAT, LOW_SCORE)
            remembering = memory.find(level.points, FLAT, turn.pose, LOW_SCORE)
            for name, (found, scores, classes) in (("single", single), ("memory", remembering)):
                cars = found[classes == CAR], scores[classes == CAR]
                every[name].append(Frame(boxes[asked], boxes[~asked], cars[0][:, :7], cars[1]))
                only[name].append(Frame(boxes[hidden], boxes[~hidden], cars[0][:, :7], cars[1]))
            slips += speed_slips(level.boxes[asked & ~hidden], remembering[0][remembering[2] == CAR])
    limit = detector.thresholds["Car"]
    rows: dict[str, Any] = {}
    for name in every:
        if name == "memory":
            limit = matching_threshold(every[name], rows["single"]["precision"], limit)
        recall, precision, counts = recall_precision(every[name], OVERLAP, limit, NEAR_M)
        found, _, behind = recall_precision(only[name], OVERLAP, limit, NEAR_M)
        rows[name] = {
            "threshold": round(limit, 3),
            "cars": counts["truth"],
            "recall": recall,
            "precision": precision,
            "hidden": behind["truth"],
            "hidden_recall": found,
        }
    rows["memory"]["speed_error_mps"] = float(np.median(slips)) if slips else None
    return {"n": drives, "sweeps": sweeps, "sensor": sensor, "weights": detector.name, **rows}


def merged_report(
    detector: Detector, single: Detector, drives: int, sensor: str = "hdl64", first: int = FIRST
) -> dict[str, Any]:
    """Cars within 30 m at the end of generated drives: merged sweeps beside the last sweep alone.

    Args:
        detector: of merged sweeps.
        single: of one sweep.
    """
    frames: dict[str, list[Frame]] = {"single": [], "merged": []}
    slips: list[float] = []
    for number in range(drives):
        turns = sequence(first + number, sensor, detector.sweeps)
        whole, last = view(merged(turns), None), view(turns[-1].scan, None)
        near = np.hypot(whole.boxes[:, 0], whole.boxes[:, 1]) < NEAR_M
        asked = (whole.kinds == CAR) & near
        for name, seen, finder in (("merged", whole, detector), ("single", last, single)):
            found, scores, classes = finder.find(seen.points, FLAT, LOW_SCORE)
            cars = classes == CAR
            boxes = seen.boxes[:, :7]
            frames[name].append(Frame(boxes[asked], boxes[~asked], found[cars][:, :7], scores[cars]))
            if name == "merged":
                sure = cars & (scores >= detector.thresholds["Car"])
                slips += speed_slips(whole.boxes[asked], found[sure])
    rows: dict[str, Any] = {}
    for name, finder in (("single", single), ("merged", detector)):
        limit = finder.thresholds["Car"]
        recall, precision, counts = recall_precision(frames[name], OVERLAP, limit, NEAR_M)
        rows[name] = {
            "threshold": round(limit, 3),
            "cars": counts["truth"],
            "recall": recall,
            "precision": precision,
            "bev": average_precision(frames[name], OVERLAP, False, NEAR_M),
        }
    rows["merged"]["speed_error_mps"] = float(np.median(slips)) if slips else None
    return {"n": drives, "sweeps": detector.sweeps, "sensor": sensor, "weights": detector.name, **rows}


def merged_lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    lines = [
        f"ends of {report['n']} drives of {report['sweeps']} sweeps, {report['sensor']}, {report['weights']}",
        f"{'':<10}{'cars':>7}{'recall':>8}{'precision':>11}{'bev@.5':>8}",
    ]
    for name in ("single", "merged"):
        row = report[name]
        figures = [row[key] for key in ("recall", "precision", "bev")]
        shown = ["-" if value is None else f"{value:.3g}" for value in figures]
        lines.append(f"{name:<10}{row['cars']:>7}{shown[0]:>8}{shown[1]:>11}{shown[2]:>8}")
    error = report["merged"]["speed_error_mps"]
    return [*lines, f"median error of a velocity: {'-' if error is None else f'{error:.3f}'} m/s"]


def matching_threshold(frames: Sequence[Frame], precision: float | None, usual: float) -> float:
    """The least score from which on detections are right as often as asked."""
    rows = curve(frames, OVERLAP, False, NEAR_M)
    good = rows[rows[:, 2] >= (precision or 0.0), 0]
    return float(good.min()) if len(good) else usual


def speed_slips(truth: np.ndarray, found: np.ndarray) -> list[float]:
    """Error of the velocity, m/s, of each box (T, 9) that was found (M, 9)."""
    if not len(truth) or not len(found):
        return []
    overlap = iou_bev(truth[:, :7], found[:, :7])
    best = overlap.argmax(1)
    return [
        math.hypot(*(truth[row, 7:] - found[best[row], 7:]))
        for row in range(len(truth))
        if overlap[row, best[row]] >= OVERLAP
    ]


def hidden_lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""

    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    lines = [
        f"{report['n']} drives of {report['sweeps']} sweeps, {report['sensor']}, {report['weights']}",
        f"{'':<10}{'cars':>7}{'recall':>8}{'precision':>11}{'hidden':>8}{'found':>7}",
    ]
    for name in ("single", "memory"):
        row = report[name]
        lines.append(
            f"{name:<10}{row['cars']:>7}{text(row['recall']):>8}{text(row['precision']):>11}"
            f"{row['hidden']:>8}{text(row['hidden_recall']):>7}"
        )
    return [*lines, f"median error of a velocity: {text(report['memory']['speed_error_mps'])} m/s"]
