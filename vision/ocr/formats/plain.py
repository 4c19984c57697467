"""Our JSON of a page, and its tables as CSV."""

import csv
import io
import json
from pathlib import Path

from core.errors import DataError
from core.tables import cell
from vision.ocr.answer import Page


def from_json(path: Path) -> Page:
    """The first page of a JSON file of ours.

    Raises:
        DataError: missing, damaged, or another JSON.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
        return Page.from_dict(stored["pages"][0])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a page of ours ({type(error).__name__}: {error}).") from error


def to_csv(page: Page) -> str:
    """The tables of a page, a row a row, an empty line between two; without tables a line of text a row."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    if not page.tables:
        writer.writerows([cell(line.text)] for line in page.lines)
    for number, table in enumerate(page.tables):
        if number:
            buffer.write("\n")
        writer.writerows([cell(text) for text in row] for row in table.texts(page.lines, number))
    return buffer.getvalue()
