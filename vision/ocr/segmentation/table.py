"""Rules -> tables: columns between vertical rules, rows between the horizontal ones that cross them."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vision.ocr.answer import Cell, Line, Point, Table
from vision.ocr.segmentation.rules import Rule

LEAST_VERTICAL, LEAST_HORIZONTAL = 0.12, 0.08
"""Of the page's height and width: shorter rules make no table."""
NARROW = 0.012
"""Of the page's width: what is narrower between two rules is a double rule or a gutter."""


@dataclass(frozen=True)
class Band:
    """A column's stretch between two rules that cut it."""

    column: int
    left: Rule
    right: Rule
    top: float
    bottom: float

    @property
    def polygon(self) -> tuple[Point, ...]:
        """Clockwise from the upper left."""
        sides = [(self.left, self.top), (self.right, self.top), (self.right, self.bottom)]
        sides.append((self.left, self.bottom))
        return tuple((float(rule.at(y)), float(y)) for rule, y in sides)


@dataclass(frozen=True)
class Grid:
    """A table's bands, before rows that no rule divides are told apart by their lines."""

    columns: int
    bands: tuple[Band, ...]

    @property
    def polygon(self) -> tuple[Point, ...]:
        first = min(self.bands, key=lambda band: band.column)
        last = max(self.bands, key=lambda band: band.column)
        top, bottom = min(b.top for b in self.bands), max(b.bottom for b in self.bands)
        corners = [(first.left, top), (last.right, top), (last.right, bottom), (first.left, bottom)]
        return tuple((float(rule.at(y)), float(y)) for rule, y in corners)


def find_grids(vertical: list[Rule], horizontal: list[Rule], height: int, width: int) -> list[Grid]:
    """Tables: groups of rules that touch, with two columns or more."""
    upright = [rule for rule in vertical if rule.length >= LEAST_VERTICAL * height]
    level = [rule for rule in horizontal if rule.length >= LEAST_HORIZONTAL * width]
    reach = 0.01 * max(height, width)
    group = list(range(len(upright)))
    crossed: list[list[int]] = []
    for rule in level:
        met = [i for i, other in enumerate(upright) if touch(other, rule, reach)]
        crossed.append(met)
        for i in met[1:]:
            old, new = group[i], group[met[0]]
            group = [new if name == old else name for name in group]
    found = []
    for name in dict.fromkeys(group):
        own = sorted((upright[i] for i in range(len(upright)) if group[i] == name), key=lambda r: r.middle)
        cuts = [rule for rule, met in zip(level, crossed, strict=True) if met and group[met[0]] == name]
        if len(own) >= 3 and cuts:
            grid = gridded(own, cuts, height, width)
            if grid.columns >= 2:
                found.append(grid)
    return found


def touch(vertical: Rule, horizontal: Rule, reach: float) -> bool:
    """Whether two rules meet, or nearly."""
    y = float(horizontal.at(vertical.middle))
    x = float(vertical.at(y))
    along = horizontal.start - reach <= x <= horizontal.end + reach
    return along and vertical.start - reach <= y <= vertical.end + reach


def gridded(upright: list[Rule], level: list[Rule], height: int, width: int) -> Grid:
    """The bands of one group of rules."""
    top = float(np.percentile([rule.start for rule in upright], 25))
    bottom = float(np.percentile([rule.end for rule in upright], 75))
    bands, column = [], 0
    for left, right in pairwise(upright):
        middle = (top + bottom) / 2
        if float(right.at(middle) - left.at(middle)) < NARROW * width:
            continue
        x0, x1 = float(left.at(middle)), float(right.at(middle))
        edges = [top, *cuts_of(level, x0, x1), bottom]
        edges = distinct(edges, 0.012 * height)
        bands += [Band(column, left, right, a, b) for a, b in pairwise(edges)]
        column += 1
    return Grid(column, tuple(bands))


def cuts_of(level: list[Rule], x0: float, x1: float) -> list[float]:
    """Heights of the horizontal rules that cross most of a column."""
    found = []
    for rule in level:
        shared = min(rule.end, x1) - max(rule.start, x0)
        if shared >= 0.6 * (x1 - x0):
            found.append(float(rule.at((x0 + x1) / 2)))
    return found


def distinct(edges: list[float], least: float) -> list[float]:
    """Ascending edges; of several closer than `least` their mean."""
    groups: list[list[float]] = []
    for edge in sorted(edges):
        if groups and edge - groups[-1][-1] < least:
            groups[-1].append(edge)
        else:
            groups.append([edge])
    return [float(np.mean(group)) for group in groups]


def tabled(grid: Grid, found: list[tuple[Band, list[Line]]], number: int) -> tuple[Table, list[Line]]:
    """The table with its cells, empty ones too, and the lines with their table, row and column.

    Bands at one height make a row. Where a row holds several lines in its first column with three or more of
    them, each of these begins a row of its own, as entries of a register do.
    """
    starts = distinct([band.top for band, _ in found], least_height(found) / 2)
    cells: dict[tuple[int, int], Cell] = {}
    lines: list[Line] = []
    row = 0
    for index, start in enumerate(starts):
        end = starts[index + 1] if index + 1 < len(starts) else float("inf")
        own = [(band, part) for band, part in found if nearest(starts, band.top) == index]
        tops = entries(own, start, min(end, max(band.bottom for band, _ in own)))
        for band, part in own:
            for place, top in enumerate(tops):
                low = band.top if place == 0 else top
                high = tops[place + 1] if place + 1 < len(tops) else band.bottom
                cell = Cell(row + place, band.column, replace(band, top=low, bottom=high).polygon)
                cells[cell.row, cell.column] = cell
            for line in part:
                place = max(0, int(np.searchsorted(tops, level_of(line), side="right")) - 1)
                lines.append(replace(line, table=number, row=row + place, column=band.column))
        row += len(tops)
    ordered = tuple(cells[key] for key in sorted(cells))
    lines.sort(key=lambda line: (line.row, line.column, level_of(line)))
    return Table(row, grid.columns, grid.polygon, ordered), lines


def entries(bands: list[tuple[Band, list[Line]]], top: float, bottom: float) -> list[float]:
    """Where the entries of a row begin: at its top, and above every further line of the leading column."""
    for _, lines in sorted(bands, key=lambda pair: pair[0].column):
        levels = sorted(level_of(line) for line in lines)
        if len(levels) < 3:
            continue
        pitch = float(np.median(np.diff(levels)))
        later = [level - 0.35 * pitch for level in levels[1:]]
        return [top, *(edge for edge in later if top < edge < bottom)]
    return [top]


def level_of(line: Line) -> float:
    """The height of a line's middle."""
    _, y0, _, y1 = line.box
    return (y0 + y1) / 2


def least_height(found: list[tuple[Band, list[Line]]]) -> float:
    """Of the lowest band."""
    return min(band.bottom - band.top for band, _ in found)


def nearest(values: list[float], value: float) -> int:
    """The place of the nearest value."""
    return int(np.argmin(np.abs(np.array(values) - value)))
