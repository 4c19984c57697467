"""Pieces of lines that lie on one baseline, made one line however wide the gap between them is.

The line finder takes a wide white gap for a border between columns. Inside a region that somebody drew there
is no such border, so there all pieces of a row belong together.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vision.ocr.answer import Line, Point

APART = 0.5
"""Of the smaller height: how far the ends of two baselines may lie apart, one above the other."""
BESIDE = 0.1
"""Of the shorter width: how much two pieces of a row may lie above each other."""


def joined(lines: Sequence[Line]) -> list[Line]:
    """The lines, pieces of a row as one; each row stands where its first piece stood. Texts are left out."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box[0]):
        best = min(
            (row for row in rows if follows(row[-1], line)), key=lambda row: drop(row[-1], line), default=None
        )
        if best is None:
            rows.append([line])
        else:
            best.append(line)
    place = {id(line): number for number, line in enumerate(lines)}
    rows.sort(key=lambda row: min(place[id(line)] for line in row))
    return [row[0] if len(row) == 1 else one_line(row) for row in rows]


def follows(a: Line, b: Line) -> bool:
    """Whether b goes on with the row that ends with a."""
    height = min(a.box[3] - a.box[1], b.box[3] - b.box[1])
    width = min(a.box[2] - a.box[0], b.box[2] - b.box[0])
    return a.box[2] - b.box[0] <= BESIDE * width and drop(a, b) <= APART * height


def drop(a: Line, b: Line) -> float:
    """Pixels between the end of one baseline and the begin of the next, along the slope of the longer."""
    ends, begins = base(a), base(b)
    longer = ends if ends[-1][0] - ends[0][0] >= begins[-1][0] - begins[0][0] else begins
    run = longer[-1][0] - longer[0][0]
    slope = (longer[-1][1] - longer[0][1]) / run if run > 0 else 0.0
    return abs(begins[0][1] - ends[-1][1] - slope * (begins[0][0] - ends[-1][0]))


def base(line: Line) -> tuple[Point, ...]:
    """A line's baseline from left to right; the lower quarter of its box where it has none."""
    if line.baseline:
        return tuple(sorted(line.baseline))
    x0, y0, x1, y1 = line.box
    level = y1 - 0.25 * (y1 - y0)
    return ((x0, level), (x1, level))


def one_line(row: Sequence[Line]) -> Line:
    """The pieces of a row, from left to right, as one line."""
    upper: list[Point] = []
    lower: list[Point] = []
    for line in row:
        above, below = edges(line)
        upper += above
        lower += below
    baseline = tuple(point for line in row for point in base(line))
    return replace(row[0], polygon=(*upper, *lower[::-1]), baseline=baseline)


def edges(line: Line) -> tuple[list[Point], list[Point]]:
    """The upper and the lower edge of an outline, from left to right."""
    points = np.array(line.polygon, float)
    around = np.concatenate([points, points[:1]])
    columns = np.unique(points[:, 0])
    above, below = [], []
    for x in columns.tolist():
        met: list[float] = []
        for (xa, ya), (xb, yb) in zip(around[:-1].tolist(), around[1:].tolist(), strict=True):
            if min(xa, xb) <= x <= max(xa, xb):
                met += [ya, yb] if xa == xb else [ya + (yb - ya) * (x - xa) / (xb - xa)]
        above.append((x, min(met)))
        below.append((x, max(met)))
    return above, below
