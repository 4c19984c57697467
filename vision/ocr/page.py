"""A page -> its lines in reading order, without a model."""

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from vision.ocr.answer import Line, Page, Point, Table
from vision.ocr.line import positive
from vision.ocr.segmentation.apart import kept_apart
from vision.ocr.segmentation.curves import MOST, corridors, join, ridges
from vision.ocr.segmentation.ink import (
    InkMap,
    darkness,
    find_ink,
    thresholded,
    within,
    without_specks,
    written_ink,
)
from vision.ocr.segmentation.order import reading_order
from vision.ocr.segmentation.outline import airy, moved, outlines, scaled, split_double
from vision.ocr.segmentation.pitch import component_height, line_pitch
from vision.ocr.segmentation.rules import Rule, erased, find_rules
from vision.ocr.segmentation.table import Grid, find_grids, tabled

WIDTH = 1000
"""Columns of the page while lines are looked for."""
RULED, TABLE = 1500, 3000
"""Columns of the page while rules are looked for, and while the lines of a table are."""
SPECK = 0.02
"""Of a letter's height squared: smaller spots in tables are dirt, since single signs count there."""
SPOTS = 5000
"""Pieces of ink at the first width above which a page is told; written ones have 150 to 1,700."""
EDGE = 0.3
"""Of the page's height: how long a rule beside the tables must be to be its edge."""


def find_page(grey: np.ndarray, name: str = "image", *, right_to_left: bool = False) -> Page:
    """Lines of a grey page (H, W): polygon and baseline of each, in reading order; text is empty.

    Where rules make a table its cells are read row by row, and lines say their table, row and column.
    """
    H, W = grey.shape
    grey = positive(grey)
    if min(H, W) < 8 or float(grey.std()) < 1.0:
        return Page(name, W, H, remarks=("there is no ink on this page.",))
    lines, tables, remarks = find_tables(grey)
    if not tables:
        lines, remarks = find_lines(grey)
        lines = reading_order(lines, right_to_left=right_to_left)
    else:
        lines = around(lines, tables, right_to_left=right_to_left)
    named = [replace(line, name=f"line_{number}") for number, line in enumerate(kept_apart(lines), 1)]
    return Page(name, W, H, tuple(named), remarks=tuple(remarks), tables=tuple(tables))


def reduced(grey: np.ndarray, width: int) -> tuple[np.ndarray, float]:
    """The page at most so wide, and the factor back to its own pixels."""
    H, W = grey.shape
    factor = W / width
    if factor <= 1:
        return grey, 1.0
    return cv2.resize(grey, (width, max(8, round(H / factor))), interpolation=cv2.INTER_AREA), factor


def find_lines(grey: np.ndarray, width: int = WIDTH) -> tuple[list[Line], list[str]]:
    """Lines in no order, in pixels of the page, and remarks."""
    H, W = grey.shape
    small, factor = reduced(grey, width)
    ink = find_ink(small)
    if not ink.mask.any():
        return [], ["there is no ink on this page."]
    lines, crowded = lines_of(ink, 0.42 * line_pitch(ink))
    remarks = [f"more than {MOST} pieces of lines; the longest were kept."] if crowded else []
    if len(ink.heights) > SPOTS:
        remarks.append(f"{len(ink.heights):,} spots of ink, more than a written page has: noise, or print.")
    return [scaled(line, factor, W, H) for line in lines], remarks


def lines_of(ink: InkMap, scale: float) -> tuple[list[Line], bool]:
    """Lines of some ink, and whether there were more pieces than are kept."""
    white = corridors(ink, scale)
    pieces = ridges(ink, scale, white)
    curves = split_double(ink, join(pieces, scale, white), scale)
    return outlines(ink, curves, scale), len(pieces) >= MOST


def cell_lines(ink: InkMap, scale: float) -> list[Line]:
    """Lines of a column of cells, single signs too, with some white around them."""
    H, W = ink.mask.shape
    curves = split_double(ink, join(ridges(ink, scale), scale), scale)
    return airy(outlines(ink, curves, scale, small=True), scale, W, H)


