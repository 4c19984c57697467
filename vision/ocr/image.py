"""Any picture -> a grey array (H, W) of uint8, paper bright."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError

LARGEST = 120_000_000
"""Pixels of a page above which reading is refused: a page of A3 at 600 dpi has 70 million."""


def read_grey(source: Any) -> np.ndarray:
    """Grey image of a path, bytes, a file object, a PIL image or an array (H, W[, C]).

    EXIF rotation is applied, alpha lies on white, 16 bits become 8.

    Raises:
        DataError: not an image, damaged, empty or too large.
    """
    if isinstance(source, np.ndarray):
        return grey_array(source)
    from PIL import Image, UnidentifiedImageError

    name = str(source) if isinstance(source, (str, Path)) else "the image"
    try:
        if isinstance(source, Image.Image):
            return grey_image(source, name)
        opened = io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else source
        with Image.open(opened) as image:
            return grey_image(image, name)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file.") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: more pixels than are read ({LARGEST:,}).") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image.") from None
    except IsADirectoryError:
        raise DataError(f"{name}: a folder, not an image.") from None
    except Exception as error:  # decoders of damaged files raise whatever they like
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name}: a damaged image ({reason[:100]}).") from error


def grey_image(image: Any, name: str) -> np.ndarray:
    """Grey of an opened PIL image."""
    from PIL import Image, ImageOps

    if image.width * image.height > LARGEST:
        raise DataError(f"{name}: {image.width} x {image.height} pixels are more than are read.")
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        return grey_array(values if image.mode == "F" else values / 257)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("L"))


def grey_array(values: np.ndarray) -> np.ndarray:
    """Grey of an array: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4); floats in 0..1 or 0..255."""
    values = np.asarray(values)
    if values.ndim == 3 and values.shape[-1] in (3, 4):
        weights = np.array([0.299, 0.587, 0.114])
        shade = values[..., :3] @ weights
        if values.shape[-1] == 4:
            full = 1.0 if values.dtype.kind == "f" and values.max() <= 1 else 255.0
            alpha = values[..., 3] / full
            shade = shade * alpha + full * (1 - alpha)
        values = shade.round().astype(np.uint8) if values.dtype == np.uint8 else shade
    elif values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2 or not values.size:
        raise DataError(f"an image has rows and columns, and colours if any; got shape {values.shape}.")
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return (values / 257).round().astype(np.uint8)
    values = np.nan_to_num(values.astype(np.float64))
    if values.max() <= 1:
        values = values * 255
    return values.clip(0, 255).round().astype(np.uint8)
