"""What needs no reading: `recurra ocr convert`, `segment`, `align` and `lm`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.ctc.char_lm import load_char_lm, save_char_lm, to_arpa, train_char_lm
from core.errors import ConfigError, DataError, RecurraError
from core.files import write_bytes, write_text
from core.jobs import Input, Job, finish, gather, mirror, run
from core.terminal import device as device_of
from vision.ocr.answer import Line, Page
from vision.ocr.codec import clean
from vision.ocr.data import read_samples
from vision.ocr.decoding import Decoding
from vision.ocr.formats import READ, SUFFIXES, read_page_files
from vision.ocr.formats.pdf import to_pdf
from vision.ocr.formats.regions import page_regions
from vision.ocr.given import fitting
from vision.ocr.image import read_grey
from vision.ocr.inputs import gather_pictures, write_report
from vision.ocr.reader import Reader, load_reader
from vision.ocr.readers import image_of
from vision.ocr.reading import write_pages
from vision.ocr.sample import Sample
from vision.ocr.segmentation.finder import Finder, line_finder
from vision.ocr.segmentation.joining import joined
from vision.ocr.sources import pictures
from vision.ocr.spread import spread

Pages = list[Page]


def convert_all(
    inputs: Sequence[str],
    form: str,
    out: Path,
    *,
    jobs: int = 1,
    quiet: bool = False,
    report: str | None = None,
) -> None:
    """Write the pages of every file in a format; goes on after a file that cannot be read.

    Args:
        jobs: files at a time, each by a process.
        report: file for what became of every input, as JSON; - is stdout.

    Raises:
        ConfigError: no such format.
    """
    if form not in SUFFIXES:
        raise ConfigError(f"no format {form!r}; there are {', '.join(SUFFIXES)}.")
    every(gather(inputs, READ), converter, (form,), form, out, jobs, quiet, report)


def converter(form: str) -> Callable[[Path], tuple[Pages, bytes | None]]:
    """Path -> its pages, and the PDF of their image where that is the format."""

    def convert(path: Path) -> tuple[Pages, bytes | None]:
        pages = read_page_files(path)
        if form != "pdf":
            return pages, None
        image = image_of(path, pages[0].image)
        seen = list(pictures(image))
        if len(seen) != len(pages):
            raise DataError(f"{image}: {len(seen)} pages, {path.name} has {len(pages)}.")
        for page, picture in zip(pages, seen, strict=True):
            fitting(page, picture.grey)
        return pages, to_pdf(pages, image, [picture.dpi for picture in seen])

    return convert


def segment_all(
    inputs: Sequence[str],
    form: str,
    out: Path,
    *,
    right_to_left: bool = False,
    weights: str | None = None,
    join: bool = False,
    device: str | None = None,
    jobs: int = 1,
    quiet: bool = False,
    report: str | None = None,
) -> None:
    """Find the lines of every page and write them.

    An ALTO or PAGE file as input keeps its regions: lines are found inside them, in the image beside it.

    Args:
        join: pieces of a row inside a region of such a file are one line, whatever gap lies between.
        device: where the network of a segmenter runs.
        jobs: pages at a time, each by a process.
        report: file for what became of every input, as JSON; - is stdout.

    Raises:
        ConfigError: a format that holds no lines; pieces are to be joined where there are no regions.
        WeightsError: the weights are no segmenter.
    """
    if form not in ("json", "alto", "page"):
        raise ConfigError(f"lines are written as json, alto or page, not as {form!r}.")
    found = gather_pictures(inputs)
    if join and not all(source.path.suffix.lower() == ".xml" for source in found):
        raise ConfigError("--join is for the regions of ALTO or PAGE files; give those and no images.")
    about = (weights, right_to_left, join, device)
    every(found, segmenter, about, form, out, jobs, quiet, report)


def segmenter(
    weights: str | None, right_to_left: bool, join: bool, device: str | None
) -> Callable[[Path], tuple[Pages, None]]:
    """Path -> its pages with the lines that were found."""
    finder = line_finder(weights, device_of(device))

    def find(path: Path) -> tuple[Pages, None]:
        if path.suffix.lower() == ".xml":
            return [in_regions(path, finder, join=join)], None
        pages = []
        for picture in pictures(path):
            page = finder(picture.grey, path.name, right_to_left=right_to_left)
            pages.append(replace(page, number=picture.number, dpi=picture.dpi))
        return pages, None

    return find


def every(
    found: Sequence[Input],
    make: Callable[..., Callable[[Path], tuple[Pages, bytes | None]]],
    about: tuple[Any, ...],
    form: str,
    out: Path,
    jobs: int,
    quiet: bool,
    report: str | None,
) -> None:
    """Work on every input, write its pages, and say what failed."""
    todo = mirror(found, out, SUFFIXES[form])
    with spread(make, about, [job.source.path for job in todo], jobs) as work:

        def write(job: Job) -> Pages:
            assert job.target is not None
            pages, whole = work(job.source.path)
            if whole is not None:
                write_bytes(job.target, whole)
            else:
                write_pages(job.target, pages, form)
            return pages

        done = run(todo, write, "pages", again=True, quiet=quiet)
    write_report(done, report)
    finish(done)


def in_regions(path: Path, finder: Finder, *, join: bool = False) -> Page:
    """The page of an XML with the lines that lie in its regions; a page without regions is one.

    Raises:
        DataError: its image is missing, or of another size.
    """
    page, regions = page_regions(path)
    grey = read_grey(image_of(path, page.image))
    fitting(page, grey)
    found = finder(grey, page.image)
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


def align(image: Any, text: str, weights: str | Path | None = None, *, device: Any = "cpu") -> Line:
    """The line of an image with the places of a known text's characters.

    Args:
        image: path, bytes, file object, PIL image or array.

    Raises:
        DataError: a character outside the alphabet, or a text longer than the line's frames.
    """
    name = image if isinstance(image, (str, Path)) else "the image"
    return laid_out(load_reader(weights, "lines", lm=False, device=device), read_grey(image), text, str(name))


def laid_out(reader: Reader, grey: np.ndarray, text: str, name: str) -> Line:
    """A known text along a line."""
    line = reader.read([grey], Decoding(choices=(clean(text),)))[0]
    if not line.chars:
        raise DataError(f"{name}: the line has too few frames for {len(clean(text))} characters.")
    return line


def align_all(
    source: str, weights: str | None = None, *, device: str | None = None, jobs: int = 1
) -> tuple[list[dict[str, Any]], int]:
    """Every line of an index, of pairs or of pages along its text; what failed says so. And how many did.

    Raises:
        DataError: nothing there.
    """
    samples = list(dict.fromkeys(read_samples([source])))
    with spread(aligner, (weights, device), samples, jobs) as work:
        items = [work(sample) for sample in samples]
    return items, sum("error" in item for item in items)


def aligner(weights: str | None, device: str | None) -> Callable[[Sample], dict[str, Any]]:
    """Line with its text -> where its characters stand, or what is wrong with it."""
    reader = load_reader(weights, "lines", lm=False, device=device_of(device))

    def one(sample: Sample) -> dict[str, Any]:
        try:
            line = laid_out(reader, sample.grey(), sample.text, str(sample.image))
        except RecurraError as error:
            return {"image": sample.name, "error": str(error)}
        return {"image": sample.name, **line.as_dict()}

    return one


def placed(item: dict[str, Any]) -> list[str]:
    """Rows for people: where each character stands, how sure, which."""
    if "error" in item:
        return [f"  {item['error']}"]
    return [f"{c['x0_px']:7.1f} {c['x1_px']:7.1f}  {c['confidence']:.2f}  {c['c']}" for c in item["chars"]]


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


def train_model(files: Sequence[Path], out: Path, order: int) -> int:
    """Train and write a character model; gives how many n-grams it has."""
    model = train_char_lm(lines_of(files), order)
    if out.suffix == ".arpa":
        write_text(out, to_arpa(model))
    else:
        save_char_lm(out, model)
    return int(sum(model.counts))


def perplexity(model: Path, files: Sequence[Path]) -> float:
    """Per character, ends of lines counted."""
    return load_char_lm(model).perplexity(lines_of(files))
