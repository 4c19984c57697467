"""The text layer of a PDF as lines, in points of the page as pixels of 72 an inch."""

from pathlib import Path

from core.errors import DataError
from vision.ocr.answer import Line, Page


def from_pdf(path: Path) -> list[Page]:
    """Pages with the lines of their text layer; a page without one has none.

    Raises:
        DataError: not a PDF that can be opened.
        MissingExtraError: pypdfium2 is not installed.
    """
    from core.terminal import need

    need("ocr", "pypdfium2")
    import pypdfium2 as pdfium

    try:
        document = pdfium.PdfDocument(path)
    except (pdfium.PdfiumError, OSError) as error:
        reason = "it needs a password" if "password" in str(error).lower() else "it is damaged or missing"
        raise DataError(f"{path}: the PDF cannot be opened; {reason}.") from error
    try:
        pages = []
        for index in range(len(document)):
            page = document[index]
            width, height = page.get_size()
            lines = lines_of(page.get_textpage(), height)
            pages.append(
                Page(path.name, round(width), round(height), tuple(lines), number=index + 1, dpi=72.0)
            )
    finally:
        document.close()
    if not pages:
        raise DataError(f"{path}: a PDF without pages.")
    return pages


def lines_of(text_page: object, height: float) -> list[Line]:
    """Runs of characters until a line ends; the box is that of its characters."""
    from typing import Any

    page: Any = text_page
    count = page.count_chars()
    text = page.get_text_range() if count else ""
    lines: list[Line] = []
    boxes: list[tuple[float, float, float, float]] = []
    said = ""
    for index, char in enumerate(text[:count] + "\n"):
        if char in "\r\n":
            if said.strip():
                x0, y0 = min(b[0] for b in boxes), min(height - b[3] for b in boxes)
                x1, y1 = max(b[2] for b in boxes), max(height - b[1] for b in boxes)
                corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
                name = f"line_{len(lines) + 1}"
                lines.append(Line(" ".join(said.split()), float("nan"), polygon=corners, name=name))
            said, boxes = "", []
            continue
        said += char
        boxes.append(page.get_charbox(index))
    return lines
