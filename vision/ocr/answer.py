"""What a reading gives: characters, lines, pages, as plain values with one `as_dict`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Char:
    """A character and where it stands in its line's image; edges lie between neighbouring spikes."""

    text: str
    confidence: float
    x0_px: float
    x1_px: float


@dataclass(frozen=True)
class Line:
    """A line's text. `polygon`, `baseline` are in pixels of the page, empty for a line that came alone."""

    text: str
    confidence: float
    """That the whole text is right."""
    chars: tuple[Char, ...] = ()
    alternatives: tuple[tuple[str, float], ...] = ()
    """Other texts and their share of the probability, best first."""
    polygon: tuple[Point, ...] = ()
    baseline: tuple[Point, ...] = ()
    gaps_px: tuple[tuple[float, float], ...] = ()
    """Ink that no character covers."""
    note: str = ""
    name: str = ""
    table: int | None = None
    """Which table of the page it stands in, from 0, with its row and column there."""
    row: int | None = None
    column: int | None = None

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 around the polygon."""
        points = np.array(self.polygon or ((0, 0),))
        low, high = np.floor(points.min(0)), np.ceil(points.max(0))
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def words(self) -> list[tuple[str, float, float, float]]:
        """Words with their confidence (geometric mean) and the pixels from x0 to x1 in the line's image."""
        found: list[tuple[str, float, float, float]] = []
        current: list[Char] = []
        for char in (*self.chars, Char(" ", 1.0, 0.0, 0.0)):
            if char.text != " ":
                current.append(char)
            elif current:
                mean = float(np.exp(np.mean([np.log(max(c.confidence, 1e-9)) for c in current])))
                text = "".join(c.text for c in current)
                found.append((text, mean, current[0].x0_px, current[-1].x1_px))
                current = []
        return found

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "text": self.text,
            "confidence": self.confidence,
            "polygon": [list(point) for point in self.polygon],
            "baseline": [list(point) for point in self.baseline],
            "words": [
                {"text": text, "confidence": confidence, "x0_px": x0, "x1_px": x1}
                for text, confidence, x0, x1 in self.words()
            ],
            "chars": [
                {"c": c.text, "confidence": c.confidence, "x0_px": c.x0_px, "x1_px": c.x1_px}
                for c in self.chars
            ],
            "alternatives": [{"text": text, "share": share} for text, share in self.alternatives],
            "gaps_px": [list(gap) for gap in self.gaps_px],
            **({"note": self.note} if self.note else {}),
            **({} if self.row is None else {"table": self.table, "row": self.row, "column": self.column}),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Line":
        """The line of `as_dict`."""
        return cls(
            text=as_text(stored["text"]),
            confidence=as_share(stored["confidence"]),
            chars=tuple(
                Char(as_text(c["c"]), as_share(c["confidence"]), as_number(c["x0_px"]), as_number(c["x1_px"]))
                for c in stored.get("chars", ())
            ),
            alternatives=tuple(
                (as_text(a["text"]), as_share(a["share"])) for a in stored.get("alternatives", ())
            ),
            polygon=tuple((as_number(p[0]), as_number(p[1])) for p in stored.get("polygon", ())),
            baseline=tuple((as_number(p[0]), as_number(p[1])) for p in stored.get("baseline", ())),
            gaps_px=tuple((as_number(g[0]), as_number(g[1])) for g in stored.get("gaps_px", ())),
            note=as_text(stored.get("note", "")),
            name=as_text(stored.get("id", "")),
            table=None if stored.get("table") is None else as_index(stored["table"]),
            row=None if stored.get("row") is None else as_index(stored["row"]),
            column=None if stored.get("column") is None else as_index(stored["column"]),
        )


@dataclass(frozen=True)
class Cell:
    """A place of a table; rows and columns count from 0."""

    row: int
    column: int
    polygon: tuple[Point, ...]


@dataclass(frozen=True)
class Table:
    """A ruled table; its lines say the cell they stand in, cells without a line are empty."""

    rows: int
    columns: int
    polygon: tuple[Point, ...]
    cells: tuple[Cell, ...]

    def texts(self, lines: tuple[Line, ...], number: int) -> list[list[str]]:
        """Text of every cell, row by row; several lines of a cell are joined by a space."""
        grid: list[list[list[str]]] = [[[] for _ in range(self.columns)] for _ in range(self.rows)]
        for line in lines:
            if line.table != number or line.row is None or line.column is None:
                continue
            if 0 <= line.row < self.rows and 0 <= line.column < self.columns:
                grid[line.row][line.column].append(line.text)
        return [[" ".join(part for part in cell if part) for cell in row] for row in grid]

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "columns": self.columns,
            "polygon": [list(point) for point in self.polygon],
            "cells": [
                {"row": c.row, "column": c.column, "polygon": [list(point) for point in c.polygon]}
                for c in self.cells
            ],
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Table":
        """The table of `as_dict`."""
        return cls(
            as_index(stored["rows"]),
            as_index(stored["columns"]),
            tuple((as_number(p[0]), as_number(p[1])) for p in stored["polygon"]),
            tuple(
                Cell(
                    as_index(c["row"]),
                    as_index(c["column"]),
                    tuple((as_number(p[0]), as_number(p[1])) for p in c["polygon"]),
                )
                for c in stored["cells"]
            ),
        )


@dataclass(frozen=True)
class Page:
    """A page's lines in reading order; coordinates are pixels of the image as delivered, EXIF turned."""

    image: str
    width_px: int
    height_px: int
    lines: tuple[Line, ...] = ()
    rotation: int = 0
    remarks: tuple[str, ...] = field(default=())
    tables: tuple[Table, ...] = ()
    number: int = 1
    """Of the page in its file."""
    dpi: float | None = None
    """Pixels an inch, where they are known."""

    @property
    def text(self) -> str:
        return "\n".join(line.text for line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        return {
            "image": self.image,
            "page": self.number,
            "width_px": self.width_px,
            "height_px": self.height_px,
            "rotation": self.rotation,
            "coordinates": "pixels of the image after its EXIF rotation",
            "lines": [line.as_dict() for line in self.lines],
            "tables": [
                {**table.as_dict(), "texts": table.texts(self.lines, number)}
                for number, table in enumerate(self.tables)
            ],
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Page":
        """The page of `as_dict`."""
        return cls(
            as_text(stored["image"]),
            int(as_number(stored["width_px"])),
            int(as_number(stored["height_px"])),
            tuple(Line.from_dict(line) for line in stored["lines"]),
            int(as_number(stored.get("rotation", 0))),
            tuple(as_text(remark) for remark in stored.get("remarks", ())),
            tuple(Table.from_dict(table) for table in stored.get("tables", ())),
            int(as_number(stored.get("page", 1))),
        )


def as_text(value: Any) -> str:
    """Text of a stored page.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where there should be text")
    return value


def as_number(value: Any) -> float:
    """A coordinate of a stored page, as it is.

    Raises:
        TypeError: it is no number. ValueError: it is on no picture.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} where there should be a number")
    if not abs(value) < 1e7:  # NaN neither
        raise ValueError(f"a coordinate of {value:g}")
    return value


def as_share(value: Any) -> float:
    """A confidence of a stored page; NaN where it is unknown.

    Raises:
        TypeError: it is no number.
    """
    return float("nan") if value is None or value != value else as_number(value)


def as_index(value: Any) -> int:
    """A row, a column, or how many there are of them.

    Raises:
        TypeError: it is no whole number. ValueError: no table has so many.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} where there should be a whole number")
    if not 0 <= value <= 1000:
        raise ValueError(f"a table of {value:g} rows or columns")
    return value
