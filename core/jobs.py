"""Many inputs through one command: files, folders, globs, a list on stdin or an index -> mirrored outputs.

found = gather(words, {".wav", ".flac"})
jobs = mirror(found, out, ".wav")
outcome = run(jobs, work, "files")           # goes on after a failure, skips what is done
finish(outcome)                              # says the failures, ends with exit code 2 if there are any
"""

import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePath
from typing import Any, TextIO

from core.errors import ConfigError, DataError, RecurraError
from core.files import check_folder_place
from core.terminal import say_all, watched

PACKING = (".gz", ".bz2", ".xz")
"""Endings that stand after the one that tells the kind."""
NUMBERS = 1 << 24
"""Numbers that one piece of a batch may hold by default: 64 MB of float32."""


@dataclass(frozen=True)
class Input:
    """One file to work on."""

    path: Path
    relative: PurePath
    """Where its output lies below the output folder: the path below the folder that was given."""
    row: Mapping[str, str] | None = None
    """Its row of the index, where it comes from one."""


@dataclass(frozen=True)
class Job:
    """An input and the file that its result goes to; None where nothing is written."""

    source: Input
    target: Path | None = None

    @property
    def done(self) -> bool:
        """The target is there and is not older than the source; it was written whole or not at all."""
        if self.target is None or not self.target.is_file():
            return False
        try:
            return self.target.stat().st_mtime_ns >= self.source.path.stat().st_mtime_ns
        except OSError:
            return False


@dataclass(frozen=True)
class Failure:
    """An input that gave nothing, and why."""

    source: Input
    error: RecurraError

    def __str__(self) -> str:
        text = str(self.error)
        return text if str(self.source.path) in text else f"{self.source.path}: {text}"


@dataclass(frozen=True)
class Done:
    """What came of many jobs."""

    results: list[tuple[Job, Any]] = field(default_factory=list)
    skipped: list[Job] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def gather(
    words: Iterable[str | Path],
    suffixes: Iterable[str],
    *,
    keep: Callable[[Path], bool] = lambda file: True,
    stdin: TextIO | None = None,
) -> list[Input]:
    """Inputs of the words of a command, each file once.

    A word is a file, a folder (its files with one of the suffixes, at any depth, hidden ones left out), a
    glob such as `in/**/*.wav`, or `-`: a list on stdin, one a line.

    Args:
        suffixes: with the dot, in lower case; a packed file such as `a.csv.gz` counts as .csv.
        keep: which files of a folder are meant, beyond their suffix.
        stdin: for `-`; the process's when left out.

    Raises:
        DataError: a folder without such files, a glob that matches none, no input at all. A missing file is
            left to its reader, which names it.
    """
    known = {suffix.lower() for suffix in suffixes}
    found: dict[str, Input] = {}
    for word in listed(words, stdin):
        for item in expand(word, known, keep):
            found.setdefault(os.path.abspath(item.path), item)
    if not found:
        raise DataError("there is no input: give files, folders, globs, or a list on stdin as -.")
    return list(found.values())


def listed(words: Iterable[str | Path], stdin: TextIO | None) -> Iterator[str | Path]:
    """The words, `-` replaced by the lines of stdin."""
    for word in words:
        if str(word) != "-":
            yield word
            continue
        for line in stdin or sys.stdin:
            if line.strip():
                yield line.rstrip("\r\n")


def expand(word: str | Path, suffixes: set[str], keep: Callable[[Path], bool]) -> list[Input]:
    """The inputs that one word stands for, in order of name."""
    if not str(word):
        raise DataError("the name of an input is empty.")
    path = Path(word)
    if path.is_dir():
        found = [
            Input(file, file.relative_to(path))
            for file in sorted(path.rglob("*"))
            if kind(file) in suffixes and not hidden(file.relative_to(path)) and keep(file) and file.is_file()
        ]
        if not found:
            raise DataError(
                f"{path}: the folder holds no file of a known kind ({', '.join(sorted(suffixes))})."
            )
        return found
    if path.exists() or not glob.has_magic(str(word)):
        return [Input(path, PurePath(path.name))]
    root = fixed_part(str(word))
    found = [
        Input(Path(name), PurePath(os.path.relpath(name, root)))
        for name in sorted(glob.glob(str(word), recursive=True))
        if os.path.isfile(name)
    ]
    if not found:
        raise DataError(f"{word}: no file matches.")
    return found


def fixed_part(pattern: str) -> str:
    """The folders of a glob before its first magic character."""
    parts = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return os.path.join(*parts) if parts else "."


