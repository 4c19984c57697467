"""Digit strings composed of isolated digits, on paper like that of cheques."""

import gzip
from pathlib import Path

import cv2
import numpy as np

from core.errors import DataError
from vision.ocr.synth.paper import paper

KEPT = 0.6
"""Ink that thinning must leave of a digit."""
HIDDEN = 0.3
"""Share of the narrower of two touching digits that may lie on the other."""
HELD_BACK = 5000
"""Digits at the end of a set from which training never draws."""


def read_idx(path: str | Path) -> np.ndarray:
    """An idx file of bytes (images or labels, .gz or not) as an array.

    Raises:
        DataError: missing, damaged, or no idx file of bytes.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if len(data) < 8 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4:
        raise DataError(f"{path}: not an idx file of bytes.")
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3]))
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape))
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path}: {values.size} values, its header says {shape}.")
    return values.reshape(shape)


def read_digits(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, h, w) and labels (n,) of a folder with idx files.

    Raises:
        DataError: not one file of each, or they do not fit.
    """
    found = {}
    for kind in ("images", "labels"):
        files = sorted(path for path in Path(folder).glob(f"*{kind}*idx*") if path.is_file())
        if not files:
            raise DataError(f"{folder}: no idx file of {kind}.")
        found[kind] = read_idx(files[0])
    images, labels = found["images"], found["labels"]
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise DataError(f"{folder}: images {images.shape} and labels {labels.shape} do not fit.")
    return images, labels


def cut(digit: np.ndarray) -> np.ndarray:
    """The ink box of a digit, bright on 0."""
    rows, columns = np.flatnonzero(digit.max(1) > 40), np.flatnonzero(digit.max(0) > 40)
    if not len(rows):
        return digit
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def drawn_length(rng: np.random.Generator, longest: int) -> int:
    """Digits of a string: mostly as cheques have them, some of any length up to `longest`."""
    if rng.random() < 0.6 and longest >= 6:
        return int(rng.integers(4, 7))
    return int(rng.integers(1, longest + 1))


def compose(
    images: np.ndarray, labels: np.ndarray, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """A string of `length` digits: grey (h, w) of uint8, paper bright, and its text.

    The digits come from a window of 200 neighbours, since sets are often ordered by writer.
    """
    window = min(200, len(images))
    first = int(rng.integers(0, len(images) - window + 1))
    chosen = first + rng.integers(0, window, length)
    slant, slope = rng.normal(0, 0.2), rng.uniform(-0.05, 0.05)
    tall = max(14.0, rng.normal(22, 2.5))
    glyphs = [glyph(images[i], tall, slant + rng.normal(0, 0.05), rng) for i in chosen]
    height = int(tall * 1.9 + 8)
    gaps = np.maximum(rng.normal(2, 4, length), -6)
    width = int(sum(g.shape[1] for g in glyphs) + np.maximum(gaps, 0).sum() + 60)
    ink = np.zeros((height, width), np.float32)
    x = float(rng.uniform(3, 20))
    base = height * rng.uniform(0.35, 0.65)
    for number, (shape, gap) in enumerate(zip(glyphs, gaps, strict=True)):
        if number:
            x += max(gap, -HIDDEN * min(shape.shape[1], glyphs[number - 1].shape[1]))
        left = max(0, round(x))
        top = round(base - shape.shape[0] / 2 + slope * left + rng.normal(0, 1))
        top = min(max(top, 0), height - shape.shape[0])
        spot = ink[top : top + shape.shape[0], left : left + shape.shape[1]]
        np.maximum(spot, shape[:, : spot.shape[1]], out=spot)
        x = left + shape.shape[1]
        if rng.random() < 0.15 / max(length, 1) * 2 and number < length - 1:
            mark(ink, x + 1, base + tall / 2 - 1, rng)
            x += rng.uniform(2, 5)
    right = min(width, round(x + rng.uniform(3, 20)))
    ink = ink[:, :right]
    if rng.random() < 0.1:
        flourish(ink, rng)
    return paper(ink, rng), "".join(str(labels[i]) for i in chosen)


def glyph(digit: np.ndarray, tall: float, slant: float, rng: np.random.Generator) -> np.ndarray:
    """One digit as ink 0..1: scaled to about `tall` rows, slanted, its strokes thicker or thinner."""
    shape = cut(digit).astype(np.float32) / 255
    rows = max(6, round(tall * rng.uniform(0.9, 1.1)))
    aspect = shape.shape[1] / shape.shape[0] * rng.uniform(0.85, 1.15)
    columns = max(2, round(rows * aspect))
    lean = abs(slant) * rows
    matrix = np.array(
        [
            [columns / shape.shape[1], -slant * rows / shape.shape[0], lean if slant > 0 else 0.0],
            [0, rows / shape.shape[0], 0],
        ],
        np.float32,
    )
    size = (int(columns + lean + 1), rows)
    shape = cv2.warpAffine(shape, matrix, size, flags=cv2.INTER_LINEAR)
    if rng.random() < 0.3:
        kernel = np.ones((2, 2), np.uint8)
        other = cv2.dilate(shape, kernel) if rng.random() < 0.5 else cv2.erode(shape, kernel)
        # a thin stroke must not vanish: what nobody can see is no label
        shape = other if other.sum() > KEPT * shape.sum() else shape
    used = np.flatnonzero(shape.max(0) > 0.15)
    return shape[:, used[0] : used[-1] + 1] if len(used) else shape


def mark(ink: np.ndarray, x: float, y: float, rng: np.random.Generator) -> None:
    """A dot or comma between digits, which the text does not have."""
    place = (round(x), round(y))
    if rng.random() < 0.5:
        cv2.circle(ink, place, 1, 1.0, -1, cv2.LINE_AA)
    else:
        cv2.line(ink, place, (place[0] - 2, place[1] + 4), 1.0, 2, cv2.LINE_AA)


def flourish(ink: np.ndarray, rng: np.random.Generator) -> None:
    """A dash or a # at an end, as on cheques."""
    h, w = ink.shape
    at_end = rng.random() < 0.5
    x = w - 8 if at_end else 4
    y = int(h * rng.uniform(0.4, 0.6))
    if rng.random() < 0.5:
        cv2.line(ink, (x - 4, y), (x + 6, y + int(rng.integers(-2, 3))), 0.9, 2, cv2.LINE_AA)
        return
    for step in (-2, 2):
        cv2.line(ink, (x + step - 1, y + 6), (x + step + 2, y - 6), 0.9, 1, cv2.LINE_AA)
        cv2.line(ink, (x - 5, y + step), (x + 5, y + step), 0.9, 1, cv2.LINE_AA)


def strings(
    images: np.ndarray,
    labels: np.ndarray,
    count: int,
    seed: int,
    longest: int = 10,
    shortest: int | None = None,
) -> list[tuple[np.ndarray, str]]:
    """`count` composed strings; with `shortest`, lengths are uniform from it to `longest`."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        if shortest is None:
            length = drawn_length(rng, longest)
        else:
            length = int(rng.integers(shortest, longest + 1))
        made.append(compose(images, labels, length, rng))
    return made
