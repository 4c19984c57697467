"""What files and strangers say, as text that only shows: on a terminal, in JSON, XML, HTML and tables.

A name may hold escape sequences of a terminal, marks that turn the direction of writing, halves of
characters, tags, or a formula. Every message, table and log of a command goes through `shown`, so nobody
can forget it.
"""

import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, escape sequences, marks of direction, halves of characters; not tabs and line ends."""
NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""What XML 1.0 has no way to write."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters that make a spreadsheet compute a cell."""


def shown(value: Any, longest: int | None = None) -> str:
    """A value as text: what would act on a terminal becomes its code, such as `\\x1b`.

    Args:
        longest: cut to so many characters; a message needs the beginning of a name of a megabyte.
    """
    text = str(value)
    if longest is not None and len(text) > longest:
        text = f"{text[: longest - 3]}..."
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def first_line(error: BaseException) -> str:
    """The first line of a library's message, cut to a readable length."""
    text = str(error).strip().splitlines()
    return shown(text[0], 160).rstrip(".") if text else type(error).__name__


def in_xml(text: str) -> str:
    """Text between two tags of XML; what XML cannot hold becomes U+FFFD."""
    return escape(NOT_XML.sub("\ufffd", text))


def xml_attribute(value: Any) -> str:
    """The value of an attribute of XML, with its quotes."""
    return quoteattr(NOT_XML.sub("\ufffd", str(value)))


def in_html(text: Any) -> str:
    """Text inside of a tag of HTML or in one of its attributes."""
    return html.escape(shown(text), quote=True)


def in_cell(value: Any) -> Any:
    """A value as a cell of a table: unknown is empty, and text that a spreadsheet would compute is quoted."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str) and value.startswith(FORMULA):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value


def from_cell(text: str) -> str:
    """The text of a cell as it was before `in_cell`."""
    return text[1:] if text[:1] == "'" and text[1:].startswith(FORMULA) else text


def finite(value: Any) -> Any:
    """Plain values with every NaN and infinity as None, numpy's numbers and arrays as Python's."""
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def in_json(value: Any, indent: int | None = None, *, letters: bool = False) -> str:
    """A value as JSON that every reader takes: what is not finite is null, never the word NaN.

    Args:
        letters: write letters beyond ASCII as they are.
    """
    text = json.dumps(finite(value), indent=indent, ensure_ascii=not letters, allow_nan=False)
    return text.encode(errors="replace").decode() if letters else text  # halves of characters
