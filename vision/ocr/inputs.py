"""The pictures that a command is given, and what it tells of them at the end."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

from core.files import write_text
from core.jobs import Done, Input, gather
from core.terminal import put
from core.text import in_json
from vision.ocr.answer import Page
from vision.ocr.data import read_pictures
from vision.ocr.sample import PICTURES


def gather_pictures(words: Iterable[str]) -> list[Input]:
    """Inputs of files, folders, globs, `-`, and of index tables: the pictures of their column `image`.

    Raises:
        DataError: no input at all, or a table without the column.
    """
    found: dict[Path, Input] = {}
    for word in words:
        table = Path(word)
        if table.suffix.lower() == ".csv" and not table.is_dir():
            given = [Input(path, PurePath(name)) for path, name in read_pictures(table)]
        else:
            given = gather([word], (*PICTURES, ".pdf"))
        for item in given:
            found.setdefault(item.path.absolute(), item)
    return list(found.values())


def write_report(done: Done, place: str | None) -> None:
    """What became of every input as JSON in a file, or on stdout for `-`; nowhere for None."""
    if place is None:
        return
    text = in_json(told_of(done), 2)
    if place == "-":
        put(text)
    else:
        write_text(place, text + "\n")


def told_of(done: Done) -> dict[str, Any]:
    """What became of every input, for `--json`: pages and lines of each, and what failed."""
    items: list[dict[str, Any]] = []
    for job, pages in done.results:
        item: dict[str, Any] = {"input": str(job.source.path)}
        items.append(item | ({} if job.target is None else {"output": str(job.target)}) | counts(pages))
    items += [
        {"input": str(job.source.path), "output": str(job.target), "skipped": True} for job in done.skipped
    ]
    items += [{"input": str(f.source.path), "error": str(f.error)} for f in done.failures]
    return {"n": len(items), "failed": len(done.failures), "items": items}


def counts(pages: Sequence[Page]) -> dict[str, Any]:
    """Pages and lines, and the texts where there are any."""
    lines = [line for page in pages for line in page.lines]
    found: dict[str, Any] = {"pages": len(pages), "lines": len(lines)}
    if any(line.text for line in lines):
        found["text"] = "\n".join(line.text for line in lines)
        found["confidence"] = sum(line.confidence for line in lines) / len(lines)
    remarks = [remark for page in pages for remark in page.remarks]
    return found | ({"remarks": remarks} if remarks else {})
