"""A line cut out of its page as the training lines were: outside the polygon paper, turned to level."""

import cv2
import numpy as np

from vision.ocr.answer import Line


def cut_line(grey: np.ndarray, line: Line) -> np.ndarray:
    """The grey image of a line (h, w); an empty or outside polygon gives a small blank one."""
    H, W = grey.shape
    points = np.array(line.polygon or ((0, 0), (1, 0), (1, 1)), float)
    x0, y0 = np.floor(points.min(0)).astype(int).clip(0)
    x1, y1 = np.minimum(np.ceil(points.max(0)).astype(int) + 1, [W, H])
    if x1 - x0 < 4 or y1 - y0 < 4:
        return np.full((16, 16), 255, np.uint8)
    part = grey[y0:y1, x0:x1]
    inside = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(points - [x0, y0]).astype(np.int32)], 1)
    chosen = part[inside > 0]
    paper = int(np.percentile(chosen, 85)) if len(chosen) else 255
    cut = np.where(inside > 0, part, paper).astype(np.uint8)
    angle = slope(line)
    if 0.7 <= abs(angle) <= 20:
        cut = turned(cut, angle, paper)
        rows = np.flatnonzero((turned(inside * 255, angle, 0) > 127).any(1))
        if len(rows) > 4:
            cut = cut[rows[0] : rows[-1] + 1]
    return cut


def slope(line: Line) -> float:
    """Angle of the baseline in degrees, rising to the right below zero."""
    if len(line.baseline) < 2:
        return 0.0
    points = np.array(line.baseline, float)
    run = points[:, 0].max() - points[:, 0].min()
    if run < 8:
        return 0.0
    return float(np.degrees(np.arctan(np.polyfit(points[:, 0], points[:, 1], 1)[0])))


def turned(image: np.ndarray, angle: float, fill: int) -> np.ndarray:
    """An image turned by degrees about its middle, as large as it then needs to be."""
    h, w = image.shape
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    width, height = int(h * sine + w * cosine) + 1, int(h * cosine + w * sine) + 1
    matrix[:, 2] += [(width - w) / 2, (height - h) / 2]
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill)  # pyright: ignore
