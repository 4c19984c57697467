"""Grey page -> ink: paper removed, thresholded, specks and rules dropped."""

from dataclasses import dataclass

import cv2
import numpy as np

BESIDE, SHEET, EDGE, STRIP = 0.85, 0.93, 8, 0.25
"""What is darker than the first lies beside the sheet where the second is reached within so many strips (of
four pixels, as blurred as the paper is found); at most this share of a page."""
MOST_COMPONENTS = 20_000
"""Pieces of ink that are kept, the largest ones: pure noise must not take hours."""


@dataclass(frozen=True)
class InkMap:
    """What is written on a page at working size."""

    strength: np.ndarray
    """(H, W) of float32, 0 on paper, about 1 in black ink; 0 outside the components that were kept."""
    mask: np.ndarray
    """(H, W) of bool."""
    heights: np.ndarray
    """Height of each kept component."""
    areas: np.ndarray


def darkness(grey: np.ndarray) -> np.ndarray:
    """1 - grey / paper, the paper being a smooth bright envelope of the page."""
    paper = cv2.resize(paper_of(grey), (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_LINEAR)
    return (1 - grey.astype(np.float32) / np.maximum(paper, 1)).clip(0, 1)


def paper_of(grey: np.ndarray) -> np.ndarray:
    """How bright the paper is, at a quarter of the page's size."""
    small = cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    envelope = cv2.medianBlur(cv2.dilate(small, np.ones((3, 3), np.uint8)), 25)
    return cv2.GaussianBlur(envelope.astype(np.float32), (0, 0), 6)


def sheet(grey: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the sheet: what lies dark beside it (a table, the next sheet) is cut off.

    Strips are judged by the median of their paper. The dark ends at once, which a fold's shadow does not.
    """
    paper = paper_of(grey)
    usual = float(np.median(paper))
    found = []
    for axis, size in enumerate(grey.shape):
        level = np.median(paper, axis=1 - axis) / max(usual, 1.0)
        first, last = (beside(side) for side in (level, level[::-1]))
        found.append(slice(4 * first, size - 4 * last))
    return found[0], found[1]


def beside(level: np.ndarray) -> int:
    """How many strips from the edge on are not of the sheet, by their brightness; the paper's is 1."""
    bright = np.flatnonzero(level >= BESIDE)
    first = int(bright[0]) if len(bright) else 0
    sharp = level[min(first + EDGE, len(level) - 1)] >= SHEET
    return first if first <= STRIP * len(level) and sharp else 0


def thresholded(dark: np.ndarray, window: int = 41) -> np.ndarray:
    """Pixels darker than what is around them, (H, W) of uint8 0 or 1."""
    mean = cv2.boxFilter(dark, -1, (window, window))
    square = cv2.boxFilter(dark * dark, -1, (window, window))
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    return ((dark > mean + 0.2 * deviation + 0.04) & (dark > 0.14)).astype(np.uint8)


def find_ink(grey: np.ndarray, rule_length: float = 0.12) -> InkMap:
    """The ink of a grey page (H, W) at working size.

    `rule_length`: thin straight components longer than this share of the page are rules, not writing.
    """
    dark = darkness(grey)
    rows, columns = sheet(grey)
    inside = np.zeros(grey.shape, np.uint8)
    inside[rows, columns] = 1
    return written_ink(dark, thresholded(dark) * inside, rule_length)


def written_ink(dark: np.ndarray, binary: np.ndarray, rule_length: float = 0.12) -> InkMap:
    """What is written among the dark pixels `binary` (H, W): no rules, edges, specks."""
    H, W = binary.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(binary, connectivity=8)
    x, y, w, h, area = (stats[:, i] for i in range(5))
    kept = (area >= 8) & (h < 0.2 * H)
    typical = float(np.median(h[kept][h[kept] > 3])) if (kept & (h > 3)).any() else 8.0
    kept &= ~(
        (w > rule_length * W) & (h < 1.2 * typical) & (area < max(0.3 * typical, 4.0) * w)
    )  # horizontal rules
    kept &= ~((h > 0.08 * H) & (w < 0.25 * h))  # vertical ones
    frame = (x <= 2) | (y <= 2) | (x + w >= W - 2) | (y + h >= H - 2)
    kept &= ~(frame & ((w > 0.2 * W) | (h > 0.1 * H) | (area > 40 * typical * typical)))
    kept[0] = False
    chosen = np.flatnonzero(kept)
    if len(chosen) > MOST_COMPONENTS:
        chosen = chosen[np.argsort(-area[chosen], kind="stable")[:MOST_COMPONENTS]]
        kept = np.zeros(count, bool)
        kept[chosen] = True
    mask = np.asarray(kept)[np.asarray(labels, np.int64)]
    return InkMap(dark * mask, mask, h[chosen].astype(float), area[chosen].astype(float))


def within(ink: InkMap, polygon: tuple[tuple[float, float], ...]) -> tuple[InkMap, tuple[int, int]]:
    """The ink inside a polygon, cut to its box, and where that box begins (x, y)."""
    H, W = ink.mask.shape
    points = np.array(polygon)
    x0, y0 = (int(v) for v in np.floor(points.min(0)).clip(0))
    x1, y1 = int(min(W, np.ceil(points[:, 0].max()) + 1)), int(min(H, np.ceil(points[:, 1].max()) + 1))
    part = np.ascontiguousarray(ink.mask[y0:y1, x0:x1]).astype(np.uint8)
    inside = np.zeros(part.shape, np.uint8)
    if part.size:
        cv2.fillPoly(inside, [np.round(points - [x0, y0]).astype(np.int32)], 1)
    part &= inside
    if not part.any():
        return InkMap(np.zeros(part.shape, np.float32), part > 0, np.zeros(0), np.zeros(0)), (x0, y0)
    _, _, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    strength = ink.strength[y0:y1, x0:x1] * part
    return InkMap(strength, part > 0, stats[1:, 3].astype(float), stats[1:, 4].astype(float)), (x0, y0)


def without_specks(ink: InkMap, least: float) -> InkMap:
    """The ink without components of fewer pixels than `least`."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink.mask.astype(np.uint8), connectivity=8)
    kept = stats[:, 4] >= least
    kept[0] = False
    mask = kept[np.asarray(labels, np.int64)]
    chosen = stats[kept]
    return InkMap(ink.strength * mask, mask, chosen[:, 3].astype(float), chosen[:, 4].astype(float))
