"""Figures of weights on labelled lines, digit strings and pages; one path with what `read` does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import RecurraError
from vision.ocr.answer import Line, Page
from vision.ocr.codec import clean
from vision.ocr.data import read_samples
from vision.ocr.decoding import Decoding
from vision.ocr.foreign import KrakenReader, is_kraken, kraken_reader
from vision.ocr.formats import read_page_file
from vision.ocr.image import read_grey
from vision.ocr.metrics import calibration_figures, page_figures, text_figures
from vision.ocr.predict import read_found, read_page
from vision.ocr.reader import Reader, load_reader
from vision.ocr.readers import image_of
from vision.ocr.sample import Sample
from vision.ocr.segmentation.finder import line_finder
from vision.ocr.spread import spread

PROTOCOL = (
    "Every row is scored. CER and WER are micro averages on NFC text with single spaces, words are "
    "what spaces separate; string_accuracy is the share of texts read exactly; ece over ten bins of "
    "the confidence of characters, ece_lines of whole lines; an unreadable image counts as an empty "
    "answer. Intervals: 95 %, drawn over documents."
)
PAGE_PROTOCOL = (
    "Lines are the axis-aligned boxes of non-empty TextLines, matched one to one at intersection over union "
    "0.5; recall and precision are micro over all pages; CER over matched lines, unmatched true lines count "
    "as deleted, and so do all lines of a page whose image cannot be read."
)


def evaluate(
    task: str,
    index: str | Path,
    weights: str | Path | None = None,
    *,
    split: str | None = None,
    decoding: Decoding | None = None,
    device: Any = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Report on an index: n, model, baselines, groups by corpus, items in the order of the rows, protocol.

    Args:
        seed: of the drawing of documents for the intervals.

    Raises:
        DataError: the index cannot be read.
        WeightsError: the weights are of another task.
    """
    samples = read_samples([index], split)
    reader = any_reader(weights, task, device)
    chosen = reader.decoding if decoding is None else decoding
    known = chosen.lm or reader.decoding.lm
    models = {"without lm": None} if known is None else {"without lm": None, "with lm": known}
    others = {
        name: replace(chosen, lm=lm, alternatives=1) for name, lm in models.items() if lm is not chosen.lm
    }
    (lines, *rest, greedy), errors = answers(reader, samples, chosen, *others.values())
    readings = {"greedy": greedy} | dict.fromkeys(models, lines) | dict(zip(others, rest, strict=True))
    truths = [sample.text for sample in samples]
    corpora = [sample.corpus for sample in samples]
    report = figures(samples, truths, lines, readings, range(len(samples)), seed)
    groups = {}
    for corpus in dict.fromkeys(corpora):
        rows = [i for i, name in enumerate(corpora) if name == corpus]
        if corpus:
            groups[corpus] = figures(samples, truths, lines, readings, rows, seed)
    items = []
    for sample, line, error in zip(samples, lines, errors, strict=True):
        item = {"image": sample.name, "text": line.text, "confidence": line.confidence, "truth": sample.text}
        items.append(item | ({"error": error} if error else {}))
    return {**report, "groups": groups, "items": items, "protocol": PROTOCOL}


def any_reader(weights: str | Path | None, task: str, device: Any) -> Reader | KrakenReader:
    """Our reader, or that of a kraken file."""
    if weights is not None and is_kraken(Path(weights)):
        return kraken_reader(weights)[0]
    return load_reader(weights, task, device=device)


def figures(
    samples: Sequence[Sample],
    truths: Sequence[str],
    lines: Sequence[Line],
    readings: dict[str, list[Line]],
    rows: Sequence[int],
    seed: int,
) -> dict[str, Any]:
    """n, model and baselines of some rows."""
    true = [truths[i] for i in rows]
    owners = [samples[i].document or samples[i].name for i in rows]
    own = [lines[i] for i in rows]
    model = text_figures(true, [line.text for line in own], owners, seed) | calibration_figures(true, own)
    baselines = {
        name: text_figures(true, [read[i].text for i in rows], owners, seed)
        for name, read in readings.items()
    }
    return {"n": len(rows), "model": model, "baselines": baselines}


def answers(
    reader: Reader | KrakenReader, samples: Sequence[Sample], *decodings: Decoding
) -> tuple[list[list[Line]], list[str]]:
    """The lines as every decoding gives them, last greedily, and what was wrong with an image."""
    greys: list[np.ndarray] = []
    errors: list[str] = []
    for sample in samples:
        try:
            greys.append(sample.grey())
            errors.append("")
        except RecurraError as error:
            greys.append(np.full((16, 16), 255, np.uint8))
            errors.append(str(error))
    blank = Line("", 0.0)
    read = [
        [blank if error else line for line, error in zip(lines, errors, strict=True)]
        for lines in reader.read_each(greys, *decodings)
    ]
    return read, errors


def evaluate_pages(
    files: Sequence[str | Path],
    weights: str | Path | None = None,
    *,
    segmenter: str | Path | None = None,
    device: Any = "cpu",
    jobs: int = 1,
) -> dict[str, Any]:
    """Report on pages with ALTO or PAGE truth: recall and precision of lines, CER, items page by page.

    Args:
        segmenter: weights that find the lines, as in `read_page`.
        jobs: pages at a time, each by a process.
    """
    paths = list(dict.fromkeys(Path(file) for file in files))
    with spread(page_counter, (weights, segmenter, device), paths, jobs) as count:
        items = [count(path) for path in paths]
    names = ("lines", "found", "matched", "characters", "errors", "errors_on_given_lines")
    totals = {name: sum(item.get(name, 0) for item in items) for name in names}
    given = share(totals["errors_on_given_lines"], totals["characters"])
    return {
        "n": totals["lines"],
        "model": {
            "line_recall": share(totals["matched"], totals["lines"]),
            "line_precision": share(totals["matched"], totals["found"]),
            "cer": share(totals["errors"], totals["characters"]),
        },
        "baselines": {"given lines": {"cer": given}},
        "items": items,
        "protocol": PAGE_PROTOCOL,
    }


def page_counter(
    weights: str | Path | None, segmenter: str | Path | None, device: Any
) -> Callable[[Path], dict[str, Any]]:
    """File with the truth of a page -> its counts, or what is wrong with it."""
    reader = any_reader(weights, "lines", device)
    finder = line_finder(segmenter, device)

    def count(file: Path) -> dict[str, Any]:
        item: dict[str, Any] = {"page": str(file)}
        try:
            truth = read_page_file(file)
            truth = replace(truth, lines=tuple(replace(line, text=clean(line.text)) for line in truth.lines))
            item |= page_figures(truth.lines, ())  # of a page that cannot be read every line is lost
            item["errors_on_given_lines"] = item["errors"]
            image = image_of(file, truth.image)
            read = read_found(read_grey(image), image.name, reader, None, finder)
            item |= page_figures(truth.lines, read.lines)
            item["errors_on_given_lines"] = given_errors(truth, image, reader)
        except RecurraError as error:
            item["error"] = str(error)
        return item

    return count


def given_errors(truth: Page, image: Path, reader: Reader | KrakenReader) -> int:
    """Character errors where the true lines are read as they are drawn."""
    from core.metrics.edit_distance import edit_distance

    kept = replace(truth, lines=tuple(line for line in truth.lines if line.text))
    read = read_page(image, given=kept, reader=reader)
    return sum(edit_distance(a.text, b.text) for a, b in zip(kept.lines, read.lines, strict=True))


def share(part: int, whole: int) -> float | None:
    """part / whole, None where there is nothing."""
    return part / whole if whole else None
