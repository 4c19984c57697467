"""Strokes of a pen: files of others -> arrays of points, and points -> the steps a network sees.

A point is (x, y, t_s, down): y grows downwards as on screens, `down` is 1 while the pen touches. Of a path
only its shape counts, not the speed of the hand or the rate of the tablet: it is cut into pieces of equal
length, and `PIECES` of them are a step

    (cos, sin of the direction of each piece; height above the line, how far behind the rightmost point, both
     in x-heights; 1 while down; 1 where a stroke begins)

so a character is some five steps: CTC stays with blanks where it is many. The last step of a stroke may have
fewer pieces, and a dot has none. The pen in the air moves in one step, whatever its path there, and tells how
far instead of a direction. All of it looks back only.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.files import read_bytes

PIECES = 3
FEATURES = 2 * PIECES + 4
SPACING = 0.25
"""Length of a piece in x-heights."""
FARTHEST = 4.0
"""x-heights beyond which a way through the air, or a height, is not told apart."""
LIMIT = 200 << 20
LONGEST = 2_000_000
"""Points of one file."""


@dataclass(frozen=True)
class Ink:
    """Points (n, 4) of x, y, t_s, down; `text` where it is known."""

    points: np.ndarray
    text: str | None = None
    name: str = ""


def checked(points: np.ndarray, name: str) -> np.ndarray:
    """Points that are finite and not too many.

    Raises:
        DataError: empty, too long, or numbers that are none.
    """
    if points.ndim != 2 or points.shape[1] != 4 or not len(points):
        raise DataError(f"{name}: no points of a pen.")
    if len(points) > LONGEST or not np.isfinite(points).all() or np.abs(points[:, :2]).max() > 1e7:
        raise DataError(f"{name}: points must be finite numbers, at most {LONGEST:,} of them.")
    return points.astype(np.float64)


def read_ink(path: str | Path) -> list[Ink]:
    """Inks of a file: CSV `t,x,y,down`, IAM-OnDB XML, or an array of stroke-3 or stroke-5 (.npy, .npz).

    Raises:
        DataError: missing, damaged, or of none of these kinds.
    """
    path = Path(path)
    match path.suffix.lower():
        case ".xml":
            return [read_iam_ondb(path)]
        case ".npy" | ".npz":
            return read_arrays(path)
    return [read_csv(path)]


def read_csv(path: Path) -> Ink:
    """One ink of a table with columns t, x, y, down."""
    try:
        text = read_bytes(path, LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start}).") from error
    rows = csv.DictReader(text.splitlines())
    names = [name.strip() for name in rows.fieldnames or []]
    missing = [name for name in ("t", "x", "y", "down") if name not in names]
    if missing:
        raise DataError(f"{path}: no column {' and '.join(missing)}; a pen has t, x, y, down.")
    found = []
    for number, row in enumerate(rows, 2):
        try:
            found.append([float(row[name]) for name in ("x", "y", "t", "down")])
        except (TypeError, ValueError, KeyError):
            raise DataError(f"{path} line {number}: expected numbers in t, x, y, down.") from None
    said = path.with_suffix(".txt")
    truth = said.read_text(encoding="utf-8-sig").strip() if said.is_file() else None
    return Ink(checked(np.array(found), str(path)), truth, path.name)


def read_iam_ondb(path: Path) -> Ink:
    """`StrokeSet/Stroke/Point x y time` of IAM-OnDB."""
    from vision.ocr.formats.xml import named, parse

    found: list[list[float]] = []
    try:
        for stroke in named(parse(path), "Stroke"):
            own = [
                [float(p.get("x")), float(p.get("y")), float(p.get("time", 0)), 1.0]
                for p in named(stroke, "Point")
            ]
            if own:
                own[-1][3] = 0.0  # lifted behind it
                found += own
    except (TypeError, ValueError):
        raise DataError(f"{path}: a Point without numbers in x, y.") from None
    return Ink(checked(np.array(found), str(path)), None, path.name)


def read_arrays(path: Path) -> list[Ink]:
    """Every array (n, 3) or (n, 5) of a file; ragged collections of objects are not read."""
    from vision.ocr.stored import arrays_of

    inks = [
        Ink(from_stroke(array, f"{path}: {name}"), None, name)
        for name, array in arrays_of(path).items()
        if array.ndim == 2 and array.shape[1] in (3, 5)
    ]
    if not inks:
        raise DataError(f"{path}: holds no array (n, 3) or (n, 5) of strokes.")
    return inks


def from_stroke(array: np.ndarray, name: str = "strokes") -> np.ndarray:
    """Points of stroke-3 (dx, dy, lifted) or stroke-5 (dx, dy, one-hot of down, lifted, end).

    Raises:
        DataError: another shape, or not finite.
    """
    array = np.asarray(array, np.float64)
    if array.ndim != 2 or array.shape[1] not in (3, 5):
        raise DataError(f"{name}: strokes are (n, 3) or (n, 5), got {array.shape}.")
    if array.shape[1] == 5:
        ended = np.flatnonzero(array[:, 4] > 0.5)
        array = array[: ended[0]] if len(ended) else array
        array = np.concatenate([array[:, :2], array[:, 3:4]], 1)
    at = np.cumsum(array[:, :2], 0)
    time = 0.01 * np.arange(len(array))
    return checked(np.column_stack([at, time, array[:, 2] < 0.5]), name)


def to_stroke3(points: np.ndarray) -> np.ndarray:
    """stroke-3 of points: the inverse of `from_stroke`, times left out."""
    steps = np.diff(points[:, :2], axis=0, prepend=np.zeros((1, 2)))
    return np.column_stack([steps, points[:, 3] < 0.5])


def strokes_of(points: np.ndarray) -> list[np.ndarray]:
    """Pieces in which the pen was down; the point at which `down` is 0 ends a stroke and belongs to it."""
    ends = np.flatnonzero(points[:, 3] < 0.5)
    edges = [0, *(int(end) + 1 for end in ends), len(points)]
    return [points[a:b] for a, b in pairwise(edges) if b > a]


def levelled(points: np.ndarray) -> np.ndarray:
    """Points turned so that the writing runs level, by a line through the middles of strokes, to 30°."""
    strokes = [part for part in strokes_of(points) if len(part) > 1]
    if len(strokes) < 2:
        return points
    middles = np.array([part[:, :2].mean(0) for part in strokes])
    spread = np.ptp(middles[:, 0])
    if spread < 2 * np.ptp(middles[:, 1]) or spread <= 0:
        return points
    slope = float(np.clip(np.polyfit(middles[:, 0], middles[:, 1], 1)[0], -0.58, 0.58))
    angle = -np.arctan(slope)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = middles.mean(0)
    return np.column_stack([(points[:, :2] - centre) @ turn.T + centre, points[:, 2:]])


def x_height(points: np.ndarray) -> float:
    """Height of small letters, a little more than the median height of strokes with some height."""
    heights = np.array([np.ptp(part[:, 1]) for part in strokes_of(points)])
    largest = heights.max(initial=0.0)
    tall = heights[heights > 0.2 * largest]
    return float(max(0.75 * np.median(tall), 1e-6)) if len(tall) else 1.0


class Steps:
    """Points in any pieces -> steps (n, FEATURES); what it knows is a plain value."""

    def __init__(self, height: float) -> None:
        if not height > 0:
            raise DataError(f"the height of small letters must be positive, got {height}.")
        self.height = height
        self.last: tuple[float, float] | None = None
        self.down, self.rest, self.first = False, 0.0, True
        self.level, self.front, self.told = 0.0, 0.0, 0
        self.pieces: list[float] = []

    def state(self) -> dict[str, Any]:
        """Everything that the next point needs."""
        names = ("height", "last", "down", "rest", "first", "level", "front", "told")
        return {name: getattr(self, name) for name in names} | {"pieces": list(self.pieces)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Steps":
        """What goes on from a state."""
        found = cls(float(state["height"]))
        last = state["last"]
        found.last = None if last is None else (float(last[0]), float(last[1]))
        found.down, found.first = bool(state["down"]), bool(state["first"])
        found.rest, found.level = float(state["rest"]), float(state["level"])
        found.front, found.told = float(state["front"]), int(state["told"])
        found.pieces = [float(value) for value in state["pieces"]]
        return found

    def feed(self, points: Iterable[Any]) -> np.ndarray:
        """Steps that these points complete."""
        found: list[list[float]] = []
        for x, y, _, down in points:
            found += self.point(float(x) / self.height, float(y) / self.height, down > 0.5)
        return np.array(found, np.float32).reshape(-1, FEATURES)

    def point(self, x: float, y: float, down: bool) -> Iterator[list[float]]:
        """Steps up to one point."""
        if self.last is None:
            self.last, self.down, self.level, self.front = (x, y), down, y, x
            return
        (a, b), before = self.last, self.down
        dx, dy = x - a, y - b
        length = float(np.hypot(dx, dy))
        self.last, self.down = (x, y), down
        if not before:  # the pen came through the air
            self.rest, self.first = 0.0, True
            if length > 1e-9:
                self.pieces = [within(dx), within(dy)]
                yield self.step(x, y, 0.0)
            return
        if length > 1e-12:
            at = SPACING - self.rest
            while at <= length:
                self.pieces += [dx / length, dy / length]
                if len(self.pieces) == 2 * PIECES:
                    yield self.step(a + dx * at / length, b + dy * at / length, 1.0)
                at += SPACING
            self.rest = (self.rest + length) % SPACING
        if not down and (self.first or self.pieces):
            yield self.step(x, y, 1.0)

    def step(self, x: float, y: float, down: float) -> list[float]:
        """The step of the pieces so far, which ends at (x, y)."""
        self.told += 1
        self.level += max(0.02, 1 / (self.told + 1)) * (y - self.level)  # where the line has run so far
        self.front = max(self.front, x)
        pieces, self.pieces = self.pieces + [0.0] * (2 * PIECES - len(self.pieces)), []
        first, self.first = float(down and self.first), self.first and not down
        return [*pieces, within(self.level - y), within(x - self.front), down, first]


def within(value: float) -> float:
    """A length that is told up to `FARTHEST`."""
    return min(max(value, -FARTHEST), FARTHEST)


def steps_of(points: np.ndarray, height: float | None = None) -> np.ndarray:
    """All steps (n, FEATURES) of an ink that is there as a whole; at least one."""
    points = levelled(points)
    found = Steps(x_height(points) if height is None else height).feed(points)
    return found if len(found) else np.zeros((1, FEATURES), np.float32)
