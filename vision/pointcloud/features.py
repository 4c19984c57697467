"""Crops as images seen from above: heights in slices, density, and what the sensor could see.

No intensity: it cannot be compared between sensors. One code path for training and detection, CPU and CUDA.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from vision.pointcloud.crops import CELL, CELLS, LOW

EDGES = (-0.6, 0.15, 0.40, 0.65, 0.90, 1.15, 1.40, 1.65, 1.90, 2.40, 3.20, 6.0)
SLICES = len(EDGES) - 1
CHANNELS = SLICES + 4
SECTORS = 720
LOW_RETURN_M = 0.5
"""Returns below this height tell how far the ground is seen in their direction."""


def bev_image(points: Tensor, crop: Tensor, crops: int) -> Tensor:
    """Points (N, 3) of crops, `crop` (N,) their crop -> (crops, 15, H, W); x runs along the last axis.

    Channels: eleven slices of height (0 when empty, else .5 + .25 min(ln n, 4) for n points), the highest
    point over 3 m, ln(1 + n) / 3, the range of the cell over 40 m, and whether the cell lies before the
    farthest low return of its direction.
    """
    device = points.device
    edges = torch.tensor(EDGES, device=device)
    layer = (points[:, 2:] >= edges).sum(1) - 1
    cell = ((points[:, :2] - LOW) / CELL).floor()
    keep = ((cell >= 0) & (cell < CELLS)).all(1) & (layer >= 0) & (layer < SLICES)
    crop, cell = crop.long(), torch.where(keep[:, None], cell, 0).long()
    place = cell[:, 1] * CELLS + cell[:, 0]
    area = CELLS * CELLS
    # what is not kept goes to one place more than there are, so that no size depends on the points
    count = torch.zeros(crops * SLICES * area + 1, device=device)
    where = torch.where(keep, (crop * SLICES + layer) * area + place, crops * SLICES * area)
    count = count.scatter_add(0, where, torch.ones_like(points[:, 0]))[:-1].view(crops, SLICES, CELLS, CELLS)
    image = torch.empty(crops, CHANNELS, CELLS, CELLS, device=device)
    image[:, :SLICES] = torch.where(count > 0, 0.5 + 0.25 * count.clamp(min=1).log().clamp(max=4), 0.0)
    top = torch.zeros(crops * area + 1, device=device)
    where = torch.where(keep, crop * area + place, crops * area)
    top = top.scatter_reduce(0, where, points[:, 2].clamp(0, 4) / 3, "amax")
    image[:, SLICES] = top[:-1].view(crops, CELLS, CELLS)
    image[:, SLICES + 1] = count.sum(1).log1p() / 3
    reach, sector = cell_polar(device)
    image[:, SLICES + 2] = reach / 40
    far = torch.zeros(crops * SECTORS + 1, device=device)
    low = keep & (points[:, 2] < LOW_RETURN_M)
    direction = crop * SECTORS + sector_of(points[:, 0], points[:, 1])
    where = torch.where(low, direction, crops * SECTORS)
    far = far.scatter_reduce(0, where, points[:, :2].norm(dim=1), "amax")
    image[:, SLICES + 3] = (far[:-1].view(crops, SECTORS)[:, sector] > reach).float()
    return image


def sector_of(x: Tensor, y: Tensor) -> Tensor:
    """Which of 720 directions a place lies in."""
    turns = torch.atan2(y, x) / (2 * math.pi)
    return (turns * SECTORS).floor().long() % SECTORS


@lru_cache(maxsize=4)
def cell_polar(device: torch.device) -> tuple[Tensor, Tensor]:
    """Range (H, W) and direction (H, W) of the middle of every cell."""
    middle = LOW + (torch.arange(CELLS, device=device) + 0.5) * CELL
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.hypot(x, y), sector_of(x, y)
