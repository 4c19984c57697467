"""`recurra ocr read`: many images through one reader to text or files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.errors import ConfigError, DataError
from core.files import write_text
from core.jobs import Job, finish, gather, mirror, run
from core.terminal import device, say, say_all, set_threads
from core.text import in_json
from vision.ocr.answer import Line, Page
from vision.ocr.data import PICTURES
from vision.ocr.decode import Decoding
from vision.ocr.foreign import KrakenReader, is_kraken, kraken_reader
from vision.ocr.formats import SUFFIXES, read_page_file, written
from vision.ocr.image import read_grey
from vision.ocr.predict import Reader, load_reader, read_page

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
    alternatives: int = 0
    right_to_left: bool = False
    device: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.task not in ("lines", "digits", "page"):
            raise ConfigError(f"no task {self.task!r}; there are lines, digits, page.")
        if self.form not in (*SUFFIXES, "jsonl"):
            raise ConfigError(f"no format {self.form!r}; there are {', '.join(SUFFIXES)}, jsonl.")

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
    inputs: Sequence[str], out: Path | None, request: Request, *, resume: bool = False, quiet: bool = False
) -> None:
    """Read every input; print, or write one file each (jsonl: one file for all).

    A page with ALTO, PAGE or JSON of the same name beside its image keeps the lines that are drawn there.
    """
    set_threads(request.threads)
    reader = request.reader()
    found = gather(inputs, PICTURES)
    many = len(found) > 1
    seen: list[tuple[float, str, str]] = []
    stream = request.form == "jsonl"
    jobs = mirror(found, None if stream else out, SUFFIXES.get(request.form))
    collected: list[str] = []

    def work(job: Job) -> None:
        page = page_of(job.source.path, reader, request)
        seen.extend((line.confidence, str(job.source.path), line.text) for line in page.lines)
        for remark in page.remarks:
            say(f"{job.source.path}: {remark}")
        if stream:
            for line in page.lines:
                row = in_json({"image": str(job.source.path), **line.as_dict()}, letters=True)
                collected.append(row)
                if out is None:
                    print(row, flush=True)
        elif job.target is not None:
            write_text(job.target, written(page, request.form))
        elif request.form == "text":
            print(f"{job.source.path}\t{page.text}" if many and request.task != "page" else page.text)
        else:
            print(written(page, request.form), end="")

    done = run(jobs, work, "images", again=not resume, quiet=quiet)
    if stream and out is not None:
        write_text(out, "".join(f"{row}\n" for row in collected))
    if len(seen) > UNSURE and not quiet:
        say("least sure:")
        say_all(f"  {confidence:.2f}  {name}: {text}" for confidence, name, text in sorted(seen)[:UNSURE])
    finish(done)


def page_of(path: Path, reader: AnyReader, request: Request) -> Page:
    """A page read, or a line image as a page of one line."""
    if request.task == "page":
        return read_page(
            path,
            reader=reader,
            given=given_lines(path),
            right_to_left=request.right_to_left,
        )
    grey = read_grey(path)
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
