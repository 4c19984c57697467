"""ALTO 4: lines with polygon and baseline, words with confidence, spaces between them, alternatives."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import core
from core.text import in_xml
from vision.ocr.answer import Line, Page, Point
from vision.ocr.formats.xml import attributes, local_name, named, points_of, whole

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
LEAST = 1e-4
"""Alternatives of a smaller share are left out."""


def to_alto(pages: Sequence[Page]) -> str:
    """Pages of one file as ALTO 4.2, with the name of the image, without which eScriptorium refuses it."""
    name = pages[0].image if pages else ""
    body = "\n".join(page_element(page, number) for number, page in enumerate(pages, 1))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="{NAMESPACE} http://www.loc.gov/standards/alto/v4/alto-4-2.xsd">
  <Description>
    <MeasurementUnit>pixel</MeasurementUnit>
    <sourceImageInformation><fileName>{in_xml(name)}</fileName></sourceImageInformation>
    <Processing ID="OCR_1">
      <processingStepDescription>handwriting recognition</processingStepDescription>
      <processingSoftware><softwareName>Recurra</softwareName>\
<softwareVersion>{core.__version__}</softwareVersion></processingSoftware>
    </Processing>
  </Description>
  <Layout>
{body}
  </Layout>
</alto>
"""


def page_element(page: Page, number: int) -> str:
    """One Page with its lines."""
    body = "\n".join(line_element(line, place) for place, line in enumerate(page.lines, 1))
    if number > 1:
        body = body.replace(' ID="', f' ID="page_{number}_')
    size = attributes(HPOS=0, VPOS=0, WIDTH=page.width_px, HEIGHT=page.height_px)
    about = attributes(PHYSICAL_IMG_NR=page.number, WIDTH=page.width_px, HEIGHT=page.height_px)
    return f"""    <Page ID="page_{number}"{about}>
      <PrintSpace{size}>
        <TextBlock ID="block_{number}"{size}>
{body}
        </TextBlock>
      </PrintSpace>
    </Page>"""


def line_element(line: Line, number: int) -> str:
    """One TextLine."""
    x0, y0, x1, y1 = line.box
    box = attributes(HPOS=x0, VPOS=y0, WIDTH=x1 - x0, HEIGHT=y1 - y0)
    baseline = attributes(BASELINE=spelled(line.baseline) or None)
    shape = (
        f'            <Shape><Polygon POINTS="{spelled(line.polygon)}"/></Shape>\n' if line.polygon else ""
    )
    name = attributes(ID=line.name or f"line_{number}")
    head = f"          <TextLine{name}{baseline}{box}>\n{shape}"
    return f"{head}{words(line, number)}          </TextLine>"


def words(line: Line, number: int) -> str:
    """Strings with spaces between them; a line without words is one String."""
    x0, y0, x1, y1 = line.box
    found = line.words()
    if " ".join(text for text, *_ in found) != line.text:
        content = attributes(CONTENT=line.text, HPOS=x0, VPOS=y0, WIDTH=x1 - x0, HEIGHT=y1 - y0)
        return f"            <String{content}/>\n"
    parts = []
    stretch = (x1 - x0) / max(line_width(line), 1.0)
    end: int | None = None
    for place, (text, confidence, left, right) in enumerate(found, 1):
        a, b = whole(x0 + left * stretch), whole(x0 + right * stretch)
        a, b = max(x0, min(a, x1 - 1)), max(x0 + 1, min(b, x1))
        if end is not None:
            gap = attributes(HPOS=end, VPOS=y0, WIDTH=max(a - end, 0))
            parts.append(f"            <SP{gap}/>\n")
        about = attributes(
            ID=f"string_{number}_{place}",
            CONTENT=text,
            HPOS=a,
            VPOS=y0,
            WIDTH=max(b - a, 1),
            HEIGHT=y1 - y0,
            WC=f"{confidence:.4f}",
        )
        others = alternatives(line) if len(found) == 1 else ""
        parts.append(
            f"            <String{about}>{others}</String>\n" if others else f"            <String{about}/>\n"
        )
        end = b
    return "".join(parts)


def alternatives(line: Line) -> str:
    """Other readings of a one-word line."""
    return "".join(
        f"<ALTERNATIVE>{in_xml(text)}</ALTERNATIVE>"
        for text, share in line.alternatives
        if share >= LEAST and text != line.text
    )


def line_width(line: Line) -> float:
    """Width of the cut line in its own pixels: the page's, where the line was cut at the page's scale."""
    x0, _, x1, _ = line.box
    return float(x1 - x0)


def spelled(points: tuple[Point, ...]) -> str:
    """ "x y x y"."""
    return " ".join(f"{whole(x)} {whole(y)}" for x, y in points)


def from_alto(root: Any, path: Path) -> list[Page]:
    """The pages of an ALTO tree, of version 2 to 4; one String or several a line."""
    image = next((e.text or "" for e in named(root, "fileName")), "").strip()
    found = list(named(root, "Page")) or [root]
    return [read_page(about, image, number) for number, about in enumerate(found, 1)]


def read_page(about: Any, image: str, place: int) -> Page:
    """One page."""
    width, height = number(about.get("WIDTH")), number(about.get("HEIGHT"))
    lines = tuple(read_line(element) for element in named(about, "TextLine"))
    return Page(image, int(width), int(height), lines, number=place)


def read_line(element: Any) -> Line:
    """The line of a TextLine."""
    texts = [e.get("CONTENT", "") for e in strings(element)]
    known = [number(e.get("WC")) for e in strings(element) if e.get("WC") is not None]
    shape = next(named(element, "Polygon"), None)
    polygon = () if shape is None else points_of(shape.get("POINTS"))
    x, y = number(element.get("HPOS")), number(element.get("VPOS"))
    w, h = number(element.get("WIDTH")), number(element.get("HEIGHT"))
    if len(polygon) < 3:
        polygon = ((x, y), (x + w, y), (x + w, y + h), (x, y + h))
    told = element.get("BASELINE")
    baseline = points_of(told)
    if told and len(baseline) < 2:  # ALTO 3: one height for the whole line
        level = number(told)
        baseline = ((x, level), (x + w, level)) if level else ()
    confidence = sum(known) / len(known) if known else float("nan")
    text = " ".join(part for part in texts if part)
    return Line(text, confidence, polygon=polygon, baseline=baseline, name=element.get("ID", ""))


def strings(element: Any) -> Iterator[Any]:
    return (part for part in element if local_name(part) == "String")


def number(text: str | None) -> float:
    """A number, 0 where there is none."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if abs(value) < 1e7 else 0.0
