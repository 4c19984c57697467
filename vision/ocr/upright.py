"""Pages that lie on a side or stand on their head: found by how sure the reader is of its widest lines.

Only a page that is read with doubt is looked at in the other directions, so upright pages cost nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vision.ocr.answer import Line, Page, Point
from vision.ocr.crop import cut_line
from vision.ocr.decoding import Decoding
from vision.ocr.page import find_page

DOUBTFUL = 0.85
"""Mean confidence of characters below which the other directions are tried."""
BETTER = 0.06
"""By how much another direction must be surer."""
LOOKED_AT = 6
"""Lines, the widest ones."""


def turned(grey: np.ndarray, rotation: int) -> np.ndarray:
    """A page turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.ascontiguousarray(np.rot90(grey, -(rotation // 90) % 4))


def sureness(lines: Sequence[Line]) -> float:
    """Geometric mean of the confidences of all characters; 0 without any."""
    logs = [np.log(max(char.confidence, 1e-3)) for line in lines for char in line.chars]
    return float(np.exp(np.mean(logs))) if logs else 0.0


def sample(grey: np.ndarray, reader: Any, page: Page | None = None) -> float:
    """How sure the reader is of the widest lines of a page, by the best labels."""
    page = find_page(grey) if page is None else page
    widest = sorted(page.lines, key=lambda line: line.box[0] - line.box[2])[:LOOKED_AT]
    return sureness(reader.read([cut_line(grey, line) for line in widest], Decoding()))


def rotation_of(grey: np.ndarray, reader: Any, page: Page | None = None) -> int:
    """Degrees by which a page must be turned clockwise to be read.

    Args:
        page: its lines as they are found without turning, where they are known.
    """
    here = sample(grey, reader, page)
    if here >= DOUBTFUL:
        return 0
    others = {degrees: sample(turned(grey, degrees), reader) for degrees in (90, 180, 270)}
    best = max(others, key=lambda degrees: others[degrees])
    return best if others[best] > here + BETTER else 0


def as_delivered(page: Page, rotation: int) -> Page:
    """A page that was read turned, its lines and tables in the pixels of the image as it came."""
    if not rotation:
        return page
    W, H = page.width_px, page.height_px

    def back(points: tuple[Point, ...]) -> tuple[Point, ...]:
        match rotation:
            case 90:
                return tuple((y, W - 1 - x) for x, y in points)
            case 180:
                return tuple((W - 1 - x, H - 1 - y) for x, y in points)
        return tuple((H - 1 - y, x) for x, y in points)

    lines = [replace(line, polygon=back(line.polygon), baseline=back(line.baseline)) for line in page.lines]
    tables = [
        replace(
            table,
            polygon=back(table.polygon),
            cells=tuple(replace(cell, polygon=back(cell.polygon)) for cell in table.cells),
        )
        for table in page.tables
    ]
    width, height = (W, H) if rotation == 180 else (H, W)
    return replace(
        page, width_px=width, height_px=height, lines=tuple(lines), tables=tuple(tables), rotation=rotation
    )
