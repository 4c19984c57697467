"""A map of where baselines are -> lines: the answer of a network, of kraken's segmenters or of our own."""

import cv2
import numpy as np

from vision.ocr.answer import Line
from vision.ocr.segmentation.curves import MOST, Curve, join
from vision.ocr.segmentation.ink import find_ink
from vision.ocr.segmentation.outline import outlines, scaled
from vision.ocr.segmentation.pitch import line_pitch

THRESHOLD = 0.3
WIDTH = 1000
RISE = 0.5
"""Scales from a baseline up to the middle of its letters."""


def lines_from_map(heat: np.ndarray, grey: np.ndarray) -> list[Line]:
    """Lines in pixels of the page (H, W) from probabilities of baselines (h, w) of the same page."""
    H, W = grey.shape
    width = min(W, WIDTH)
    factor = W / width
    small = cv2.resize(grey, (width, max(8, round(H / factor))), interpolation=cv2.INTER_AREA)
    seen = cv2.resize(heat.astype(np.float32), small.shape[::-1], interpolation=cv2.INTER_LINEAR)
    ink = find_ink(small)
    if not ink.mask.any():
        return []
    scale = 0.42 * line_pitch(ink)
    curves = [
        Curve(curve.x0, curve.y - RISE * scale) for curve in join(traced(seen > THRESHOLD, scale), scale)
    ]
    return [scaled(line, factor, W, H) for line in outlines(ink, curves, scale)]


def traced(mask: np.ndarray, scale: float) -> list[Curve]:
    """The middle of every connected stroke of a map (H, W) of bool that is wider than two scales."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    wide = [i for i in range(1, count) if stats[i, 2] > 2 * scale]
    found = []
    for i in sorted(wide, key=lambda i: -int(stats[i, 2]))[:MOST]:
        x, y, w, h = (int(v) for v in stats[i, :4])
        rows, columns = np.nonzero(labels[y : y + h, x : x + w] == i)
        sums, counts = np.bincount(columns, rows, w), np.bincount(columns, minlength=w)
        there = np.flatnonzero(counts)
        found.append(Curve(x, y + np.interp(np.arange(w), there, sums[there] / counts[there])))
    return found
