"""Lines set in fonts that are installed here. Fonts are found, never shipped, so this differs by machine."""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vision.ocr.synth.paper import paper

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts", "/Library/Fonts")
MISSING = "\uffff"
"""No font has a glyph for this; what is drawn for it is drawn for every unknown character."""
MOST = 500


@cache
def installed() -> tuple[str, ...]:
    """Files of scalable fonts, by name; those that cannot be opened are left out where they are used."""
    places = [os.path.expanduser(folder) for folder in FOLDERS]
    found = sorted(
        str(path)
        for place in places
        if os.path.isdir(place)
        for path in Path(place).rglob("*")
        if path.suffix.lower() in (".ttf", ".otf")
    )
    return tuple(found[:MOST])


@cache
def opened(path: str, size: int) -> Any:
    """A font of PIL, or None."""
    from PIL import ImageFont

    try:
        return ImageFont.truetype(path, size)
    except OSError:
        return None


@cache
def knows(path: str, character: str) -> bool:
    """Whether a font has a glyph for a character, by what it draws."""
    font = opened(path, 24)
    if font is None:
        return False
    if character == " ":
        return True
    drawn, unknown = font.getmask(character), font.getmask(MISSING)
    return bool(drawn.getbbox()) and (drawn.size != unknown.size or bytes(drawn) != bytes(unknown))


def covering(text: str, fonts: Iterable[str]) -> list[str]:
    """Fonts that have every character of a text."""
    return [path for path in fonts if all(knows(path, character) for character in set(text))]


def set_line(text: str, rng: np.random.Generator) -> np.ndarray | None:
    """A grey line (h, w) of uint8 in some font that covers the text; None where no font does."""
    from PIL import Image, ImageDraw

    fonts = covering(text, installed())
    if not fonts:
        return None
    size = int(rng.integers(28, 52))
    font = opened(fonts[int(rng.integers(len(fonts)))], size)
    x0, y0, x1, y1 = (int(v) for v in font.getbbox(text))
    sheet = Image.new("L", (x1 - x0 + size, y1 - y0 + size // 2), 0)
    ImageDraw.Draw(sheet).text((size // 2 - x0, size // 4 - y0), text, fill=255, font=font)
    lean = float(rng.normal(0, 0.1))
    turned = sheet.transform(sheet.size, Image.Transform.AFFINE, (1, lean, -lean * sheet.height / 2, 0, 1, 0))
    return paper(np.asarray(turned, np.float32) / 255, rng)
