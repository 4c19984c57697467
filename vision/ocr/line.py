"""A grey line -> what the networks see: ink high on 0, one height, width a multiple of the stride.

The steps are a property of the weights (`LineSettings` travels in their card), so training, `evaluate` and
`read` cannot differ.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.errors import ConfigError

GRAIN = 16
"""Widths are rounded up to a multiple of this with paper, so that most lines of a batch are equally wide."""
WIDEST = 4096
"""Longer lines are cut at their blank columns and joined again as text."""


@dataclass(frozen=True)
class LineSettings:
    """How a line becomes an array. `low` and `high` are percentiles of grey that become ink 1 and paper 0."""

    height: int = 64
    low: float = 1.0
    high: float = 85.0
    margin: int = 8  # columns of paper left and right
    method: Literal["stretched", "plain", "squeezed", "fixed"] = (
        "stretched"  # the others are of imported weights
    )
    width: int | None = None  # of "squeezed" and "fixed"; None: as wide as the line is

    def __post_init__(self) -> None:
        if not 16 <= self.height <= 256:
            raise ConfigError(f"line.height must be in 16..256, got {self.height}.")
        if not 0 <= self.low < self.high <= 100:
            raise ConfigError(f"line.low and line.high are percentiles; got {self.low} and {self.high}.")
        if self.method not in ("stretched", "plain", "squeezed", "fixed"):
            raise ConfigError(f"no line.method {self.method!r}; there are stretched, plain, squeezed, fixed.")
        if (self.width is None) == (self.method in ("squeezed", "fixed")):
            raise ConfigError(f"line.width belongs to squeezed and fixed lines; method is {self.method}.")


def percentiles(counts: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    """What `np.percentile` says of whole numbers that are counted (256,), without sorting them."""
    places = np.asarray(shares) / 100 * (counts.sum() - 1)
    least = np.floor(places)
    sums = counts.cumsum()
    low, high = (np.searchsorted(sums, place, side="right") for place in (least, np.ceil(places)))
    part, step = places - least, high - low
    found = np.where(part < 0.5, low + step * part, high - step * (1 - part))  # as numpy rounds it
    return found.tolist()


def counted(grey: np.ndarray) -> np.ndarray:
    """How often each grey (256,) is there."""
    return np.bincount(grey.ravel(), minlength=256)


def ink_is_bright(grey: np.ndarray) -> bool:
    """Whether a line is light ink on dark paper: its border is darker than its extreme ink would allow."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    (paper,) = percentiles(counted(border), (50,))
    dark, middle, bright = percentiles(counted(grey), (1, 50, 99))
    # ink covers a small part: the paper is near the median, the ink is the far end
    level = (paper + middle) / 2
    return bool(level < 100 and bright - level > 2 * (level - dark))


def positive(grey: np.ndarray) -> np.ndarray:
    """A page (H, W) with dark ink: that of a negative is turned over, judged without the page's edges."""
    H, W = grey.shape
    inside = grey[H // 8 : H - H // 8, W // 8 : W - W // 8]
    return 255 - grey if inside.size and ink_is_bright(inside) else grey


def prepare(grey: np.ndarray, settings: LineSettings) -> np.ndarray:
    """Grey line (h, w) of uint8 -> ink (height, W) of uint8, 255 = ink, W a multiple of `GRAIN`."""
    import cv2

    if ink_is_bright(grey):
        grey = 255 - grey
    if settings.method != "stretched":
        return prepared_elsewhere(grey, settings)
    height = settings.height
    width = max(1, round(grey.shape[1] * height / grey.shape[0]))
    shrink = grey.shape[0] > height
    grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    dark, paper = percentiles(counted(grey), (settings.low, settings.high))
    span = max(paper - dark, 12.0)  # a blank line has no contrast to stretch
    levels = np.arange(256, dtype=np.float32)
    levels = ((paper - levels) * (255.0 / span)).clip(0, 255).round().astype(np.uint8)
    whole = -(-(width + 2 * settings.margin) // GRAIN) * GRAIN
    out = np.zeros((height, whole), np.uint8)
    out[:, settings.margin : settings.margin + width] = cv2.LUT(grey, levels)
    return out


def prepared_elsewhere(grey: np.ndarray, settings: LineSettings) -> np.ndarray:
    """A line as published networks see it, without contrast stretching.

    plain (PyLaia): scaled to the height. fixed (scene text): to height and width, bicubic. squeezed
    (HTR-best-practices): shrunk into height and width less the margins, edges padded by medians.
    """
    from PIL import Image

    height, margin = settings.height, settings.margin
    ink = 255 - grey
    if settings.method == "plain":
        width = max(16, round(grey.shape[1] * height / grey.shape[0]))
        return np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR))
    assert settings.width is not None
    if settings.method == "fixed":
        return np.asarray(Image.fromarray(ink).resize((settings.width, height), Image.Resampling.BICUBIC))
    import torch

    from vision.ocr.models.htr import squeezed

    found = squeezed(torch.from_numpy(ink.copy()).float(), (height, settings.width), margin)
    return found.numpy().clip(0, 255).round().astype(np.uint8)


def pieces(ink: np.ndarray, widest: int = WIDEST) -> list[np.ndarray]:
    """A prepared line cut at blank columns into pieces of at most `widest` columns."""
    parts = []
    while ink.shape[1] > widest:
        columns = ink[:, widest // 2 : widest].astype(np.int64).sum(0)
        smooth = np.convolve(columns, np.ones(GRAIN), "same")
        best = len(smooth) - 1 - int(smooth[::-1].argmin())
        cut = (widest // 2 + best) // GRAIN * GRAIN
        parts.append(ink[:, :cut])
        ink = ink[:, cut:]
    return [*parts, ink]


def batch(lines: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """Lines of one height in one array (B, H, W) filled with paper, and their widths."""
    widths = [line.shape[1] for line in lines]
    out = np.zeros((len(lines), lines[0].shape[0], max(widths)), np.uint8)
    for row, line in zip(out, lines, strict=True):
        row[:, : line.shape[1]] = line
    return out, widths
