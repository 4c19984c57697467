"""A page -> its lines in reading order, without a model."""

from dataclasses import replace

import cv2
import numpy as np

from vision.ocr.answer import Line, Page
from vision.ocr.segment.curves import MOST, join, ridges
from vision.ocr.segment.ink import find_ink
from vision.ocr.segment.order import reading_order
from vision.ocr.segment.outline import outlines, scaled, split_double
from vision.ocr.segment.pitch import line_pitch

WIDTH = 1000
"""Columns of the page while lines are looked for."""


def find_page(grey: np.ndarray, name: str = "image", *, right_to_left: bool = False) -> Page:
    """Lines of a grey page (H, W): polygon and baseline of each, in reading order; text is empty."""
    H, W = grey.shape
    lines, remarks = find_lines(grey)
    lines = reading_order(lines, right_to_left=right_to_left)
    named = [replace(line, name=f"line_{number}") for number, line in enumerate(lines, 1)]
    return Page(name, W, H, tuple(named), remarks=tuple(remarks))


def find_lines(grey: np.ndarray, width: int = WIDTH) -> tuple[list[Line], list[str]]:
    """Lines in no order, in pixels of the page, and remarks."""
    H, W = grey.shape
    if min(H, W) < 8 or float(grey.std()) < 1.0:
        return [], ["there is no ink on this page."]
    factor = max(W / width, 1e-3)
    if W > width:
        small = cv2.resize(grey, (width, max(8, round(H / factor))), interpolation=cv2.INTER_AREA)
    else:
        small, factor = grey, 1.0
    ink = find_ink(small)
    if not ink.mask.any():
        return [], ["there is no ink on this page."]
    pitch = line_pitch(ink)
    scale = 0.42 * pitch
    pieces = ridges(ink, scale)
    curves = split_double(ink, join(pieces, scale), scale)
    lines = outlines(ink, curves, scale)
    remarks = [] if len(pieces) < MOST else [f"more than {MOST} pieces of lines; the longest were kept."]
    return [scaled(line, factor, W, H) for line in lines], remarks
