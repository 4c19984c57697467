"""Pages in the formats of others: ALTO, PAGE, JSON, text; reading and writing."""

from pathlib import Path

from core.errors import ConfigError
from core.text import in_json
from vision.ocr.answer import Page

SUFFIXES = {"text": ".txt", "json": ".json", "alto": ".xml", "page": ".xml", "hocr": ".html", "csv": ".csv"}


def written(page: Page, form: str) -> str:
    """A page as the text of a file.

    Raises:
        ConfigError: there is no such format.
    """
    if form == "text":
        return page.text + "\n"
    if form == "json":
        return in_json({"pages": [page.as_dict()]}, 1, letters=True) + "\n"
    if form == "alto":
        from vision.ocr.formats.alto import to_alto

        return to_alto(page)
    if form == "page":
        from vision.ocr.formats.page_xml import to_page_xml

        return to_page_xml(page)
    if form == "hocr":
        from vision.ocr.formats.hocr import to_hocr

        return to_hocr(page)
    if form == "csv":
        from vision.ocr.formats.plain import to_csv

        return to_csv(page)
    raise ConfigError(f"no format {form!r}; there are {', '.join(SUFFIXES)}.")


def read_page_file(path: str | Path) -> Page:
    """A page of an ALTO, PAGE or JSON file.

    Raises:
        DataError: missing, damaged, hostile, or none of these.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        from vision.ocr.formats.plain import from_json

        return from_json(path)
    from vision.ocr.formats.xml import local_name, parse

    root = parse(path)
    if local_name(root) == "alto":
        from vision.ocr.formats.alto import from_alto

        return from_alto(root, path)
    if local_name(root) == "PcGts":
        from vision.ocr.formats.page_xml import from_page_xml

        return from_page_xml(root, path)
    from core.errors import DataError

    raise DataError(f"{path}: neither ALTO nor PAGE, its root is <{local_name(root)[:40]}>.")
