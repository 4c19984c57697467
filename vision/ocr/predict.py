"""The few functions that people and pages call: read a line, many lines, a page."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ConfigError
from vision.ocr.answer import Line, Page
from vision.ocr.decoding import Decoding
from vision.ocr.given import fitting
from vision.ocr.image import read_grey
from vision.ocr.line import positive
from vision.ocr.page import find_page
from vision.ocr.reader import Reader, load_reader
from vision.ocr.segmentation.finder import Finder, line_finder

if TYPE_CHECKING:
    from vision.ocr.foreign import KrakenReader


def read_line(image: Any, weights: str | Path | None = None, **options: Any) -> Line:
    """Text of one line: a path, bytes, file object, PIL image or array.

    Raises:
        DataError: not an image.
    """
    return read_lines([image], weights, **options)[0]


def read_lines(
    images: Iterable[Any],
    weights: str | Path | None = None,
    *,
    task: str | None = None,
    decoding: Decoding | None = None,
    device: Any = "cpu",
) -> list[Line]:
    """Texts of line images (or digit strings with task="digits"), in their order.

    Raises:
        DataError: one is not an image.
        WeightsError: the weights are of another task.
    """
    return load_reader(weights, task, device=device).read([read_grey(image) for image in images], decoding)


def read_page(
    image: Any,
    weights: str | Path | None = None,
    *,
    given: Page | None = None,
    decoding: Decoding | None = None,
    reader: "Reader | KrakenReader | None" = None,
    segmenter: str | Path | None = None,
    right_to_left: bool = False,
    rotate: int | None = None,
    device: Any = "cpu",
) -> Page:
    """Lines of a page found (or taken from `given`) and read, in reading order.

    Args:
        segmenter: weights that find the lines, kraken's or those of `train segment`; None needs no model.
        rotate: degrees by which the page is turned clockwise to be read; None finds it where the page is
            read with doubt. Coordinates stay those of the image as it came.

    Raises:
        DataError: not an image, or one that does not fit the given lines.
        ConfigError: `rotate` is no quarter of a turn.
    """
    grey = read_grey(image)
    name = Path(image).name if isinstance(image, (str, Path)) else "image"
    reader = load_reader(weights, "lines", device=device) if reader is None else reader
    if given is not None:
        page = replace(fitting(given, grey), image=name)
        return read_lines_of(page, grey, reader, decoding)
    finder = line_finder(segmenter, device)
    return read_found(grey, name, reader, decoding, finder, right_to_left=right_to_left, rotate=rotate)


def read_document(
    source: Any,
    weights: str | Path | None = None,
    *,
    decoding: Decoding | None = None,
    segmenter: str | Path | None = None,
    right_to_left: bool = False,
    rotate: int | None = None,
    device: Any = "cpu",
) -> list[Page]:
    """Every page of a PDF or TIFF (an image is one page), found and read; errors as in `read_page`."""
    from vision.ocr.sources import pictures

    reader = load_reader(weights, "lines", device=device)
    finder = line_finder(segmenter, device)
    name = Path(source).name if isinstance(source, (str, Path)) else "document"
    how: dict[str, Any] = {"right_to_left": right_to_left, "rotate": rotate}
    return [
        replace(
            read_found(part.grey, name, reader, decoding, finder, **how), number=part.number, dpi=part.dpi
        )
        for part in pictures(source)
    ]


def read_found(
    grey: np.ndarray,
    name: str,
    reader: "Reader | KrakenReader",
    decoding: Decoding | None = None,
    finder: Finder = find_page,
    *,
    right_to_left: bool = False,
    rotate: int | None = None,
) -> Page:
    """Lines of a grey page found and read, the page turned as `rotate` says or as the reader finds."""
    from vision.ocr.upright import DOUBTFUL, as_delivered, rotation_of, sureness, turned

    if rotate not in (None, 0, 90, 180, 270):
        raise ConfigError(f"a page is turned by 0, 90, 180 or 270 degrees, not by {rotate}.")
    grey, rotation = positive(grey), rotate or 0
    upright = turned(grey, rotation)
    found = finder(upright, name, right_to_left=right_to_left)
    page = read_lines_of(found, upright, reader, decoding)
    if rotate is None and page.lines and sureness(page.lines) < DOUBTFUL:
        rotation = rotation_of(grey, reader, found)
        if rotation:
            upright = turned(grey, rotation)
            found = finder(upright, name, right_to_left=right_to_left)
            page = read_lines_of(found, upright, reader, decoding)
            page = replace(page, remarks=(*page.remarks, f"turned by {rotation} degrees to be read."))
    return as_delivered(page, rotation)


def read_lines_of(
    page: Page, grey: np.ndarray, reader: "Reader | KrakenReader", decoding: Decoding | None
) -> Page:
    """The lines of a page with their text."""
    from vision.ocr.crop import cut_line

    grey = positive(grey)
    read = reader.read([cut_line(grey, line) for line in page.lines], decoding)
    lines = [
        replace(
            told,
            polygon=line.polygon,
            baseline=line.baseline,
            name=line.name,
            table=line.table,
            row=line.row,
            column=line.column,
        )
        for told, line in zip(read, page.lines, strict=True)
    ]
    return replace(page, lines=tuple(lines))
