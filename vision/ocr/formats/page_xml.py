"""PAGE 2019: lines and words with reading order, confidences, alternatives ranked by index; tables.

A table is a TableRegion whose cells are TextRegions with a TableCellRole, as the schema of 2019 has it; the
tables of Transkribus (TableCell with row and col) are read too.
"""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from core.text import in_xml
from vision.ocr.answer import Cell, Line, Page, Point, Table
from vision.ocr.formats.xml import attributes, child, local_name, named, points_of, whole

NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
LEAST = 1e-4
MOST = 10_000
"""Rows or columns of a table."""


def to_page_xml(page: Page, when: datetime | None = None) -> str:
    """A page as PAGE 2019. Words carry their place in the reading order, without which Transkribus hangs."""
    stamp = (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
    w, h = page.width_px, page.height_px
    regions, names = regions_of(page)
    order = "".join(
        f'<RegionRefIndexed index="{index}" regionRef="{name}"/>' for index, name in enumerate(names)
    )
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
      <OrderedGroup id="order_1">{order}</OrderedGroup>
    </ReadingOrder>
{regions}
  </Page>
</PcGts>
"""


def regions_of(page: Page) -> tuple[str, list[str]]:
    """Elements of the regions and their names: lines that follow each other, and tables among them."""
    numbered = list(enumerate(page.lines))
    parts: list[str] = []
    names: list[str] = []
    whole_page = spelled(
        ((0, 0), (page.width_px - 1, 0), (page.width_px - 1, page.height_px - 1), (0, page.height_px - 1))
    )
    written: set[int] = set()
    for table, run in groupby(numbered, key=lambda pair: pair[1].table):
        if table is not None:
            if table not in written and table < len(page.tables):
                own = [(i, line) for i, line in numbered if line.table == table]
                parts.append(table_element(page.tables[table], own, f"table_{table + 1}"))
                names.append(f"table_{table + 1}")
            written.add(table)
            continue
        name = f"region_{len(names) + 1}"
        body = "\n".join(line_element(line, number) for number, line in run)
        parts.append(
            f'    <TextRegion id="{name}">\n      <Coords points="{whole_page}"/>\n{body}\n    </TextRegion>'
        )
        names.append(name)
    for number, table in enumerate(page.tables):  # those without a line
        if number not in written:
            parts.append(table_element(table, [], f"table_{number + 1}"))
            names.append(f"table_{number + 1}")
    if not parts:
        names = ["region_1"]
        parts = [f'    <TextRegion id="region_1"><Coords points="{whole_page}"/></TextRegion>']
    return "\n".join(parts), names


def table_element(table: Table, lines: list[tuple[int, Line]], name: str) -> str:
    """A TableRegion with its cells, empty ones too."""
    parts = [
        f'    <TableRegion id="{name}" rows="{table.rows}" columns="{table.columns}">',
        f'      <Coords points="{spelled(table.polygon)}"/>',
    ]
    for cell in table.cells:
        own = [(i, line) for i, line in lines if (line.row, line.column) == (cell.row, cell.column)]
        about = attributes(rowIndex=cell.row, columnIndex=cell.column)
        body = "".join(f"\n{line_element(line, number)}" for number, line in own)
        parts.append(
            f'      <TextRegion id="{name}_{cell.row}_{cell.column}">'
            f'<Coords points="{spelled(cell.polygon)}"/>'
            f"<Roles><TableCellRole{about}/></Roles>{body}</TextRegion>"
        )
    return "\n".join([*parts, "    </TableRegion>"])


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
    tables = list(named(about, "TableRegion"))
    inside = {id(cell): (t, cell) for t, table in enumerate(tables) for cell in cells_of(table)}
    regions = [e for e in about.iter() if local_name(e) in ("TextRegion", "TableCell")]
    rank = {ref: i for i, ref in enumerate(e.get("regionRef") for e in references(about))}

    def place(i: int) -> tuple[int, int]:
        owner = tables[inside[id(regions[i])][0]] if id(regions[i]) in inside else regions[i]
        own = rank.get(regions[i].get("id"))
        return rank.get(owner.get("id"), len(rank)) if own is None else own, i

    lines: list[Line] = []
    for i in sorted(range(len(regions)), key=place):
        own = [e for e in regions[i] if local_name(e) == "TextLine"]
        places = [custom_index(e) for e in own]
        if all(place is not None for place in places):
            own = [e for _, e in sorted(zip(places, own, strict=True), key=lambda pair: pair[0] or 0)]
        found = [read_line(e) for e in own]
        if id(regions[i]) in inside:
            row, column = cell_place(regions[i])
            table = inside[id(regions[i])][0]
            found = [replace(line, table=table, row=row, column=column) for line in found]
        lines += found
    return Page(
        size.get("imageFilename", ""),
        whole_number(size.get("imageWidth")),
        whole_number(size.get("imageHeight")),
        tuple(lines),
        tables=tuple(read_table(table) for table in tables),
    )


def whole_number(text: str | None) -> int:
    """A number that is not below zero; 0 where there is none."""
    return int(text) if text is not None and text.strip().isdecimal() else 0


def cells_of(table: Any) -> list[Any]:
    """Cells of a TableRegion: text regions with a role, or TableCell elements."""
    return [
        e
        for e in table
        if local_name(e) == "TableCell" or (local_name(e) == "TextRegion" and role(e) is not None)
    ]


def role(region: Any) -> Any:
    """The TableCellRole of a text region, or None."""
    return next((e for part in region if local_name(part) == "Roles" for e in part), None)


def cell_place(cell: Any) -> tuple[int, int]:
    """Row and column."""
    if local_name(cell) == "TableCell":
        return whole_number(cell.get("row")), whole_number(cell.get("col"))
    about = role(cell)
    return whole_number(about.get("rowIndex")), whole_number(about.get("columnIndex"))


def read_table(element: Any) -> Table:
    """The table of a TableRegion."""
    cells = tuple(Cell(*cell_place(cell), outline(cell)) for cell in cells_of(element))
    rows = max([cell.row + 1 for cell in cells], default=0)
    columns = max([cell.column + 1 for cell in cells], default=0)
    rows, columns = (
        max(rows, whole_number(element.get("rows"))),
        max(columns, whole_number(element.get("columns"))),
    )
    return Table(min(rows, MOST), min(columns, MOST), outline(element), cells)


def outline(element: Any) -> tuple[Point, ...]:
    """The polygon of an element."""
    coords = child(element, "Coords")
    return () if coords is None else points_of(coords.get("points"))


def references(page: Any) -> list[Any]:
    """Region references in order, through nested groups."""
    order = child(page, "ReadingOrder")
    return [] if order is None else list(named(order, "RegionRefIndexed", "RegionRef"))


def custom_index(element: Any) -> int | None:
    """The place in the reading order that Transkribus writes into `custom`."""
    found = re.search(r"readingOrder\s*\{\s*index\s*:\s*(\d+)", element.get("custom", ""))
    return int(found[1]) if found else None


def read_line(element: Any) -> Line:
    """The line of a TextLine: its text is the TextEquiv of lowest index, else that of its words."""
    texts = equivalents(element)
    if not texts:
        words = [found[0] for word in element if local_name(word) == "Word" if (found := equivalents(word))]
        sure = [confidence for _, confidence in words if confidence == confidence]
        mean = sum(sure) / len(sure) if sure else float("nan")
        texts = [(" ".join(text for text, _ in words if text), mean)] if words else []
    coords, base = child(element, "Coords"), child(element, "Baseline")
    text, confidence = texts[0] if texts else ("", float("nan"))
    others = [(other, share if share == share else 0.0) for other, share in texts[1:]]
    return Line(
        text,
        confidence,
        polygon=() if coords is None else points_of(coords.get("points")),
        baseline=() if base is None else points_of(base.get("points")),
        name=element.get("id", ""),
        alternatives=((text, confidence), *others) if others else (),
    )


def equivalents(element: Any) -> list[tuple[str, float]]:
    """Texts of an element and their confidence (NaN where none is told), by their index."""
    told = [e for e in element if local_name(e) == "TextEquiv"]
    told.sort(key=lambda e: int(e.get("index")) if str(e.get("index")).isdecimal() else 0)
    found = []
    for e in told:
        text = next((part.text for part in e if local_name(part) in ("Unicode", "PlainText")), None)
        try:
            confidence = float(e.get("conf", "nan"))
        except ValueError:
            confidence = float("nan")
        found.append((text or "", confidence))
    return found
