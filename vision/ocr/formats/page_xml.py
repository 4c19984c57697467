"""PAGE 2019: lines and words with reading order, confidences, alternatives ranked by index."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.text import in_xml
from vision.ocr.answer import Line, Page, Point
from vision.ocr.formats.xml import attributes, child, local_name, named, points_of, whole

NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
LEAST = 1e-4


def to_page_xml(page: Page, when: datetime | None = None) -> str:
    """A page as PAGE 2019. Words carry their place in the reading order, without which Transkribus hangs."""
    stamp = (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
    w, h = page.width_px, page.height_px
    lines = "\n".join(line_element(line, number) for number, line in enumerate(page.lines))
    corners = spelled(((0, 0), (w - 1, 0), (w - 1, h - 1), (0, h - 1)))
    about = attributes(imageFilename=page.image, imageWidth=w, imageHeight=h)
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<PcGts xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="{NAMESPACE} {NAMESPACE}/pagecontent.xsd">
  <Metadata>
    <Creator>Recurra</Creator>
    <Created>{stamp}</Created>
    <LastChange>{stamp}</LastChange>
  </Metadata>
  <Page{about}>
    <ReadingOrder>
      <OrderedGroup id="order_1"><RegionRefIndexed index="0" regionRef="region_1"/></OrderedGroup>
    </ReadingOrder>
    <TextRegion id="region_1">
      <Coords points="{corners}"/>
{lines}
    </TextRegion>
  </Page>
</PcGts>
"""


def line_element(line: Line, number: int) -> str:
    """One TextLine."""
    name = line.name or f"line_{number + 1}"
    about = attributes(id=name, custom=f"readingOrder {{index:{number};}}")
    parts = [f"      <TextLine{about}>", f'        <Coords points="{spelled(line.polygon)}"/>']
    if line.baseline:
        parts.append(f'        <Baseline points="{spelled(line.baseline)}"/>')
    x0, y0, x1, y1 = line.box
    for place, (text, confidence, left, right) in enumerate(line.words()):
        a, b = max(x0, min(whole(x0 + left), x1 - 1)), max(x0 + 1, min(whole(x0 + right), x1))
        corners = spelled(((a, y0), (b, y0), (b, y1), (a, y1)))
        word = attributes(id=f"{name}_word_{place + 1}", custom=f"readingOrder {{index:{place};}}")
        told = equivalent(text, confidence, None)
        parts.append(f'        <Word{word}><Coords points="{corners}"/>{told}</Word>')
    others = [(text, share) for text, share in line.alternatives if text != line.text and share >= LEAST]
    parts.append(f"        {equivalent(line.text, line.confidence, 0 if others else None)}")
    for index, (text, share) in enumerate(others, 1):
        parts.append(f"        {equivalent(text, share, index)}")
    return "\n".join([*parts, "      </TextLine>"])


def equivalent(text: str, confidence: float, index: int | None) -> str:
    """A TextEquiv; an unknown confidence is left out."""
    told = f"{confidence:.4f}" if confidence == confidence else None
    about = attributes(index=index, conf=told)
    return f"<TextEquiv{about}><Unicode>{in_xml(text)}</Unicode></TextEquiv>"


def spelled(points: tuple[Point, ...]) -> str:
    """ "x,y x,y"."""
    return " ".join(f"{whole(x)},{whole(y)}" for x, y in points)


def from_page_xml(root: Any, path: Path) -> Page:
    """The page of a PAGE tree; text regions in their reading order where one is told."""
    about = next(named(root, "Page"), None)
    if about is None:
        from core.errors import DataError

        raise DataError(f"{path}: PAGE without a page.")
    size = about.attrib
    regions = [e for e in about.iter() if local_name(e) in ("TextRegion", "TableCell")]
    rank = {ref: i for i, ref in enumerate(e.get("regionRef") for e in references(about))}
    order = sorted(range(len(regions)), key=lambda i: (rank.get(regions[i].get("id"), len(rank)), i))
    lines: list[Line] = []
    for i in order:
        own = [e for e in regions[i] if local_name(e) == "TextLine"]
        places = [custom_index(e) for e in own]
        if all(place is not None for place in places):
            own = [e for _, e in sorted(zip(places, own, strict=True), key=lambda pair: pair[0] or 0)]
        lines += [read_line(e) for e in own]
    return Page(
        size.get("imageFilename", ""),
        int(size.get("imageWidth", 0) or 0),
        int(size.get("imageHeight", 0) or 0),
        tuple(lines),
    )


def references(page: Any) -> list[Any]:
    """Region references in order, through nested groups."""
    order = child(page, "ReadingOrder")
    return [] if order is None else list(named(order, "RegionRefIndexed", "RegionRef"))


def custom_index(element: Any) -> int | None:
    """The place in the reading order that Transkribus writes into `custom`."""
    found = re.search(r"readingOrder\s*\{\s*index\s*:\s*(\d+)", element.get("custom", ""))
    return int(found[1]) if found else None


def read_line(element: Any) -> Line:
    """The line of a TextLine: its text is the TextEquiv of lowest index."""
    told = [e for e in element if local_name(e) == "TextEquiv"]
    told.sort(key=lambda e: int(e.get("index", 0) or 0) if str(e.get("index", 0)).isdigit() else 0)
    texts = [((child(e, "Unicode").text or "") if child(e, "Unicode") is not None else "", e) for e in told]
    coords, base = child(element, "Coords"), child(element, "Baseline")
    try:
        confidence = float(told[0].get("conf")) if told and told[0].get("conf") else float("nan")
    except ValueError:
        confidence = float("nan")
    others = [(text, float(e.get("conf") or 0)) for text, e in texts[1:]]
    return Line(
        texts[0][0] if texts else "",
        confidence,
        polygon=() if coords is None else points_of(coords.get("points")),
        baseline=() if base is None else points_of(base.get("points")),
        name=element.get("id", ""),
        alternatives=tuple([(texts[0][0], confidence), *others]) if others else (),
    )
