"""Pages in the formats of others: ALTO, PAGE, hOCR, JSON, text, CSV, searchable PDF; reading and writing."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigError, DataError
from core.text import in_json
from vision.ocr.answer import Page

SUFFIXES = {
    "text": ".txt",
    "json": ".json",
    "alto": ".xml",
    "page": ".xml",
    "hocr": ".html",
    "csv": ".csv",
    "pdf": ".pdf",
}
READ = (".xml", ".json", ".html", ".hocr", ".txt", ".pdf")
"""Suffixes of files whose pages `read_page_files` reads."""


def written(pages: Page | Sequence[Page], form: str) -> str:
    """A page, or several, as the text of a file.

    Raises:
        ConfigError: there is no such format, or it is no text (pdf), or holds one page only (page).
    """
    pages = [pages] if isinstance(pages, Page) else list(pages)
    if form == "text":
        return "".join(page.text + "\n" for page in pages)
    if form == "json":
        return in_json({"pages": [page.as_dict() for page in pages]}, 1, letters=True) + "\n"
    if form == "alto":
        from vision.ocr.formats.alto import to_alto

        return to_alto(pages)
    if form == "page":
        from vision.ocr.formats.page_xml import to_page_xml

        if len(pages) != 1:
            raise ConfigError(f"PAGE holds one page a file, there are {len(pages)}; give a place with -o.")
        return to_page_xml(pages[0])
    if form == "hocr":
        from vision.ocr.formats.hocr import to_hocr

        return to_hocr(pages)
    if form == "csv":
        from vision.ocr.formats.plain import to_csv

        return "\n".join(to_csv(page) for page in pages)
    raise ConfigError(f"no format {form!r}; there are {', '.join(SUFFIXES)}.")


def read_page_file(path: str | Path) -> Page:
    """The first page of a file.

    Raises:
        DataError: missing, damaged, hostile, or of no known format.
    """
    return read_page_files(path)[0]


def read_page_files(path: str | Path) -> list[Page]:
    """The pages of an ALTO, PAGE, hOCR, JSON or text file, or of the text layer of a PDF; at least one.

    Raises:
        DataError: missing, damaged, hostile, or of no known format.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".json":
        from vision.ocr.formats.plain import from_json

        return from_json(path)
    if suffix == ".txt":
        from vision.ocr.formats.plain import from_text

        return [from_text(path)]
    if suffix == ".pdf":
        from vision.ocr.formats.pdf_text import from_pdf

        return from_pdf(path)
    if suffix in (".html", ".htm", ".hocr"):
        from vision.ocr.formats.hocr import from_hocr

        return from_hocr(path)
    from vision.ocr.formats.xml import local_name, parse

    root = parse(path)
    if local_name(root) == "alto":
        from vision.ocr.formats.alto import from_alto

        return from_alto(root, path)
    if local_name(root) == "PcGts":
        from vision.ocr.formats.page_xml import from_page_xml

        return [from_page_xml(root, path)]
    raise DataError(f"{path}: neither ALTO nor PAGE, its root is <{local_name(root)[:40]}>.")