def find_tables(grey: np.ndarray) -> tuple[list[Line], list[Table], list[str]]:
    """Lines of a page with tables, those of the tables with their cells; nothing where there is none."""
    H, W = grey.shape
    small, _ = reduced(grey, RULED)
    upright, level = find_rules(thresholded(darkness(small)))
    if not find_grids(upright, level, *small.shape):
        return [], [], []
    fine, factor = reduced(grey, TABLE)
    dark = darkness(fine)
    binary = thresholded(dark)
    upright, level = find_rules(binary)
    grids = find_grids(upright, level, *fine.shape)
    ink = written_ink(dark, erased(binary, upright, level))
    ink = without_specks(ink, SPECK * component_height(ink) ** 2)
    lines: list[Line] = []
    tables: list[Table] = []
    for number, grid in enumerate(grids):
        table, own = table_lines(ink, grid, number)
        tables.append(scaled_table(table, factor, W, H))
        lines += own
    lines += outside(ink, grids, upright)
    return [scaled(line, factor, W, H) for line in lines], tables, []


def table_lines(ink: InkMap, grid: Grid, number: int) -> tuple[Table, list[Line]]:
    """A table and its lines, in pixels of the ink."""
    parts = [(band, *within(ink, band.polygon)) for band in grid.bands]
    heights = [component_height(part) for _, part, _ in parts if part.mask.sum() > 40]
    usual = float(np.median(heights)) if heights else 12.0
    found = []
    for band, part, corner in parts:
        # entries stand apart in a register: the distance of lines says nothing there about their height
        own = component_height(part) if part.mask.any() else usual
        scale = float(np.clip(min(0.42 * line_pitch(part), 0.9 * own), 0.6 * usual, 1.6 * usual))
        lines = cell_lines(part, scale) if part.mask.any() else []
        found.append((band, [moved(line, *corner) for line in lines]))
    return tabled(grid, found, number)


def outside(ink: InkMap, grids: list[Grid], upright: list[Rule]) -> list[Line]:
    """Lines above, below and beside tables; a long rule beside them all is the page's edge."""
    H, W = ink.mask.shape
    rest = ink.mask.copy()
    for grid in grids:
        hole = np.zeros(rest.shape, np.uint8)
        cv2.fillPoly(hole, [np.round(np.array(grid.polygon)).astype(np.int32)], 1)
        rest &= hole == 0
    top = min(y for grid in grids for _, y in grid.polygon)
    bottom = max(y for grid in grids for _, y in grid.polygon)
    left = min(x for grid in grids for x, _ in grid.polygon)
    right = max(x for grid in grids for x, _ in grid.polygon)
    edges = [rule.middle for rule in upright if rule.length > EDGE * H]
    first = max((x for x in edges if x < left - 0.02 * W), default=0.0)
    last = min((x for x in edges if x > right + 0.02 * W), default=float(W))
    kept = replace(ink, strength=ink.strength * rest, mask=rest)
    places = [(first, 0.0, last, top), (first, top, left, bottom), (left, top, right, bottom)]
    places += [(right, top, last, bottom), (first, bottom, last, float(H))]
    found = []
    for x0, y0, x1, y1 in places:
        part, corner = within(kept, ((x0, y0), (x1, y0), (x1, y1), (x0, y1)))
        if part.mask.sum() <= 100:
            continue
        scale = min(0.42 * line_pitch(part), 0.9 * component_height(part))
        notes = x1 - x0 < 0.2 * W
        lines = cell_lines(part, scale) if notes else lines_of(part, scale)[0]
        found += [moved(line, *corner) for line in lines]
    return found


def around(lines: list[Line], tables: list[Table], *, right_to_left: bool) -> list[Line]:
    """Reading order of a page with tables: a table's cells row by row, what is beside it behind it."""
    free = reading_order([line for line in lines if line.table is None], right_to_left=right_to_left)
    order: list[Line] = []
    for number, table in enumerate(tables):
        top = min(y for _, y in table.polygon)
        order += [line for line in free if line.box[3] <= top + 2 or middle(line) < top]
        free = [line for line in free if line not in order]
        own = [line for line in lines if line.table == number]
        sign = -1 if right_to_left else 1
        order += sorted(own, key=lambda line: (line.row, sign * (line.column or 0), middle(line)))
    return order + free


def middle(line: Line) -> float:
    """The height of a line's middle."""
    return (line.box[1] + line.box[3]) / 2


def scaled_table(table: Table, factor: float, width: int, height: int) -> Table:
    """A table in the pixels of the page as delivered."""

    def grown(points: Iterable[Point]) -> tuple[Point, ...]:
        limits = [width - 1, height - 1]
        return tuple(
            (float(x), float(y)) for x, y in np.round(np.array(list(points)) * factor).clip(0, limits)
        )

    cells = tuple(replace(cell, polygon=grown(cell.polygon)) for cell in table.cells)
    return replace(table, polygon=grown(table.polygon), cells=cells)
