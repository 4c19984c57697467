"""`recurra ocr read`: many images through one reader to text or files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.files import write_bytes, write_text
from core.jobs import Job, finish, mirror, run
from core.terminal import device, put, say, say_all, set_threads
from core.text import in_json
from vision.ocr.answer import Line, Page
from vision.ocr.decoding import Decoding
from vision.ocr.foreign import KrakenReader, is_kraken, kraken_reader
from vision.ocr.formats import SUFFIXES, read_page_file, written
from vision.ocr.formats.pdf import to_pdf
from vision.ocr.given import fitting
from vision.ocr.inputs import gather_pictures, write_report
from vision.ocr.predict import read_found, read_lines_of
from vision.ocr.reader import Reader, load_reader
from vision.ocr.segmentation.finder import Finder, line_finder
from vision.ocr.sources import pictures
from vision.ocr.spread import spread
from vision.ocr.upright import sureness

AnyReader = Reader | KrakenReader
UNSURE = 5
"""Lines that deserve a look, shown at the end."""


@dataclass(frozen=True)
class Request:
    """The words of one command."""

    task: str = "lines"
    form: str = "text"
    weights: str | None = None
    lm: str | None = None
    lm_weight: float | None = None
    beam: int | None = None
    allow: str | None = None
    deny: str | None = None
    regex: str | None = None
    digits: int | None = None
    choices: Path | None = None
    lexicon: Path | None = None
    words: str = "words"
    word_text: Path | None = None
    word_weight: float = 1.0
    unknown_word: float | None = None
    alternatives: int = 0
    segmenter: str | None = None
    right_to_left: bool = False
    rotate: str = "auto"
    device: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.task not in ("lines", "digits", "page"):
            raise ConfigError(f"no task {self.task!r}; there are lines, digits, page.")
        if self.form not in (*SUFFIXES, "jsonl"):
            raise ConfigError(f"no format {self.form!r}; there are {', '.join(SUFFIXES)}, jsonl.")

        if self.segmenter is not None and self.task != "page":
            raise ConfigError(f"--segmenter finds lines of pages; --task is {self.task}.")
        if self.rotate not in ("auto", "0", "90", "180", "270"):
            raise ConfigError(f"--rotate is auto, 0, 90, 180 or 270, got {self.rotate!r}.")

    @property
    def rotation(self) -> int | None:
        """Degrees clockwise; None is found."""
        return None if self.rotate == "auto" else int(self.rotate)

    def reader(self) -> AnyReader:
        """The reader with the decoding that was asked for."""
        if self.weights is not None and is_kraken(Path(self.weights)):
            found, remarks = kraken_reader(self.weights)
            say_all(remarks)
            wanted = self.lm not in (None, "none") or self.allow or self.deny or self.regex
            if wanted or self.digits is not None or self.choices or self.lexicon:
                raise ConfigError("a kraken model is read by its best labels; leave rules and --lm out.")
            return found
        task = "digits" if self.task == "digits" else "lines"
        lm: bool | str = True if self.lm is None else False if self.lm == "none" else self.lm
        reader = load_reader(self.weights, task, device=device(self.device), lm=lm)
        ruled = self.regex is not None or self.digits is not None or self.choices or self.lexicon
        decoding: Decoding = replace(
            reader.decoding,
            lm=None if ruled else reader.decoding.lm,
            lm_weight=reader.decoding.lm_weight if self.lm_weight is None else self.lm_weight,
            beam=reader.decoding.beam if self.beam is None else self.beam,
            allow=self.allow,
            deny=self.deny,
            regex=self.regex,
            digits=self.digits,
            choices=listed(self.choices),
            lexicon=listed(self.lexicon),
            words=self.words,  # pyright: ignore[reportArgumentType]  # checked by Decoding
            word_texts=listed(self.word_text),
            word_weight=self.word_weight,
            unknown_word=self.unknown_word,
            alternatives=self.alternatives + 1 if self.alternatives else 0,
        )
        return replace(reader, decoding=decoding)


def listed(path: Path | None) -> tuple[str, ...]:
    """Lines of a file that are not empty.

    Raises:
        DataError: the file cannot be read, or holds nothing.
    """
    if path is None:
        return ()
    try:
        found = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    kept = tuple(dict.fromkeys(line for line in found if line))
    if not kept:
        raise DataError(f"{path}: the list is empty.")
    return kept


def read_all(
    inputs: Sequence[str],
    out: Path | None,
    request: Request,
    *,
    resume: bool = False,
    quiet: bool = False,
    jobs: int = 1,
    report: str | None = None,
) -> None:
    """Read every input; print, or write one file each (jsonl: one file for all).

    A page with ALTO, PAGE or JSON of the same name beside its image keeps the lines that are drawn there.

    Args:
        jobs: processes that read, each with one thread; the answers do not depend on it.
        report: file for what became of every input, as JSON; - is stdout.
    """
    set_threads(request.threads)
    found = gather_pictures(inputs)
    stream = request.form == "jsonl"
    if request.form == "pdf" and out is None:
        raise ConfigError("a PDF is written to a file; give -o.")
    todo = mirror(found, None if stream else out, SUFFIXES.get(request.form))
    told = Told(many=len(found) > 1, request=request)
    rows = JsonLines(out, resume) if stream else None
    if rows is not None and resume:
        todo = [job for job in todo if str(job.source.path) not in rows.done]
    open_jobs = [job for job in todo if not (resume and job.done)]
    with spread(reads, (request,), [job.source.path for job in open_jobs], jobs) as read:

        def work(job: Job) -> list[Page]:
            pages = read(job.source.path)
            told.about(job.source.path, pages)
            if rows is not None:
                rows.write(job.source.path, pages)
            elif request.form == "pdf":
                assert job.target is not None
                layer = to_pdf(pages, job.source.path, [page.dpi for page in pages])
                write_bytes(job.target, layer)
            elif job.target is not None:
                write_pages(job.target, pages, request.form)
            else:
                told.show(job.source.path, pages)
            return pages

        done = run(todo, work, "images", again=not resume, quiet=quiet)
    if not quiet:
        told.finish()
    write_report(done, report)
    finish(done)


def reads(request: Request) -> Callable[[Path], list[Page]]:
    """What reads a path as it was asked."""
    finder = line_finder(request.segmenter, device(request.device))
    return partial(pages_of, reader=request.reader(), finder=finder, request=request)


@dataclass
class Told:
    """What a person hears of the reading: texts, remarks, and at the end where a look is worth it."""

    many: bool
    request: Request
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    pages: list[tuple[float, str]] = field(default_factory=list)

    def about(self, path: Path, pages: Sequence[Page]) -> None:
        """Remember how sure it is, and say its remarks."""
        for page in pages:
            name = f"{path} page {page.number}" if len(pages) > 1 else str(path)
            self.lines.extend((line.confidence, name, line.text) for line in page.lines)
            if page.lines:
                self.pages.append((sureness(page.lines), name))
            for remark in page.remarks:
                say(f"{name}: {remark}")

    def show(self, path: Path, pages: Sequence[Page]) -> None:
        """The result on stdout."""
        if self.request.form != "text":
            put(written(pages, self.request.form), end="")
            return
        for page in pages:
            put(f"{path}\t{page.text}" if self.many and self.request.task != "page" else page.text)

    def finish(self) -> None:
        """The pages and lines that deserve a look, least sure first."""
        if self.request.task == "page" and len(self.pages) > 1:
            say("pages, least sure first:")
            say_all(f"  {sure:.2f}  {name}" for sure, name in sorted(self.pages)[:UNSURE])
        if len(self.lines) > UNSURE:
            say("lines, least sure first:")
            say_all(f"  {sure:.2f}  {name}: {text}" for sure, name, text in sorted(self.lines)[:UNSURE])


class JsonLines:
    """A line of JSON for each line of writing, written as it is read, all of an image at once."""

    def __init__(self, out: Path | None, resume: bool) -> None:
        self.out = out
        self.done: set[str] = set()
        if out is None:
            return
        kept: list[str] = []
        if resume and out.is_file():
            rows = out.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            names = [name_in(row) for row in rows]
            last = names[-1] if names else None  # a kill may have cut its lines short: it is read again
            kept = [row for row, name in zip(rows, names, strict=True) if name not in (None, last)]
            self.done = {name for name in names if name not in (None, last)}  # pyright: ignore
        write_text(out, "".join(kept))

    def write(self, path: Path, pages: Sequence[Page]) -> None:
        """The lines of an image."""
        rows = [
            in_json({"image": str(path), "page": page.number, **line.as_dict()}, letters=True)
            for page in pages
            for line in page.lines
        ]
        text = "".join(f"{row}\n" for row in rows)
        if self.out is None:
            put(text, end="")
            return
        try:
            with open(self.out, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"{self.out}: cannot be written ({error.strerror}).") from error


def name_in(row: str) -> str | None:
    """The image of a line of JSON; None where it was cut short."""
    try:
        return str(json.loads(row)["image"]) if row.endswith("\n") else None
    except (ValueError, KeyError, TypeError):
        return None


def write_pages(target: Path, pages: Sequence[Page], form: str) -> None:
    """One file; PAGE holds one page a file, so further ones lie beside it as `name-0002.xml`."""
    if form != "page":
        write_text(target, written(pages, form))
        return
    for page in pages:
        place = target if page.number == 1 else target.with_stem(f"{target.stem}-{page.number:04d}")
        write_text(place, written([page], form))


def pages_of(path: Path, reader: AnyReader, finder: Finder, request: Request) -> list[Page]:
    """Every page of a file read; a line image is a page of one line."""
    found = []
    for picture in pictures(path):
        page = page_of(picture.grey, path, reader, finder, request, picture.count)
        found.append(replace(page, number=picture.number, dpi=picture.dpi))
    return found


def page_of(
    grey: np.ndarray, path: Path, reader: AnyReader, finder: Finder, request: Request, count: int
) -> Page:
    """A page read, or a line image as a page of one line."""
    if request.task == "page":
        given = given_lines(path) if count == 1 else None
        if given is not None:
            page = replace(fitting(given, grey), image=path.name)
            return read_lines_of(page, grey, reader, None)
        how: dict[str, Any] = {"right_to_left": request.right_to_left, "rotate": request.rotation}
        return read_found(grey, path.name, reader, None, finder, **how)
    h, w = grey.shape
    line: Line = reader.read([grey])[0]
    corners = ((0.0, 0.0), (w - 1.0, 0.0), (w - 1.0, h - 1.0), (0.0, h - 1.0))
    line = replace(line, polygon=corners, name="line_1")
    return Page(path.name, w, h, (line,), remarks=(line.note,) if line.note else ())


def given_lines(path: Path) -> Page | None:
    """Lines of an ALTO, PAGE or JSON file beside an image, if there is one."""
    for suffix in (".xml", ".alto.xml", ".page.xml", ".json"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            found: Any = read_page_file(beside)
            say(f"{path.name}: {len(found.lines)} lines are taken from {beside.name}.")
            return found
    return None
