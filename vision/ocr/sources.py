"""A file -> its pictures: one of an image, every frame of a TIFF, every page of a PDF."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from vision.ocr.image import LARGEST, grey_image, read_grey

DPI = 300
"""Of a page of a PDF that is drawn; one that is a scan is taken at the scan's own."""
MOST = 10_000
"""Pages of one file."""


@dataclass(frozen=True)
class Picture:
    """One page as grey (H, W) of uint8, which of how many, and its pixels an inch where they are known."""

    grey: np.ndarray
    number: int = 1
    count: int = 1
    dpi: float | None = None


def is_pdf(source: Any) -> bool:
    """Whether a path, bytes or a file object holds a PDF."""
    if isinstance(source, (str, Path)):
        try:
            with open(source, "rb") as file:
                return b"%PDF-" in file.read(1024)
        except OSError:
            return False
    if isinstance(source, bytes):
        return b"%PDF-" in source[:1024]
    return False


def pictures(source: Any) -> Iterator[Picture]:
    """The pictures of a path, bytes, file object, PIL image or array, one after the other.

    Raises:
        DataError: damaged, too large, a PDF with a password or without pages.
        MissingExtraError: a PDF, and pypdfium2 is not installed.
    """
    if is_pdf(source):
        yield from pages_of_pdf(source)
        return
    if isinstance(source, (str, Path, bytes)) and (frames := frames_of(source)) > 1:
        yield from frames_of_tiff(source, frames)
        return
    yield Picture(read_grey(source), dpi=resolution(source))


def opened(source: Any) -> Any:
    """A PIL image of a path or bytes."""
    from PIL import Image

    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def frames_of(source: Any) -> int:
    """Frames of an image; 1 where it cannot be told."""
    try:
        with opened(source) as image:
            return min(int(getattr(image, "n_frames", 1)), MOST) if image.format == "TIFF" else 1
    except Exception:  # whatever is wrong with the image is told where it is read
        return 1


def frames_of_tiff(source: Any, count: int) -> Iterator[Picture]:
    """Every frame of a TIFF."""
    name = str(source) if isinstance(source, (str, Path)) else "the image"
    with opened(source) as image:
        for number in range(count):
            try:
                image.seek(number)
                grey = grey_image(image, name)
            except DataError:
                raise
            except Exception as error:  # decoders of damaged files raise whatever they like
                raise DataError(f"{name}: frame {number + 1} is damaged ({str(error)[:100]}).") from error
            yield Picture(grey, number + 1, count, resolution(image))


def resolution(source: Any) -> float | None:
    """Pixels an inch that an image tells, where they can be true."""
    try:
        info = source.info if hasattr(source, "info") else None
        if info is None:
            if not isinstance(source, (str, Path, bytes)):
                return None
            with opened(source) as image:
                info = image.info
        told = float(info["dpi"][0])
    except Exception:  # no such entry, or nonsense in it
        return None
    return told if 50 <= told <= 2400 else None


def pages_of_pdf(source: Any) -> Iterator[Picture]:
    """Every page of a PDF as it is seen, turned by its /Rotate."""
    from core.terminal import need

    need("ocr", "pypdfium2")
    import pypdfium2 as pdfium

    name = str(source) if isinstance(source, (str, Path)) else "the PDF"
    try:
        document = pdfium.PdfDocument(source)
    except (pdfium.PdfiumError, OSError) as error:
        told = "it needs a password" if "password" in str(error).lower() else "it is damaged"
        reason = "it has no pages" if is_empty(source) else told  # pdfium tells the fault of the file before
        raise DataError(f"{name}: the PDF cannot be opened; {reason}.") from error
    try:
        count = len(document)
        if not 0 < count <= MOST:
            raise DataError(f"{name}: a PDF of {count} pages; 1 to {MOST:,} are read.")
        for index in range(count):
            yield drawn(document[index], index + 1, count, name)
    finally:
        document.close()


def is_empty(source: Any) -> bool:
    """Whether a PDF that cannot be opened says in plain words that it has no pages."""
    try:
        content = Path(source).read_bytes() if isinstance(source, (str, Path)) else bytes(source)
    except (OSError, TypeError, ValueError):  # a file object has been read already
        return False
    tree = re.search(rb"/Type\s*/Pages\b", content) and re.search(rb"/Count\s+0\b", content)
    return bool(tree) and not re.search(rb"/Type\s*/Page\b", content)


def drawn(page: Any, number: int, count: int, name: str) -> Picture:
    """One page of a PDF at the resolution of its scan, or at 300 dots an inch."""
    try:
        width, height = page.get_size()
        dpi = scanned_at(page, width, height)
        scale = min(dpi / 72, (LARGEST / max(width * height, 1.0)) ** 0.5)
        grey = page.render(scale=scale, grayscale=True).to_numpy()
    except Exception as error:  # of the library, for a page of nonsense
        raise DataError(f"{name}: page {number} cannot be drawn ({str(error)[:100]}).") from error
    grey = np.ascontiguousarray(grey[..., 0] if grey.ndim == 3 else grey)
    return Picture(grey, number, count, scale * 72)


def scanned_at(page: Any, width: float, height: float) -> float:
    """Dots an inch of the one picture that fills a page, else 300."""
    import pypdfium2.raw as raw

    found = list(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE], max_depth=2))
    if len(found) != 1:
        return DPI
    x0, y0, x1, y1 = found[0].get_bounds() if hasattr(found[0], "get_bounds") else found[0].get_pos()
    if (x1 - x0) * (y1 - y0) < 0.9 * width * height:
        return DPI
    columns, rows = found[0].get_px_size() if hasattr(found[0], "get_px_size") else found[0].get_size()
    longest = max(columns, rows) / max(x1 - x0, y1 - y0, 1.0) * 72
    return float(np.clip(longest, 100, 600))
