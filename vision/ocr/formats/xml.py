"""XML that may come from anywhere: no entities, no external references, bounded size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.text import xml_attribute
from vision.ocr.answer import Point

LARGEST = 200 << 20


def parse(path: str | Path) -> Any:
    """The root element of a file.

    Raises:
        DataError: missing, too large, not XML, or with entities or external references.
    """
    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are more than an XML page has.")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        return fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(f"{path}: entities and external references are not read.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not XML ({error}).") from error


def local_name(element: Any) -> str:
    """The tag without its namespace."""
    return str(element.tag).rpartition("}")[2]


def named(element: Any, *names: str) -> Iterator[Any]:
    """Descendants with one of the local names, in document order."""
    return (child for child in element.iter() if local_name(child) in names)


def child(element: Any, name: str) -> Any:
    """The first direct child of a local name, or None."""
    return next((part for part in element if local_name(part) == name), None)


def points_of(text: str | None) -> tuple[Point, ...]:
    """Points of "x,y x,y" or "x y x y"; what cannot be read gives none."""
    try:
        numbers = [float(part) for part in (text or "").replace(",", " ").split()]
    except ValueError:
        return ()
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))


def attributes(**values: Any) -> str:
    """` a="1" b="2"`, those that are None left out."""
    return "".join(f" {name}={xml_attribute(value)}" for name, value in values.items() if value is not None)


def whole(value: float) -> int:
    """A coordinate as the formats want it."""
    return round(value)
