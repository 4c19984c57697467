"""Our JSON of a page."""

import json
from pathlib import Path

from core.errors import DataError
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
