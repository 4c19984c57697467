"""Searchable PDF: pages as they are, with their words as invisible text over the ink.

A word is one run in render mode 3, stretched to the width of its box and standing on the line's baseline; a
run of a space joins it to the next one, or a search would not find two words in a row. A given PDF keeps its
pages; an image becomes a page of its size.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from core.errors import DataError
from vision.ocr.answer import Line, Page

FONT = "Vera"
"""Comes with reportlab; its letters are never seen, only the text that they stand for."""
DPI = 300
INVISIBLE = 3


def to_pdf(pages: Sequence[Page], source: Any, dpi: Sequence[float | None]) -> bytes:
    """The pages of a PDF, or pictures of a path, bytes or array, with their text layer.

    Raises:
        DataError: the pages are not those of the source.
        MissingExtraError: pypdf or reportlab is not installed.
    """
    from core.terminal import need
    from vision.ocr.sources import is_pdf

    need("ocr", "pypdf")
    need("ocr", "reportlab")
    resolutions = [found or DPI for found in dpi]
    if is_pdf(source):
        return overlaid(pages, source, resolutions)
    return pictured(pages, source, resolutions)


def pictured(pages: Sequence[Page], source: Any, dpi: Sequence[float]) -> bytes:
    """A page for each picture, text over it."""
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, pageCompression=1)
    for page, picture, resolution in zip(pages, images_of(source, len(pages)), dpi, strict=True):
        points = 72 / resolution
        size = (page.width_px * points, page.height_px * points)
        canvas.setPageSize(size)
        canvas.drawImage(ImageReader(picture), 0, 0, *size)
        put_text(canvas, page, points)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def images_of(source: Any, count: int) -> list[Any]:
    """The pictures as PIL images in colour, as they are seen."""
    from PIL import Image, ImageOps

    from vision.ocr.sources import opened

    if isinstance(source, np.ndarray):
        return [Image.fromarray(source)]
    found = []
    with source if isinstance(source, Image.Image) else opened(source) as image:
        for number in range(count):
            if number:
                image.seek(number)
            turned = ImageOps.exif_transpose(image) or image
            if turned.mode.startswith(("I", "F")):
                from vision.ocr.image import grey_image

                found.append(Image.fromarray(grey_image(image, "the image")))
            else:
                found.append(turned.convert("L" if turned.mode in ("1", "L") else "RGB"))
    return found


def overlaid(pages: Sequence[Page], source: Any, dpi: Sequence[float]) -> bytes:
    """The pages of a PDF with a text layer merged into each."""
    from pypdf import PdfReader, PdfWriter, Transformation
    from reportlab.pdfgen.canvas import Canvas

    reader = PdfReader(io.BytesIO(source) if isinstance(source, bytes) else str(source))
    if len(reader.pages) != len(pages):
        raise DataError(f"the PDF has {len(reader.pages)} pages, {len(pages)} were read.")
    writer = PdfWriter(clone_from=reader)
    for target, page, resolution in zip(writer.pages, pages, dpi, strict=True):
        points = 72 / resolution
        layer = io.BytesIO()
        canvas = Canvas(layer, pagesize=(page.width_px * points, page.height_px * points))
        put_text(canvas, page, points)
        canvas.save()
        over = PdfReader(io.BytesIO(layer.getvalue())).pages[0]
        box = target.cropbox
        matrix = seen_to_page(int(target.rotation) % 360, float(box.width), float(box.height))
        a, b, c, d, e, f = matrix
        turn = Transformation((a, b, c, d, e + float(box.left), f + float(box.bottom)))
        target.merge_transformed_page(over, turn)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def seen_to_page(rotation: int, width: float, height: float) -> tuple[float, ...]:
    """The matrix from a page as it is seen, turned clockwise by `rotation`, to the page as it is stored."""
    match rotation:
        case 90:
            return 0, 1, -1, 0, width, 0
        case 180:
            return -1, 0, 0, -1, width, height
        case 270:
            return 0, -1, 1, 0, 0, height
    return 1, 0, 0, 1, 0, 0


def put_text(canvas: Any, page: Page, points: float) -> None:
    """The invisible words of a page; `points` a pixel."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    if FONT not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont(FONT, f"{FONT}.ttf"))
    bottom = page.height_px * points
    for line in page.lines:
        words = placed(line)
        _, y0, _, y1 = line.box
        size = max(1.0, 0.72 * (y1 - y0) * points)
        slope = lean(line)
        for number, (text, left, right) in enumerate(words):
            end = words[number + 1][1] if number + 1 < len(words) else right
            for part, a, b in ((text, left, right), (" ", right, end)):
                width = pdfmetrics.stringWidth(part, FONT, size)
                if not part or b <= a or width <= 0:
                    continue
                run = canvas.beginText()
                run.setTextRenderMode(INVISIBLE)
                run.setFont(FONT, size)
                run.setHorizScale(100 * (b - a) * points / width)
                run.setTextTransform(1, -slope, slope, 1, a * points, bottom - stand(line, a) * points)
                run.textOut(part)
                canvas.drawText(run)


def placed(line: Line) -> list[tuple[str, float, float]]:
    """Words with their columns on the page; a line without characters is one run."""
    x0, _, x1, _ = line.box
    words = line.words()
    if " ".join(text for text, *_ in words) != line.text:
        return [(line.text, float(x0), float(x1))] if line.text else []
    return [(text, min(x0 + a, x1 - 1.0), min(x0 + b, float(x1))) for text, _, a, b in words]


def lean(line: Line) -> float:
    """How much the baseline falls a pixel."""
    if len(line.baseline) < 2:
        return 0.0
    (xa, ya), (xb, yb) = line.baseline[0], line.baseline[-1]
    return float(np.clip((yb - ya) / (xb - xa), -0.3, 0.3)) if abs(xb - xa) >= 1 else 0.0


def stand(line: Line, x: float) -> float:
    """Height of the baseline at a column."""
    if len(line.baseline) < 2:
        _, y0, _, y1 = line.box
        return y1 - 0.25 * (y1 - y0)
    points = np.array(sorted(line.baseline))
    return float(np.interp(x, points[:, 0], points[:, 1]))
