"""Regions that an ALTO or PAGE file draws, for finding lines inside them."""

from pathlib import Path
from typing import Any

from vision.ocr.answer import Page, Point
from vision.ocr.formats import read_page_file
from vision.ocr.formats.alto import number
from vision.ocr.formats.xml import local_name, named, parse, points_of


def page_regions(path: Path) -> tuple[Page, list[tuple[Point, ...]]]:
    """The page of a file and the outlines of its text regions, in the order of the file.

    Raises:
        DataError: missing, damaged, or neither ALTO nor PAGE.
    """
    page = read_page_file(path)
    root = parse(path)
    kinds = ("TextBlock",) if local_name(root) == "alto" else ("TextRegion",)
    found = [outline(element) for element in named(root, *kinds)]
    return page, [points for points in found if len(points) >= 3]


def outline(element: Any) -> tuple[Point, ...]:
    """The polygon of a region, or its box."""
    for child in element:
        if local_name(child) == "Coords":
            return points_of(child.get("points"))
        if local_name(child) == "Shape":
            polygon = next(named(child, "Polygon"), None)
            if polygon is not None:
                return points_of(polygon.get("POINTS"))
    x, y = number(element.get("HPOS")), number(element.get("VPOS"))
    w, h = number(element.get("WIDTH")), number(element.get("HEIGHT"))
    return ((x, y), (x + w, y), (x + w, y + h), (x, y + h)) if w and h else ()
