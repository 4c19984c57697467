"""Outlines that hold their own baseline alone and are not much higher than the other lines.

Ink goes to its nearest curve, and an outline reaches as far as the ink of its line does. Below an insertion
between two lines, or a flourish, it would hold the baseline of the neighbour; there its edge is moved.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vision.ocr.answer import Line

HANGING, STANDING = 0.15, 0.25
"""Of the distance of two baselines: what stays below the upper one, and above the lower one."""
HIGHEST = 2.5
"""Heights of the median line that an outline may be high."""
ABOVE = 0.7
"""Of an outline that is too high: the part above its baseline that is kept."""


def kept_apart(lines: Sequence[Line]) -> list[Line]:
    """Lines whose outline is an upper edge and, backwards, a lower one of as many points."""
    edges = [halves(line) for line in lines]
    heights = [float(np.median(lower[:, 1] - upper[:, 1])) for upper, lower in edges]
    most = HIGHEST * float(np.median(heights)) if heights else 0.0
    boxes = np.array([line.box for line in lines], float).reshape(-1, 4)
    found = []
    for number, (line, (upper, lower)) in enumerate(zip(lines, edges, strict=True)):
        own = level(line, upper[:, 0])
        x0, y0, x1, y1 = boxes[number]
        near = (boxes[:, 0] <= x1) & (boxes[:, 2] >= x0) & (boxes[:, 1] <= y1) & (boxes[:, 3] >= y0)
        for other in np.flatnonzero(near).tolist():
            if other != number:
                clear(upper, lower, own, lines[other])
        upper[:, 1] = np.maximum(upper[:, 1], own - np.maximum(ABOVE * most, most - (lower[:, 1] - own)))
        lower[:, 1] = np.minimum(lower[:, 1], upper[:, 1] + most)
        points = np.concatenate([upper, lower[::-1]]).tolist()
        found.append(replace(line, polygon=tuple((x, y) for x, y in points)))
    return found


def halves(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower edge of an outline, each (n, 2) from left to right."""
    points = np.array(line.polygon, float)
    middle = len(points) // 2
    return points[:middle], points[middle:][::-1].copy()


def level(line: Line, x: np.ndarray) -> np.ndarray:
    """Where a line's baseline runs at x."""
    points = np.array(line.baseline, float)
    return np.interp(x, points[:, 0], points[:, 1])


def clear(upper: np.ndarray, lower: np.ndarray, own: np.ndarray, other: Line) -> None:
    """Move the edges of an outline, whose baseline runs at `own`, off the baseline of another line."""
    x, points = upper[:, 0], np.array(other.baseline, float)
    step = float(np.diff(x).max(initial=0.0))  # the edge between two of its points is moved at both
    beside = (x >= points[0, 0] - step) & (x <= points[-1, 0] + step)
    theirs = level(other, x)
    apart = theirs - own
    over = beside & (apart < -2) & (upper[:, 1] <= theirs + 1)
    under = beside & (apart > 2) & (lower[:, 1] >= theirs - 1)
    if over.any():
        upper[over, 1] = np.maximum(theirs, theirs - HANGING * apart)[over]
    if under.any():
        lower[under, 1] = np.minimum(theirs, theirs - STANDING * apart)[under]
