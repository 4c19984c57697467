"""Each ink pixel to its nearest curve -> polygon and baseline of every line."""

from dataclasses import replace

import cv2
import numpy as np

from vision.ocr.answer import Line, Point
from vision.ocr.segmentation.curves import Curve
from vision.ocr.segmentation.ink import InkMap

VALLEY = 0.12
"""Ink between two lines as a share of the lesser one, at most."""
AIR = 0.8
"""White around the lines of a cell, in scales."""
KNOT = 2.0
"""Scales between points of an outline."""


def owners(
    ink: InkMap, curves: list[Curve], scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns of the ink, the curve each pixel belongs to (-1: none), and how far below it lies."""
    rows, columns = np.nonzero(ink.mask)
    best = np.full(len(rows), np.inf, np.float32)
    owner = np.full(len(rows), -1)
    order = np.argsort(columns, kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.searchsorted(columns, np.arange(ink.mask.shape[1] + 1))
    below = np.zeros(len(rows), np.float32)
    for number, curve in enumerate(curves):
        margin = int(1.5 * scale)
        x0, x1 = max(curve.x0 - margin, 0), min(curve.x1 + margin, ink.mask.shape[1])
        part = slice(starts[x0], starts[x1])
        distance = rows[part] - curve.at(columns[part])
        size = np.abs(distance)
        closer = (size < best[part]) & (size < 2.2 * scale)
        best[part][closer] = size[closer]
        owner[part][closer] = number
        below[part][closer] = distance[closer]
    return rows, columns, owner, below


def outlines(ink: InkMap, curves: list[Curve], scale: float, *, small: bool = False) -> list[Line]:
    """Lines with polygon and baseline in pixels of the working page; curves without ink are left out.

    small: also what is no more than a sign, such as the ditto marks of a column.
    """
    least, narrow = (0.15, 0.3) if small else (0.6, 1.5)
    rows, columns, owner, below = owners(ink, curves, scale)
    H, W = ink.mask.shape
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(len(curves) + 1))
    found = []
    for number, curve in enumerate(curves):
        own = order[edges[number] : edges[number + 1]]
        if len(own) < max(12, least * scale * scale):
            continue
        own = own[trimmed(columns[own], scale)]
        x, distance = columns[own], below[own]
        left, right = int(x.min()), int(x.max()) + 1
        if right - left < narrow * scale:
            continue
        top, bottom = (float(v) for v in np.percentile(distance, [1, 99]))
        top, bottom = min(top, -0.6 * scale), max(bottom, 0.6 * scale)
        knots = np.unique(np.r_[np.arange(left, right, max(KNOT * scale, 4)), right - 1]).astype(float)
        middle = smooth(curve, knots, scale)
        upper = [(float(a), float(np.clip(b + top - 1, 0, H))) for a, b in zip(knots, middle, strict=True)]
        lower = [(float(a), float(np.clip(b + bottom + 1, 0, H))) for a, b in zip(knots, middle, strict=True)]
        found.append(
            Line(
                text="",
                confidence=0.0,
                polygon=tuple(upper + lower[::-1]),
                baseline=baseline(x, rows[own], knots, middle, scale, W),
            )
        )
    return found


def trimmed(x: np.ndarray, scale: float) -> np.ndarray:
    """Which pixels of a line to keep: ends that stand apart with hardly any ink are dirt or a page's edge."""
    left = int(x.min())
    ink = np.bincount(x - left)
    filled = np.flatnonzero(ink)
    breaks = np.flatnonzero(np.diff(filled) > 1.2 * scale)
    runs = [(int(run[0]), int(run[-1]) + 1) for run in np.split(filled, breaks + 1)]
    total, least = ink.sum(), 0.35 * scale
    first, last = 0, len(runs) - 1
    while first < last and slight(ink, runs[first], total, least):
        first += 1
    while last > first and slight(ink, runs[last], total, least):
        last -= 1
    return (x - left >= runs[first][0]) & (x - left < runs[last][1])


def slight(ink: np.ndarray, run: tuple[int, int], total: float, least: float) -> bool:
    """Whether a run of columns holds next to nothing of a line."""
    return bool(ink[run[0] : run[1]].sum() < 0.03 * total and run[1] - run[0] < 4 * least)


def split_double(ink: InkMap, curves: list[Curve], scale: float) -> list[Curve]:
    """Curves that took two lines of smaller writing become two, where the ink leaves a valley between."""
    _, columns, owner, below = owners(ink, curves, scale)
    found = []
    for number, curve in enumerate(curves):
        distance = below[owner == number]
        peaks = two_peaks(distance, scale)
        if peaks is None:
            found.append(curve)
            continue
        for peak in peaks:
            x = columns[(owner == number) & (np.abs(below - peak) < 0.7 * scale)]
            x0, x1 = (int(v) for v in np.percentile(x, [1, 99]))
            at = np.arange(x0, max(x1, x0 + 2))
            found.append(Curve(x0, curve.at(at) + peak))
    return found


def two_peaks(distance: np.ndarray, scale: float) -> tuple[float, float] | None:
    """Where two lines lie in the distances of one curve's ink, if there is a clear valley between them."""
    if len(distance) < 20 * scale:
        return None
    bins = np.arange(-2.2 * scale, 2.2 * scale + 1)
    if len(bins) < 8:
        return None
    profile = np.histogram(distance, bins)[0].astype(float)
    profile = np.convolve(profile, np.hanning(max(3, int(0.5 * scale))), "same")
    middle = len(profile) // 2
    best: tuple[float, int] | None = None
    for valley in range(int(middle - 0.9 * scale), int(middle + 0.9 * scale) + 1):
        height = min(profile[:valley].max(initial=0), profile[valley:].max(initial=0))
        if height > 0.25 * profile.max():
            depth = profile[valley] / height
            if best is None or depth < best[0]:
                best = (depth, valley)
    if best is None or best[0] > VALLEY:
        return None
    above, under = int(profile[: best[1]].argmax()), best[1] + int(profile[best[1] :].argmax())
    if under - above < 0.9 * scale:
        return None
    return float(bins[above]), float(bins[under])


def smooth(curve: Curve, knots: np.ndarray, scale: float) -> np.ndarray:
    """The curve at the knots, averaged over their neighbourhood."""
    return np.array([curve.at(np.linspace(k - scale, k + scale, 9)).mean() for k in knots])


def baseline(
    x: np.ndarray, y: np.ndarray, knots: np.ndarray, middle: np.ndarray, scale: float, width: int
) -> tuple[Point, ...]:
    """Where the letters stand, as a polyline: the bottoms of the ink, descenders left out."""
    bottoms: list[tuple[float, float]] = []
    step = max(scale, 3.0)
    for start in np.arange(x.min(), x.max() + 1, step):
        inside = (x >= start) & (x < start + step)
        if inside.sum() >= 3:
            bottoms.append((float(start + step / 2), float(np.percentile(y[inside], 85))))
    if len(bottoms) < 2:
        return ((float(knots[0]), float(middle[0])), (float(knots[-1]), float(middle[-1])))
    points = np.array(bottoms)
    offset = points[:, 1] - np.interp(points[:, 0], knots, middle)
    level = float(np.percentile(offset, 60))
    return tuple((float(a), float(b + level)) for a, b in zip(knots, middle, strict=True))


def airy(lines: list[Line], scale: float, width: int, height: int) -> list[Line]:
    """Lines with the white around them, up to a scale, and not beyond the middle between two of them."""
    boxes = np.array([line.box for line in lines], float).reshape(-1, 4)
    found = []
    for line, (x0, y0, x1, y1) in zip(lines, boxes, strict=True):
        beside = (boxes[:, 0] < x1) & (boxes[:, 2] > x0)
        above = y0 - boxes[beside & (boxes[:, 3] <= y0), 3].max(initial=-2 * scale)
        below = boxes[beside & (boxes[:, 1] >= y1), 1].min(initial=height + 2 * scale) - y1
        crowded = (beside & (boxes[:, 1] < y0) & (boxes[:, 3] > y0)).any()
        up = 0.0 if crowded else min(AIR * scale, above / 2)
        crowded = (beside & (boxes[:, 1] < y1) & (boxes[:, 3] > y1)).any()
        down = 0.0 if crowded else min(AIR * scale, below / 2)
        count = len(line.polygon) // 2
        upper, lower = np.array(line.polygon[:count]), np.array(line.polygon[count:])
        sides = [[-AIR * scale, 0], *[[0, 0]] * (count - 2), [AIR * scale, 0]]
        upper, lower = upper + sides - [0, up], lower + sides[::-1] + [0, down]
        points = np.concatenate([upper, lower]).clip(0, [width - 1, height - 1])
        found.append(replace(line, polygon=tuple((float(x), float(y)) for x, y in points)))
    return found


def moved(line: Line, x: float, y: float) -> Line:
    """A line of a part of the page whose upper left corner is at (x, y)."""

    def shifted(points: tuple[Point, ...]) -> tuple[Point, ...]:
        return tuple((a + x, b + y) for a, b in points)

    return replace(line, polygon=shifted(line.polygon), baseline=shifted(line.baseline))


def scaled(line: Line, factor: float, width: int, height: int) -> Line:
    """A line in the pixels of the page as delivered."""

    def grown(points: tuple[Point, ...]) -> tuple[Point, ...]:
        return tuple(
            (
                float(round(np.clip(x * factor, 0, width - 1))),
                float(round(np.clip(y * factor, 0, height - 1))),
            )
            for x, y in points
        )

    return replace(line, polygon=grown(line.polygon), baseline=grown(line.baseline))


def drawn(page: np.ndarray, lines: list[Line]) -> np.ndarray:
    """A picture of a page with its lines' outlines, for people."""
    picture = cv2.cvtColor(page, cv2.COLOR_GRAY2BGR) if page.ndim == 2 else page.copy()
    for number, line in enumerate(lines):
        colour = [(200, 60, 30), (30, 140, 30), (40, 40, 210)][number % 3]
        points = np.array(line.polygon, np.int32)
        cv2.polylines(picture, [points], True, colour, max(1, page.shape[1] // 600))
    return picture
