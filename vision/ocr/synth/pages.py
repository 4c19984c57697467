"""Generated pages with their truth: letters, two columns, marginal notes, ruled registers."""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from vision.ocr.synth.paper import paper
from vision.ocr.synth.writing import Writer, ink_on_line, made_up, write

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """A text on a generated page and the box of its ink, in reading order; `cell` is row and column."""

    text: str
    box: Box
    cell: tuple[int, int] | None = None
    row: float = 0.0
    """Of the pixels on which its letters stand."""


class Sheet:
    """Ink of one hand put together on a page (height, width)."""

    def __init__(self, height: int, width: int, seed: int, x_height: float) -> None:
        self.rng = np.random.default_rng([seed, 78])
        self.writer, self.x_height = Writer.drawn(self.rng), x_height
        self.ink = np.zeros((height, width), np.float32)

    def put(self, text: str, left: int, top: int, widest: int, cell: tuple[int, int] | None = None) -> Placed:
        """A text with the upper left corner of its line there; it is cut off after `widest` columns."""
        strokes = write(text, self.writer, self.rng)
        drawn, row = ink_on_line(strokes, self.writer, self.x_height, self.rng)
        drawn = drawn[:, :widest]
        spot = self.ink[top : top + drawn.shape[0], left : left + drawn.shape[1]]
        np.maximum(spot, drawn[: spot.shape[0], : spot.shape[1]], out=spot)
        rows, columns = np.nonzero(drawn > 0.3)
        box = (left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1)
        x0, y0, x1, y1 = (int(v) for v in box)
        return Placed(text, (x0, y0, x1, y1), cell, top + row)

    def rule(self, a: tuple[float, float], b: tuple[float, float], broken: bool) -> None:
        """A ruled line from a to b, with a few gaps where it is broken."""
        at, stop = np.array(a), np.array(b)
        edges = [0.0, *np.sort(self.rng.uniform(0.1, 0.9, 3 if broken else 0)), 1.0]
        for start, end in pairwise(edges):
            p, q = at + (stop - at) * start, at + (stop - at) * (end - (0.012 if broken else 0))
            cv2.line(self.ink, np.round(p).astype(int), np.round(q).astype(int), 0.9, 2)  # pyright: ignore

    def grey(self) -> np.ndarray:
        """The page (height, width) of uint8."""
        return paper(self.ink, self.rng, rules=False)


def two_columns(seed: int, count: int = 8) -> tuple[np.ndarray, list[Placed]]:
    """A page of two columns, offset by some pixels, and its lines in reading order."""
    sheet = Sheet(90 * count + 220, 1700, seed, 20)
    placed = []
    for column in range(2):
        shift = int(sheet.rng.integers(0, 30)) * column
        for number in range(count):
            text = made_up(sheet.rng, 26)
            placed.append(sheet.put(text, 90 + 830 * column, 90 + shift + 90 * number, 640))
    return sheet.grey(), placed


def with_notes(seed: int, count: int = 9) -> tuple[np.ndarray, list[Placed]]:
    """A letter with two notes in its left margin, each behind the line beside which it stands."""
    sheet = Sheet(90 * count + 220, 1500, seed, 20)
    placed = []
    beside = {int(n) for n in sheet.rng.choice(np.arange(1, count - 1), 2, replace=False)}
    for number in range(count):
        top = 90 + 90 * number
        placed.append(sheet.put(made_up(sheet.rng, 36), 420, top, 1000))
        if number in beside:
            placed.append(sheet.put(made_up(sheet.rng, 6), 60, top + 8, 200))
    return sheet.grey(), placed


def register(
    seed: int,
    rows: int = 6,
    columns: int = 4,
    *,
    ruled: bool = True,
    slant: float = 0.01,
    empty: float = 0.25,
) -> tuple[np.ndarray, list[Placed]]:
    """A table with broken, slanted rules: a heading row and `rows` entries, some cells empty.

    ruled: also between the entries; otherwise columns alone are ruled, as in a register.
    """
    sheet = Sheet(110 * (rows + 1) + 260, 330 * columns + 200, seed, 20)
    left, top = 90, 130
    width, height = 330 * columns, 110 * (rows + 1)

    def turned(x: float, y: float) -> tuple[float, float]:
        return x - slant * (y - top), y + slant * (x - left)

    for column in range(columns + 1):
        x = left + 330 * column
        sheet.rule(turned(x, top), turned(x, top + height), broken=column % 2 == 1)
    for row in range(rows + 2):
        if ruled or row in (0, 1, rows + 1):
            y = top + 110 * row
            sheet.rule(turned(left, y), turned(left + width, y), broken=row % 2 == 1)
    placed = []
    for row in range(rows + 1):
        for column in range(columns):
            if row and column and sheet.rng.random() < empty:
                continue
            x, y = turned(left + 330 * column + 34, top + 110 * row + 22)
            text = made_up(sheet.rng, 9)
            placed.append(sheet.put(text, int(x), int(y), 260, (row, column)))
    return sheet.grey(), placed


def dense(seed: int) -> tuple[np.ndarray, list[Placed]]:
    """A page as archives hold them: many lines of any size and distance, a heading, notes beside them."""
    rng = np.random.default_rng([seed, 79])
    x_height, width = rng.uniform(11, 24), int(rng.integers(1100, 1900))
    pitch = int(x_height * rng.uniform(2.7, 4.2))
    count = int(min(rng.integers(10, 30), 2400 // pitch))
    sheet = Sheet(pitch * count + 260, width, seed, x_height)
    margin = int(width * rng.choice([rng.uniform(0.03, 0.1), rng.uniform(0.2, 0.3)]))
    widest = width - margin - 30
    letters = max(8, int(widest / (0.9 * x_height)))
    placed, top = [], 60
    for number in range(count):
        short = rng.random() < 0.15 or number == 0
        left = margin + int(rng.integers(0, widest // 2 if short else 14))
        text = made_up(rng, max(6, letters // 3 if short else letters))
        placed.append(sheet.put(text, left, top, min(widest, width - left - 20)))
        if margin > 0.18 * width and rng.random() < 0.2:
            placed.append(sheet.put(made_up(rng, 7), 14, top + int(rng.integers(0, 9)), margin - 40))
        top += int(pitch * (1.6 if rng.random() < 0.08 else rng.uniform(0.93, 1.07)))
    if rng.random() < 0.3:  # the edge of the sheet and the fold beside it
        x = int(rng.choice([rng.uniform(2, 20), width - rng.uniform(2, 20)]))
        sheet.rule((x, 0), (x + rng.uniform(-6, 6), len(sheet.ink)), broken=False)
    return sheet.grey(), placed


def leaning(
    grey: np.ndarray, placed: list[Placed], degrees: float
) -> tuple[np.ndarray, list[tuple[tuple[float, float], tuple[float, float]]]]:
    """A page turned about its middle, and the baselines of its texts there, ends (x, y) in pixels."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    around = float(np.percentile(grey, 80))
    turned = cv2.warpAffine(grey, turn, (width, height), borderValue=(around,))
    lines = []
    for text in placed:
        ends = np.array([[text.box[0], text.row, 1.0], [text.box[2], text.row, 1.0]]) @ turn.T
        (x0, y0), (x1, y1) = ends.clip(0, [width - 1, height - 1]).tolist()
        lines.append(((x0, y0), (x1, y1)))
    return turned, lines
