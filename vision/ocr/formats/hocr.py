"""hOCR: HTML with boxes, baselines and word confidences in titles; that of other programs is read too."""

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from core.errors import DataError
from core.files import read_bytes
from core.text import in_html
from vision.ocr.answer import Char, Line, Page
from vision.ocr.formats.xml import LARGEST, whole

LINES = ("ocr_line", "ocr_header", "ocr_caption", "ocr_textfloat")
BOX = re.compile(r"bbox\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)")
BASELINE = re.compile(r"baseline\s+(-?[\d.]+)\s+(-?[\d.]+)")
SURE = re.compile(r"x_wconf\s+(\d+(?:\.\d+)?)")
IMAGE = re.compile(r'image\s+"?([^";]*)"?')


def to_hocr(pages: Sequence[Page]) -> str:
    """Pages as hOCR."""
    body = "\n".join(page_element(page, number) for number, page in enumerate(pages, 1))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml">
<head>
<meta charset="utf-8"/><title>{in_html(pages[0].image if pages else "")}</title>
<meta name="ocr-system" content="Recurra"/>
<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_line ocrx_word"/>
</head>
<body>
{body}
</body>
</html>
"""


def page_element(page: Page, number: int) -> str:
    """One ocr_page with its lines."""
    lines = "\n".join(line_element(line, place) for place, line in enumerate(page.lines, 1))
    if number > 1:
        lines = lines.replace(' id="', f' id="page_{number}_')
    size = f"bbox 0 0 {page.width_px} {page.height_px}"
    title = in_html(f'image "{page.image}"; {size}; ppageno {page.number - 1}')
    return f"""<div class="ocr_page" id="page_{number}" title="{title}">
<div class="ocr_carea" id="block_{number}" title="{size}">
{lines}
</div>
</div>"""


def line_element(line: Line, number: int) -> str:
    """One ocr_line with its words."""
    x0, y0, x1, y1 = line.box
    words = []
    for place, (text, confidence, left, right) in enumerate(line.words(), 1):
        a, b = max(x0, min(whole(x0 + left), x1 - 1)), max(x0 + 1, min(whole(x0 + right), x1))
        title = f"bbox {a} {y0} {b} {y1}; x_wconf {round(100 * confidence)}"
        words.append(
            f'<span class="ocrx_word" id="word_{number}_{place}" title="{title}">{in_html(text)}</span>'
        )
    title = f"bbox {x0} {y0} {x1} {y1}{baseline(line)}"
    return f'<span class="ocr_line" id="line_{number}" title="{title}">{" ".join(words)}</span>'


def baseline(line: Line) -> str:
    """Slope and offset from the lower left corner of the box."""
    if len(line.baseline) < 2:
        return ""
    (xa, ya), (xb, yb) = line.baseline[0], line.baseline[-1]
    slope = (yb - ya) / (xb - xa) if abs(xb - xa) >= 1 else 0.0  # below a pixel there is no direction
    x0, _, _, y1 = line.box
    return f"; baseline {slope:.4f} {whole(ya + slope * (x0 - xa) - y1)}"


def from_hocr(path: Path) -> list[Page]:
    """The pages of a hOCR file.

    Raises:
        DataError: missing, too large, not text, or without a page.
    """
    try:
        text = read_bytes(path, LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start}).") from error
    reader = HocrParser()
    reader.feed(text)
    reader.close()
    if not reader.pages:
        raise DataError(f"{path}: HTML without an ocr_page.")
    return [replace(page, lines=tuple(lines)) for page, lines in reader.pages]


class HocrParser(HTMLParser):
    """Pages and lines of hOCR; nothing is resolved or fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[tuple[Page, list[Line]]] = []
        self.open: list[str] = []  # classes of the elements that are open
        self.words: list[tuple[str, float, tuple[int, int, int, int]]] = []
        self.line: Line | None = None
        self.loose = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("meta", "br", "img", "link", "hr"):
            return
        about = {name: value or "" for name, value in attrs}
        kind = about.get("class", "").split(" ")[0]
        title = about.get("title", "")
        box = BOX.search(title)
        corners = tuple(int(part) for part in box.groups()) if box else (0, 0, 0, 0)
        if kind == "ocr_page":
            image = IMAGE.search(title)
            page = Page(image[1] if image else "", corners[2], corners[3], number=len(self.pages) + 1)
            self.pages.append((page, []))
        elif kind in LINES and self.pages:
            self.line, self.words, self.loose = line_of(about.get("id", ""), corners, title), [], ""
        elif kind == "ocrx_word" and self.line is not None:
            sure = SURE.search(title)
            told = min(float(sure[1]), 100.0) / 100 if sure else float("nan")
            self.words.append(("", told, (corners[0], corners[1], corners[2], corners[3])))
        self.open.append(kind)

    def handle_data(self, data: str) -> None:
        if "ocrx_word" in self.open and self.words:
            text, sure, box = self.words[-1]
            self.words[-1] = (text + data, sure, box)
        elif self.line is not None:
            self.loose += data

    def handle_endtag(self, tag: str) -> None:
        if not self.open:
            return
        kind = self.open.pop()
        if kind in LINES and self.line is not None and self.pages:
            self.pages[-1][1].append(filled(self.line, self.words, self.loose))
            self.line = None


def line_of(name: str, box: tuple[int, ...], title: str) -> Line:
    """A line without its text."""
    x0, y0, x1, y1 = (float(part) for part in box)
    found = BASELINE.search(title)
    base: tuple[tuple[float, float], ...] = ()
    if found:
        slope, offset = float(found[1]), float(found[2])
        base = ((x0, y1 + offset), (x1, y1 + offset + slope * (x1 - x0)))
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return Line("", float("nan"), polygon=corners, baseline=base, name=name)


def filled(line: Line, words: list[tuple[str, float, tuple[int, int, int, int]]], loose: str) -> Line:
    """A line with its words; characters share the box of their word evenly."""
    left = line.polygon[0][0]
    chars: list[Char] = []
    for text, sure, (x0, _, x1, _) in words:
        text = " ".join(text.split())
        if not text:
            continue
        if chars:
            chars.append(Char(" ", 1.0, chars[-1].x1_px, x0 - left))
        step = (x1 - x0) / len(text)
        chars += [Char(c, sure, x0 - left + i * step, x0 - left + (i + 1) * step) for i, c in enumerate(text)]
    known = [char.confidence for char in chars if char.text != " " and char.confidence == char.confidence]
    text = "".join(char.text for char in chars) if chars else " ".join(loose.split())
    return replace(
        line,
        text=text,
        confidence=sum(known) / len(known) if known else float("nan"),
        chars=tuple(chars) if len(known) == sum(c.text != " " for c in chars) else (),
    )
