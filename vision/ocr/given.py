"""Lines that somebody else has drawn: whether they fit the image, and whether their outlines can be true."""

from dataclasses import replace

import numpy as np

from core.errors import DataError
from vision.ocr.answer import Line, Page


def fitting(given: Page, grey: np.ndarray) -> Page:
    """Given lines, checked against the image; a page that tells no size has that of its image."""
    if not given.width_px and not given.height_px:
        given = replace(given, width_px=grey.shape[1], height_px=grey.shape[0])
    if (given.width_px, given.height_px) != (grey.shape[1], grey.shape[0]):
        raise DataError(
            f"{given.image}: the lines are of an image of {given.width_px} x {given.height_px} pixels, "
            f"this one has {grey.shape[1]} x {grey.shape[0]}."
        )
    return replace(given, lines=tamed(given.lines))


def tamed(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Lines whose outline bulges over several others (Transkribus draws such) fall back to their baseline.

    An outline is too high above 2.5 times the pitch, the median distance of neighbouring baselines.
    """
    levels = np.sort([float(np.mean([y for _, y in line.baseline])) for line in lines if line.baseline])
    steps = np.diff(levels)
    steps = steps[steps > 4]
    if len(steps) < 3:
        return lines
    pitch = float(np.median(steps))
    found = []
    for line in lines:
        rise = max((y for _, y in line.baseline), default=0.0) - min(
            (y for _, y in line.baseline), default=0.0
        )
        if line.baseline and line.box[3] - line.box[1] > 2.5 * pitch + rise:
            above = [(x, y - 0.9 * pitch) for x, y in line.baseline]
            below = [(x, y + 0.4 * pitch) for x, y in line.baseline]
            line = replace(line, polygon=(*above, *below[::-1]))
        found.append(line)
    return tuple(found)
