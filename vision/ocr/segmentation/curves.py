"""Ridges of smoothed ink -> one curve a line, pieces joined along the writing."""

from dataclasses import dataclass
from heapq import heappop, heappush

import cv2
import numpy as np

from vision.ocr.segmentation.ink import InkMap

MOST = 1000
"""Pieces, and lines, of a page: the longest are kept."""


@dataclass
class Curve:
    """y over the columns x0 .. x0 + len(y) - 1."""

    x0: int
    y: np.ndarray

    @property
    def x1(self) -> int:
        return self.x0 + len(self.y)

    @property
    def middle(self) -> float:
        return float(np.median(self.y))

    def at(self, x: np.ndarray | float) -> np.ndarray:
        """Height at columns, level beyond the ends."""
        return np.asarray(np.interp(x, np.arange(self.x0, self.x1), self.y))

    def end(self, right: bool, reach: float) -> tuple[float, float]:
        """Height and slope at an end, fitted over `reach` columns; the slope is limited."""
        n = max(2, min(len(self.y), int(reach)))
        y = self.y[-n:] if right else self.y[:n]
        if n < 3:
            return float(y[-1] if right else y[0]), 0.0
        slope, _ = np.polyfit(np.arange(n), y, 1)
        slope = float(np.clip(slope, -0.15, 0.15))
        return float(y.mean() + slope * ((n - 1) / 2 if right else -(n - 1) / 2)), slope


def corridors(ink: InkMap, scale: float) -> np.ndarray:
    """White between columns (H, W) of bool: three scales wide, empty over five lines, ink on both sides."""
    tall, wide = int(12 * scale) | 1, max(3, int(3 * scale))
    dirt = max(1.0, 0.3 * scale * scale)  # specks may lie in it
    full = cv2.boxFilter(ink.mask.astype(np.float32), -1, (wide, tall), normalize=False)
    white = cv2.dilate((full <= dirt).astype(np.uint8), np.ones((1, wide), np.uint8)) > 0
    rows = cv2.boxFilter(ink.mask.astype(np.float32), -1, (1, tall), normalize=False) > 0
    first = np.where(rows.any(1), rows.argmax(1), rows.shape[1])
    last = np.where(rows.any(1), rows.shape[1] - 1 - rows[:, ::-1].argmax(1), -1)
    x = np.arange(rows.shape[1])
    return white & (x > first[:, None] + wide) & (x < last[:, None] - wide)


def ridges(ink: InkMap, scale: float, white: np.ndarray | None = None) -> list[Curve]:
    """Maxima along y of the smoothed ink, in connected pieces wider than two scales; none in `white`."""
    smooth = cv2.GaussianBlur(ink.strength, (0, 0), sigmaX=3.2 * scale, sigmaY=max(0.55 * scale, 0.8))
    level = smooth[smooth > 1e-4]
    if not len(level):
        return []
    floor = 0.25 * float(np.percentile(level, 90))
    up, down = np.roll(smooth, 1, 0), np.roll(smooth, -1, 0)
    top = (smooth >= up) & (smooth > down) & (smooth > floor)
    top[0] = top[-1] = False
    if white is not None:
        top &= ~white
    count, labels, stats, _ = cv2.connectedComponentsWithStats(top.astype(np.uint8), connectivity=8)
    wide = [i for i in range(1, count) if stats[i, 2] > 2 * scale]
    wide = sorted(wide, key=lambda i: -int(stats[i, 2]))[:MOST]
    found = []
    for i in wide:
        x0, y0, w, h = (int(v) for v in stats[i, :4])
        rows, columns = np.nonzero(labels[y0 : y0 + h, x0 : x0 + w] == i)
        sums = np.bincount(columns, rows, w)
        counts = np.bincount(columns, minlength=w)
        present = counts > 0
        y = np.interp(np.arange(w), np.flatnonzero(present), (sums / np.maximum(counts, 1))[present])
        found.append(Curve(x0, y + y0))
    return found


def join(curves: list[Curve], scale: float, white: np.ndarray | None = None) -> list[Curve]:
    """Pieces of one line joined, the cheapest pair first, across gaps of up to seven scales, not across
    `white`."""
    reach = 6 * scale
    alive: dict[int, Curve] = {}
    ends: dict[int, tuple[tuple[float, float], tuple[float, float]]] = {}
    waiting: list[tuple[float, int, int]] = []

    def cost(a: int, b: int) -> float | None:
        left, right = alive[a], alive[b]
        gap = right.x0 - left.x1
        if not -1.5 * scale <= gap < 7 * scale or right.x1 <= left.x1:
            return None
        (y, slope), (z, lean) = ends[a][1], ends[b][0]
        misfit = abs((y + slope * gap / 2) - (z - lean * gap / 2))
        if misfit > 0.55 * scale or (white is not None and parted(left, right, white)):
            return None
        return misfit / scale + max(gap, 0) / (7 * scale)

    def enter(number: int, curve: Curve) -> None:
        alive[number] = curve
        ends[number] = (curve.end(False, reach), curve.end(True, reach))
        for other in list(alive):
            if other != number:
                for a, b in ((number, other), (other, number)):
                    found = cost(a, b)
                    if found is not None:
                        heappush(waiting, (found, a, b))

    for number, curve in enumerate(curves):
        enter(number, curve)
    number = len(curves)
    while waiting:
        _, a, b = heappop(waiting)
        if a in alive and b in alive:
            left, right = alive.pop(a), alive.pop(b)
            enter(number, joined(left, right))
            number += 1
    return list(alive.values())


def parted(left: Curve, right: Curve, white: np.ndarray) -> bool:
    """Whether a corridor lies between two pieces."""
    x = np.arange(left.x1 - 1, right.x0 + 1)
    if len(x) < 3:
        return False
    y = np.interp(x, [x[0], x[-1]], [left.y[-1], right.y[0]]).round().astype(int)
    return bool(white[y.clip(0, len(white) - 1), x.clip(0, white.shape[1] - 1)].mean() > 0.3)


def joined(left: Curve, right: Curve) -> Curve:
    """Two pieces as one, straight across the gap, the mean where they overlap."""
    x = np.arange(left.x0, max(left.x1, right.x1))
    a, b = left.at(x), right.at(x)
    if right.x0 >= left.x1:
        share = np.clip((x - left.x1 + 1) / max(right.x0 - left.x1 + 1, 1), 0, 1)
    else:
        share = np.clip((x - right.x0) / max(left.x1 - right.x0, 1), 0, 1)
    return Curve(left.x0, a * (1 - share) + b * share)
