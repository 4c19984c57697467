"""Each ink pixel to its nearest curve -> polygon and baseline of every line."""

import cv2
import numpy as np

from vision.ocr.answer import Line, Point
from vision.ocr.segment.curves import Curve
from vision.ocr.segment.ink import Ink

KNOT = 2.0
"""Scales between points of an outline."""


def owners(
    ink: Ink, curves: list[Curve], scale: float
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


def outlines(ink: Ink, curves: list[Curve], scale: float) -> list[Line]:
    """Lines with polygon and baseline in pixels of the working page; curves without ink are left out."""
    rows, columns, owner, below = owners(ink, curves, scale)
    H, W = ink.mask.shape
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(len(curves) + 1))
    found = []
    for number, curve in enumerate(curves):
        own = order[edges[number] : edges[number + 1]]
        if len(own) < max(12, 0.6 * scale * scale):
            continue
        x, distance = columns[own], below[own]
        left, right = int(x.min()), int(x.max()) + 1
        if right - left < 1.5 * scale:
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


def scaled(line: Line, factor: float, width: int, height: int) -> Line:
    """A line in the pixels of the page as delivered."""
    from dataclasses import replace

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
