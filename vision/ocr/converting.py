"""What needs no reading: `recurra ocr convert`, `segment`, `align` and `lm`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.ctc.char_lm import load_char_lm, save_char_lm, to_arpa, train_char_lm
from core.errors import ConfigError, DataError
from core.files import write_bytes, write_text
from core.jobs import Job, finish, gather, mirror, run
from vision.ocr.answer import Line, Page
from vision.ocr.codec import clean
from vision.ocr.decoding import Decoding
from vision.ocr.formats import READ, SUFFIXES, read_page_files, written
from vision.ocr.formats.pdf import to_pdf
from vision.ocr.formats.regions import page_regions
from vision.ocr.given import fitting
from vision.ocr.image import read_grey
from vision.ocr.page import find_page
from vision.ocr.predict import load_reader
from vision.ocr.reading import write_pages
from vision.ocr.sample import PICTURES
from vision.ocr.segmentation.finder import line_finder
from vision.ocr.segmentation.joining import joined
from vision.ocr.sources import pictures


def convert_all(inputs: Sequence[str], form: str, out: Path) -> None:
    """Write the pages of every file in a format; goes on after a file that cannot be read.

    Raises:
        ConfigError: no such format.
    """
    if form not in SUFFIXES:
        raise ConfigError(f"no format {form!r}; there are {', '.join(SUFFIXES)}.")

    def work(job: Job) -> None:
        assert job.target is not None
        pages = read_page_files(job.source.path)
        if form != "pdf":
            write_pages(job.target, pages, form)
            return
        image = job.source.path.parent / pages[0].image
        if not pages[0].image or not image.is_file():
            raise DataError(f"{job.source.path}: its image {pages[0].image or '(none)'} is not beside it.")
        seen = list(pictures(image))
        if len(seen) != len(pages):
            raise DataError(f"{image}: {len(seen)} pages, {job.source.path.name} has {len(pages)}.")
        for page, picture in zip(pages, seen, strict=True):
            fitting(page, picture.grey)
        write_bytes(job.target, to_pdf(pages, image, [picture.dpi for picture in seen]))

    found = gather(inputs, READ)
    finish(run(mirror(found, out, SUFFIXES[form]), work, "pages", again=True))


def segment_all(
    inputs: Sequence[str],
    form: str,
    out: Path,
    *,
    right_to_left: bool = False,
    weights: str | None = None,
    join: bool = False,
) -> None:
    """Find the lines of every page and write them.

    An ALTO or PAGE file as input keeps its regions: lines are found inside them, in the image beside it.

    Args:
        join: pieces of a row inside a region of such a file are one line, whatever gap lies between.

    Raises:
        ConfigError: a format that holds no lines; pieces are to be joined where there are no regions.
        WeightsError: the weights are no segmenter.
    """
    if form not in ("json", "alto", "page"):
        raise ConfigError(f"lines are written as json, alto or page, not as {form!r}.")
    found = gather(inputs, (*PICTURES, ".pdf"))
    if join and not all(source.path.suffix.lower() == ".xml" for source in found):
        raise ConfigError("--join is for the regions of ALTO or PAGE files; give those and no images.")
    finder = line_finder(weights)

    def work(job: Job) -> None:
        assert job.target is not None
        path = job.source.path
        if path.suffix.lower() == ".xml":
            write_text(job.target, written(in_regions(path, join=join), form))
            return
        pages = []
        for picture in pictures(path):
            page = finder(picture.grey, path.name, right_to_left=right_to_left)
            pages.append(replace(page, number=picture.number, dpi=picture.dpi))
        write_pages(job.target, pages, form)

    finish(run(mirror(found, out, SUFFIXES[form]), work, "pages", again=True))


def in_regions(path: Path, *, join: bool = False) -> Page:
    """The page of an XML with the lines that lie in its regions; a page without regions is one.

    Raises:
        DataError: its image is missing, or of another size.
    """
    page, regions = page_regions(path)
    image = path.parent / page.image
    if not image.is_file():
        raise DataError(f"{path}: its image {page.image or '(none)'} is not beside it.")
    grey = read_grey(image)
    fitting(page, grey)
    found = find_page(grey, page.image)
    if not regions:
        return found
    lines: list[Line] = []
    free = list(found.lines)
    for region in regions:
        outline = np.array(region, np.float32)
        own = [line for line in free if cv2.pointPolygonTest(outline, middle(line), False) >= 0]
        free = [line for line in free if line not in own]
        lines += joined(own) if join else own
    named = [replace(line, name=f"line_{number}") for number, line in enumerate(lines, 1)]
    return replace(found, lines=tuple(named))


def middle(line: Line) -> tuple[float, float]:
    """The middle of a line's outline."""
    x, y = np.mean(line.polygon, axis=0)
    return float(x), float(y)


def align(image: Any, text: str, weights: str | Path | None = None) -> Line:
    """The line of an image with the places of a known text's characters.

    Args:
        image: path, bytes, file object, PIL image or array.

    Raises:
        DataError: a character outside the alphabet, or a text longer than the line's frames.
    """
    reader = load_reader(weights, "lines", lm=False)
    line = reader.read([read_grey(image)], Decoding(choices=(clean(text),)))[0]
    if not line.chars:
        name = image if isinstance(image, (str, Path)) else "the image"
        raise DataError(f"{name}: the line has too few frames for {len(clean(text))} characters.")
    return line


def lines_of(files: Sequence[Path]) -> list[str]:
    """Lines of text files, cleaned; empty ones are left out.

    Raises:
        DataError: a file cannot be read, or there is no line.
    """
    found: list[str] = []
    for path in files:
        try:
            found += [clean(line) for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    kept = [line for line in found if line]
    if not kept:
        raise DataError("there is no line of text in these files.")
    return kept


def train_model(files: Sequence[Path], out: Path, order: int) -> str:
    """Train and write a character model; says what was written."""
    model = train_char_lm(lines_of(files), order)
    if out.suffix == ".arpa":
        write_text(out, to_arpa(model))
    else:
        save_char_lm(out, model)
    return f"{out}: order {order}, {sum(model.counts):,} n-grams"


def perplexity(model: Path, files: Sequence[Path]) -> float:
    """Per character, ends of lines counted."""
    return load_char_lm(model).perplexity(lines_of(files))
