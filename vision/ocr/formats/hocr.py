"""hOCR: HTML with boxes, baselines and word confidences in titles."""

from core.text import in_html
from vision.ocr.answer import Line, Page
from vision.ocr.formats.xml import whole


def to_hocr(page: Page) -> str:
    """A page as hOCR."""
    lines = "\n".join(line_element(line, number) for number, line in enumerate(page.lines, 1))
    title = in_html(f'image "{page.image}"; bbox 0 0 {page.width_px} {page.height_px}; ppageno 0')
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml">
<head>
<meta charset="utf-8"/><title>{in_html(page.image)}</title>
<meta name="ocr-system" content="Recurra"/>
<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_line ocrx_word"/>
</head>
<body>
<div class="ocr_page" id="page_1" title="{title}">
<div class="ocr_carea" id="block_1" title="bbox 0 0 {page.width_px} {page.height_px}">
{lines}
</div>
</div>
</body>
</html>
"""


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
    slope = (yb - ya) / (xb - xa) if xb != xa else 0.0
    x0, _, _, y1 = line.box
    return f"; baseline {slope:.4f} {whole(ya + slope * (x0 - xa) - y1)}"
