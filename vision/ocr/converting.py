"""What needs no reading: `recurra ocr convert`, `segment`, `align` and `lm`."""

from collections.abc import Sequence
from pathlib import Path

from core.ctc.char_lm import load_char_lm, save_char_lm, to_arpa, train_char_lm
from core.errors import ConfigError, DataError
from core.files import write_text
from core.jobs import Job, finish, gather, mirror, run
from vision.ocr.answer import Line
from vision.ocr.codec import clean
from vision.ocr.data import PICTURES
from vision.ocr.decode import Decoding
from vision.ocr.formats import SUFFIXES, read_page_file, written
from vision.ocr.image import read_grey
from vision.ocr.page import find_page
from vision.ocr.predict import load_reader


def convert_all(inputs: Sequence[str], form: str, out: Path) -> None:
    """Write every page in a format; goes on after a file that cannot be read.

    Raises:
        ConfigError: no such format.
    """
    if form not in SUFFIXES:
        raise ConfigError(f"no format {form!r}; there are {', '.join(SUFFIXES)}.")

    def work(job: Job) -> None:
        assert job.target is not None
        write_text(job.target, written(read_page_file(job.source.path), form))

    found = gather(inputs, (".xml", ".json"))
    finish(run(mirror(found, out, SUFFIXES[form]), work, "pages", again=True))


def segment_all(inputs: Sequence[str], form: str, out: Path, *, right_to_left: bool = False) -> None:
    """Find the lines of every page and write them.

    Raises:
        ConfigError: a format that holds no lines.
    """
    if form not in ("json", "alto", "page"):
        raise ConfigError(f"lines are written as json, alto or page, not as {form!r}.")

    def work(job: Job) -> None:
        assert job.target is not None
        path = job.source.path
        page = find_page(read_grey(path), path.name, right_to_left=right_to_left)
        write_text(job.target, written(page, form))

    found = gather(inputs, PICTURES)
    finish(run(mirror(found, out, SUFFIXES[form]), work, "pages", again=True))


def aligned(image: Path, text: str, weights: str | None = None) -> Line:
    """The line with the places of a known text's characters.

    Raises:
        DataError: a character outside the alphabet, or a text longer than the line's frames.
    """
    reader = load_reader(weights, "lines", lm=False)
    line = reader.read([read_grey(image)], Decoding(choices=(clean(text),)))[0]
    if not line.chars:
        raise DataError(f"{image}: the line has too few frames for {len(clean(text))} characters.")
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
