"""Training lines in new shapes: geometry, strokes, ink and paper, batched on the device of the images.

All draws of an example come from the generator of its batch, which is a function of (seed, epoch, batch):
small tensors of parameters are drawn where the batch is made, the pixels are computed where it is used.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.ocr.config import AugmentConfig

COARSE = (3, 24)
"""Grid of the elastic field, rows and columns."""


class Draws(NamedTuple):
    """What changes each line of a batch; every tensor is (B,) but for the fields."""

    stretch: Tensor
    slant: Tensor
    angle: Tensor
    squash: Tensor
    shift: Tensor
    thickness: Tensor
    """Below zero thinner, above thicker."""
    blur: Tensor
    gain: Tensor
    gamma: Tensor
    noise: Tensor
    stain: Tensor
    tile: Tensor
    """(B, 3): start and width as shares of the line, what fills it (below 0 nothing happens)."""
    elastic: Tensor
    """(B, 2, rows, columns) in pixels."""
    paper: Tensor
    """(B, 1, rows, columns), low-frequency darkening."""


def draw(count: int, config: AugmentConfig, generator: torch.Generator) -> Draws:
    """Parameters for `count` lines."""
    k = config.strength

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    def sometimes(chance: float, value: Tensor) -> Tensor:
        return torch.where(torch.rand(count, generator=generator) < chance, value, torch.zeros(()))

    tile = torch.stack([uniform(0, 1), uniform(0.01, 0.06), uniform(0, 1)], 1)
    chosen = torch.rand(count, generator=generator) < config.patches * k
    tile[:, 2] = torch.where(chosen, tile[:, 2], torch.tensor(-1.0))
    return Draws(
        stretch=1 + uniform(-1, 1) * config.stretch * k,
        slant=uniform(-1, 1) * config.slant * k,
        angle=uniform(-1, 1) * math.radians(config.rotate) * k,
        squash=1 + uniform(-1, 1) * config.squash * k,
        shift=uniform(-1, 1) * config.shift * k,
        thickness=sometimes(config.thickness * k, uniform(-0.8, 0.8)),
        blur=sometimes(config.blur * k, uniform(0.3, 1.0)),
        gain=1 + uniform(-1, 0.3) * config.contrast * k,
        gamma=1 + uniform(-1, 1) * config.contrast * k,
        noise=sometimes(0.5, uniform(0, 1) * config.noise * k),
        stain=sometimes(0.3 * min(k, 1), uniform(0, 0.2)),
        tile=tile,
        elastic=torch.randn(count, 2, *COARSE, generator=generator) * config.elastic * k,
        paper=torch.rand(count, 1, *COARSE, generator=generator),
    )


def stretched(widths: Tensor, draws: Draws, grain: int) -> Tensor:
    """Widths after stretching, in whole grains: what a batch must have room for."""
    return ((widths * draws.stretch / grain).ceil().clamp(min=1) * grain).long()


def augment(ink: Tensor, widths: Tensor, new_widths: Tensor, draws: Draws, seed: int) -> Tensor:
    """ink (B, 1, H, W) in 0..1 with valid widths -> (B, 1, H, W') with `new_widths`."""
    H, W = ink.shape[-2:]
    out = int(new_widths.max())
    y = torch.arange(H, device=ink.device, dtype=torch.float32)[None, :, None]
    x = torch.arange(out, device=ink.device, dtype=torch.float32)[None, None, :]

    def column(values: Tensor) -> Tensor:
        return values.to(ink.device)[:, None, None]

    middle = (H - 1) / 2
    rise = y - middle - column(draws.shift) * H
    scale = column(widths / new_widths)
    across = x * scale + column(draws.slant) * rise + rise * column(draws.angle) * 0.5
    half = column(new_widths) / 2
    # a long line turned about its middle would leave its frame: the angle bends to what fits
    lean = (column(draws.angle) * (x - half)).clamp(-0.12 * H, 0.12 * H)
    down = middle + rise / column(draws.squash) + lean
    field = F.interpolate(draws.elastic.to(ink.device), size=(H, out), mode="bicubic", align_corners=True)
    across, down = across + field[:, 0], down + field[:, 1] * 0.6
    grid = torch.stack([(2 * across + 1) / W - 1, (2 * down + 1) / H - 1], -1)  # (B, H, W', 2)
    ink = F.grid_sample(ink, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    ink = strokes(ink, draws)
    ink = shades(ink, draws, seed)
    inside = torch.arange(out, device=ink.device) < new_widths.to(ink.device)[:, None]
    return ink * inside[:, None, None, :]


def strokes(ink: Tensor, draws: Draws) -> Tensor:
    """Thicker or thinner strokes, and blur."""
    amount = draws.thickness.to(ink.device)[:, None, None, None]
    thick = F.max_pool2d(ink, 3, 1, 1)
    thin = -F.max_pool2d(-ink, 3, 1, 1)
    ink = torch.where(amount > 0, ink + amount * (thick - ink), ink - amount * (thin - ink))
    smooth = F.avg_pool2d(ink, 3, 1, 1)
    blur = draws.blur.to(ink.device)[:, None, None, None]
    return ink + blur * (smooth - ink)


def shades(ink: Tensor, draws: Draws, seed: int) -> Tensor:
    """Gain, gamma, stains of the paper, noise, and a tile that is wiped, filled or made noise."""

    def each(values: Tensor) -> Tensor:
        return values.to(ink.device)[:, None, None, None]

    generator = torch.Generator(ink.device).manual_seed(seed)
    ink = ink.clamp(0, 1) ** each(draws.gamma) * each(draws.gain)
    field = F.interpolate(draws.paper.to(ink.device), size=ink.shape[-2:], mode="bilinear")
    noise = torch.randn(ink.shape, device=ink.device, generator=generator)
    ink = ink + each(draws.stain) * field + each(draws.noise) * noise
    W = ink.shape[-1]
    x = torch.arange(W, device=ink.device) / W
    start, size, kind = draws.tile.to(ink.device).unbind(1)
    tile = (x >= start[:, None]) & (x < (start + size)[:, None]) & (kind >= 0)[:, None]
    filling = torch.where(each(kind) < 0.5, torch.zeros_like(ink), noise.abs() * 0.4)
    filling = torch.where(each(kind) > 0.85, torch.full_like(ink, 0.5), filling)
    return torch.where(tile[:, None, None, :], filling, ink).clamp(0, 1)
