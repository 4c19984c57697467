"""A line with its text, and the pictures of a folder."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from vision.ocr.answer import Line

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".jp2", ".gif", ".pgm")


@dataclass(frozen=True)
class Sample:
    """A picture of a line or digit string and what it says."""

    image: Path
    text: str
    split: str = ""
    corpus: str = ""
    document: str = ""
    name: str = ""
    """As the index has it."""
    line: Line | None = None
    """Where it stands, if the picture is a whole page."""

    def grey(self) -> np.ndarray:
        """The grey line (h, w), cut out of its page where it is a part of one.

        Raises:
            DataError: not an image.
        """
        from vision.ocr.crop import cut_line
        from vision.ocr.image import read_grey

        return read_grey(self.image) if self.line is None else cut_line(page_grey(self.image), self.line)


@lru_cache(maxsize=3)
def page_grey(path: Path) -> np.ndarray:
    """A page's grey, kept for its next line; a negative is turned over."""
    from vision.ocr.image import read_grey
    from vision.ocr.line import positive

    return positive(read_grey(path))


def pictures(folder: Path) -> list[Path]:
    """Pictures in a folder, sorted by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES]