def kind(path: PurePath) -> str:
    """The suffix that tells what is in a file, in lower case."""
    name = path.name
    for packing in PACKING:
        if name.lower().endswith(packing):
            name = name[: -len(packing)]
    return PurePath(name).suffix.lower()


def hidden(path: PurePath) -> bool:
    """Whether a file or a folder on the way to it begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def stem(path: PurePath) -> str:
    """Name without the suffix and the packing."""
    name = path.name
    for packing in PACKING:
        if name.lower().endswith(packing):
            name = name[: -len(packing)]
    return PurePath(name).stem


def mirror(inputs: Sequence[Input], out: str | Path | None, suffix: str | None = None) -> list[Job]:
    """Where each result goes.

    Nowhere without `out`. One input goes to `out` itself, unless that is a folder or ends with a slash; many
    go to their relative paths below the folder `out`, with the suffix in place of their own.

    Raises:
        ConfigError: many inputs for one file, two inputs for one output, or an output that is its own input.
        RecurraError: nothing can be written there.
    """
    if out is None:
        return [Job(source) for source in inputs]
    folder = Path(out)
    if len(inputs) == 1 and not folder.is_dir() and not str(out).endswith("/") and inputs[0].row is None:
        jobs = [Job(inputs[0], folder)]
    else:
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{out}: {len(inputs)} inputs need a folder for their outputs, this is a file.")
        jobs = [
            Job(
                source,
                folder / source.relative.parent / (stem(source.relative) + (suffix or kind(source.path))),
            )
            for source in inputs
        ]
    check_folder_place(folder if jobs and jobs[0].target != folder else folder.parent)
    taken: dict[Path, Input] = {}
    for job in jobs:
        assert job.target is not None
        place = Path(os.path.abspath(job.target))
        if place == Path(os.path.abspath(job.source.path)):
            raise ConfigError(f"{job.target}: the output would replace its input.")
        other = taken.setdefault(place, job.source)
        if other is not job.source:
            raise ConfigError(
                f"{job.target}: the output of both {other.path} and {job.source.path}; give them one by one."
            )
    return jobs


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], Any],
    what: str = "files",
    *,
    again: bool = False,
    quiet: bool = False,
) -> Done:
    """Do the jobs in order, with a bar on stderr; an input that fails is kept and the rest goes on.

    Args:
        work: gets a job and returns its result; it writes `job.target` whole, whose folder is there.
        again: also what is done.
    """
    done = Done()
    for job in watched(jobs, what, quiet=quiet):
        if job.done and not again:
            done.skipped.append(job)
            continue
        try:
            if job.target is not None:
                make_folder(job.target.parent)
            done.results.append((job, work(job)))
        except RecurraError as error:
            done.failures.append(Failure(job.source, error))
    return done


def make_folder(folder: Path) -> None:
    """A folder and those above it.

    Raises:
        RecurraError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecurraError(f"{folder}: cannot be made ({error.strerror or error}).") from error


def finish(done: Done) -> None:
    """End a command: say what failed and what was skipped, then exit code 2 if anything failed.

    One input that failed is raised as it is: there is nothing else to tell.
    """
    import typer

    if len(done.failures) == 1 and not done.results and not done.skipped:
        raise done.failures[0].error
    if done.skipped:
        say_all([f"{len(done.skipped)} already done and left alone."])
    if done.failures:
        say_all([f"failed: {failure}" for failure in done.failures])
        raise typer.Exit(2)


def in_pieces(items: Any, numbers: int = NUMBERS, size: Callable[[Any], int] | None = None) -> Iterator[Any]:
    """Consecutive pieces of a batch that hold at most so many numbers, and at least one row.

    Args:
        items: an array or tensor, cut along its first axis, or a sequence of items.
        numbers: what a piece may hold, intermediate results of the caller counted by himself.
        size: numbers of one item of a sequence; without it every item counts by its shape, or as one.
    """
    if numbers < 1:
        raise ValueError(f"a piece must hold at least one number, got {numbers}")
    if hasattr(items, "shape"):
        rows = max(1, numbers // max(1, prod(items.shape[1:])))
        for start in range(0, len(items), rows):
            yield items[start : start + rows]
        return
    measure = size or (lambda item: prod(getattr(item, "shape", ())))
    start = held = 0
    for index, item in enumerate(items):
        count = measure(item)
        if index > start and held + count > numbers:
            yield items[start:index]
            start, held = index, 0
        held += count
    if start < len(items):
        yield items[start:]
