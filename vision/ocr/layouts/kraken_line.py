"""Lines as kraken prepares them: scaled to a height, white beside them, ink high; boxes straightened."""

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import affine_transform, gaussian_filter, uniform_filter
from torch import Tensor

PADDING = 16


def prepared(
    grey: np.ndarray, spec: tuple[int, int, int, int], padding: int = PADDING, *, centred: bool = False
) -> Tensor:
    """Grey (h, w) of uint8 -> (C, H, W) for a spec that begins with batch, height, width, channels."""
    _, height, width, channels = spec
    turned = height == 1 and channels > 3
    H = channels if turned else height
    image = Image.fromarray(grey)
    if centred and channels != 3:
        image = Image.fromarray(centre_normalised(grey, H))
    if height > 1 and width > 0:
        image, padding = image.resize((width, height), Image.Resampling.LANCZOS), 0
    elif not centred or channels == 3:
        image = image.resize((max(1, int(image.width * H / image.height)), H), Image.Resampling.LANCZOS)
    if channels == 3:
        image = image.convert("RGB")
    x = np.asarray(image)
    x = x[..., None] if x.ndim == 2 else x
    x = np.pad(x, ((0, 0), (padding, padding), (0, 0)), constant_values=255)
    values = torch.from_numpy(x.copy()).permute(2, 0, 1).float() / 255
    values = values.max() - values
    return values.permute(1, 0, 2) if turned else values


def centre_normalised(grey: np.ndarray, height: int) -> np.ndarray:
    """The line with its centre of ink straightened, (height, w) of uint8 (Breuel's normaliser)."""
    image = grey.astype(np.float64)
    ink = image.max() - image
    if ink.max() == 0:
        return np.full((height, max(1, grey.shape[1])), grey.max(), np.uint8)
    ink = ink / ink.max()
    h, w = ink.shape
    smooth = gaussian_filter(ink, (h * 0.5, h * 1.0), mode="constant")
    smooth = smooth + 0.001 * uniform_filter(smooth, (int(h * 0.5), w), mode="constant")  # pyright: ignore
    centre = gaussian_filter(smooth.argmax(0).astype(np.float64), h * 0.3)
    centre = centre.astype(np.int64)
    distance = np.abs(np.arange(h)[:, None] - centre[None])[ink != 0]
    r = int(1 + 4.0 * distance.mean())
    padded = np.pad(image, ((r, r), (0, 0)), constant_values=image.max())
    cut = np.stack([padded[c : c + 2 * r, x] for x, c in enumerate(centre)], 1)
    factor = height / cut.shape[0]
    size = (height, int(factor * w))
    scaled = affine_transform(
        cut, np.eye(2) / factor, order=1, output_shape=size, mode="constant", cval=float(cut.max())
    )
    return scaled.clip(0, 255).astype(np.uint8)
