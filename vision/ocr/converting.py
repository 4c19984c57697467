"""`recurra ocr convert` and `recurra ocr lm`: files into other files without a network."""

from collections.abc import Sequence
from pathlib import Path

from core.ctc.char_lm import load_char_lm, save_char_lm, to_arpa, train_char_lm
from core.errors import ConfigError, DataError
from core.files import write_text
from core.jobs import Job, finish, gather, mirror, run
from vision.ocr.codec import clean
from vision.ocr.formats import SUFFIXES, read_page_file, written


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
