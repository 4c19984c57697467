"""Our JSON of pages, plain text, tables as CSV."""

import csv
import io
import json
from pathlib import Path

from core.errors import DataError
from core.text import in_cell
from vision.ocr.answer import Line, Page


def from_json(path: Path) -> list[Page]:
    """The pages of a JSON file of ours.

    Raises:
        DataError: missing, damaged, or another JSON.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
        pages = [Page.from_dict(page) for page in stored["pages"]]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a page of ours ({type(error).__name__}: {error}).") from error
    if not pages:
        raise DataError(f"{path}: holds no page.")
    return pages


def from_text(path: Path) -> Page:
    """Text as a page of lines without places.

    Raises:
        DataError: missing, or not text in UTF-8.
    """
    try:
        rows = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    lines = tuple(Line(row, float("nan"), name=f"line_{number}") for number, row in enumerate(rows, 1))
    return Page(path.name, 0, 0, lines)


def to_csv(page: Page) -> str:
    """The tables of a page, a row a row, an empty line between two; without tables a line of text a row."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    if not page.tables:
        writer.writerows([in_cell(line.text)] for line in page.lines)
    for number, table in enumerate(page.tables):
        if number:
            buffer.write("\n")
        writer.writerows([in_cell(text) for text in row] for row in table.texts(page.lines, number))
    return buffer.getvalue()
