"""What finds the lines of a page: our own steps, a segmenter of kraken, or one that was trained here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import WeightsError
from vision.ocr.answer import Page
from vision.ocr.image import read_grey
from vision.ocr.line import positive
from vision.ocr.page import find_page
from vision.ocr.segmentation.baselines import lines_from_map
from vision.ocr.segmentation.order import reading_order

Finder = Callable[..., Page]
HIGHEST = 1800
"""Rows of a page for segmenters that take any."""


def segment(image: Any, weights: str | Path | None = None, *, right_to_left: bool = False) -> Page:
    """The lines of a page in reading order, without text: polygon and baseline of each.

    Args:
        image: path, bytes, file object, PIL image or array.
        weights: a segmenter, kraken's or one of `train segment`; None finds lines without a model.

    Raises:
        DataError: not an image.
        WeightsError: missing, damaged, or no segmenter.
    """
    name = Path(image).name if isinstance(image, (str, Path)) else "image"
    return line_finder(weights)(read_grey(image), name, right_to_left=right_to_left)


def line_finder(weights: str | Path | None = None, device: Any = "cpu") -> Finder:
    """`find(grey, name, right_to_left=...) -> Page` without weights, or with those of a segmenter.

    Raises:
        WeightsError: missing, damaged, or no segmenter.
    """
    if weights is None:
        return find_page
    from vision.ocr.foreign import is_kraken

    heat = (kraken_heat if is_kraken(Path(weights)) else own_heat)(Path(weights), device)

    def find(grey: np.ndarray, name: str = "image", *, right_to_left: bool = False) -> Page:
        grey = positive(grey)
        lines = lines_from_map(heat(grey), grey) if min(grey.shape) >= 8 else []
        lines = reading_order(lines, right_to_left=right_to_left)
        named = [replace(line, name=f"line_{number}") for number, line in enumerate(lines, 1)]
        return Page(name, grey.shape[1], grey.shape[0], tuple(named))

    return find


def kraken_heat(path: Path, device: Any = "cpu") -> Callable[[np.ndarray], np.ndarray]:
    """Page -> probability of a baseline (h, w), by the first segmenter of a kraken file."""
    from vision.ocr.layouts.kraken import load_kraken
    from vision.ocr.layouts.kraken_line import prepared

    models, _ = load_kraken(path)
    model = next((model for model in models if "segmentation" in model.tasks), None)
    if model is None:
        raise WeightsError(f"{path}: holds no segmenter.")
    classes = (model.about.get("class_mapping") or {}).get("baselines", {})
    chosen = sorted({int(i) for i in classes.values()}) or [model.network.outputs - 1]
    batch, height, width, channels = model.network.input
    network = model.network.to(device)

    @torch.no_grad()
    def heat(grey: np.ndarray) -> np.ndarray:
        page = prepared(grey, (batch, height or min(len(grey), HIGHEST), width, channels), 0)
        found, _ = network(page[None].to(device))
        return found[0, chosen].sigmoid().amax(0).cpu().numpy()

    return heat


def own_heat(weights: str | Path, device: Any = "cpu") -> Callable[[np.ndarray], np.ndarray]:
    """Page -> probability of a baseline (h, w), by weights of `train segment`."""
    from core.weights import load_network
    from vision.ocr.models.marks import build_from, seen

    network = load_network(weights, ["ocr segment"], build_from, device=torch.device(device)).network

    @torch.no_grad()
    def heat(grey: np.ndarray) -> np.ndarray:
        return network(seen(grey)[None, None].to(device))[0, 0].sigmoid().cpu().numpy()

    return heat
