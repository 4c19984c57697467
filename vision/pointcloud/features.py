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
    layer = torch.bucketize(points[:, 2].contiguous(), edges, right=True) - 1
    cell = ((points[:, :2] - LOW) / CELL).floor().long()
    keep = ((cell >= 0) & (cell < CELLS)).all(1) & (layer >= 0) & (layer < SLICES)
    points, crop, layer, cell = points[keep], crop[keep].long(), layer[keep], cell[keep]
    place = cell[:, 1] * CELLS + cell[:, 0]
    area = CELLS * CELLS
    count = torch.zeros(crops * SLICES * area, device=device)
    count.index_add_(0, (crop * SLICES + layer) * area + place, torch.ones_like(points[:, 0]))
    count = count.view(crops, SLICES, CELLS, CELLS)
    image = torch.empty(crops, CHANNELS, CELLS, CELLS, device=device)
    image[:, :SLICES] = torch.where(count > 0, 0.5 + 0.25 * count.clamp(min=1).log().clamp(max=4), 0.0)
    top = torch.zeros(crops * area, device=device)
    top.scatter_reduce_(0, crop * area + place, points[:, 2].clamp(0, 4) / 3, "amax")
    image[:, SLICES] = top.view(crops, CELLS, CELLS)
    image[:, SLICES + 1] = count.sum(1).log1p() / 3
    reach, sector = cell_polar(device)
    image[:, SLICES + 2] = reach / 40
    far = torch.zeros(crops * SECTORS, device=device)
    ground = points[:, 2] < LOW_RETURN_M
    low = points[ground]
    direction = sector_of(low[:, 0], low[:, 1])
    far.scatter_reduce_(0, crop[ground] * SECTORS + direction, low[:, :2].norm(dim=1), "amax")
    image[:, SLICES + 3] = (far.view(crops, SECTORS)[:, sector] > reach).float()
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
