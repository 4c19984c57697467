"""Crops as images seen from above: heights in slices, density, and what the sensor could see.

No intensity: it cannot be compared between sensors. The tensor code is the definition, for training and
GPUs; detection on a CPU goes over the points once in a compiled loop.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from core.kernels.jit import compiled
from vision.pointcloud.crops import CELL, CELLS, LOW

EDGES = (-0.6, 0.15, 0.40, 0.65, 0.90, 1.15, 1.40, 1.65, 1.90, 2.40, 3.20, 6.0)
SLICES = len(EDGES) - 1
CHANNELS = SLICES + 4
SECTORS = 720
LOW_RETURN_M = 0.5
"""Returns below this height tell how far the ground is seen in their direction."""


def bev_image(points: Tensor, crop: Tensor, crops: int) -> Tensor:
    """The image of crops as `tensor_image` defines it; without gradients on a CPU by one loop."""
    if points.device.type == "cpu" and points.dtype == torch.float32 and not torch.is_grad_enabled():
        return looped_image(points, crop, crops)
    return tensor_image(points, crop, crops)


def tensor_image(points: Tensor, crop: Tensor, crops: int) -> Tensor:
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


def looped_image(points: Tensor, crop: Tensor, crops: int) -> Tensor:
    """The same by a loop, channels last in memory."""
    image = np.zeros((crops, CELLS, CELLS, CHANNELS), np.float32)
    far = np.zeros((crops, SECTORS), np.float32)
    rows, of = points.contiguous().numpy(), crop.long().contiguous().numpy()
    place = np.empty((len(rows), 2), np.int32)
    edges, grid = np.array(EDGES, np.float32), np.array([LOW, CELL, LOW_RETURN_M], np.float32)
    reach, sector = (part.numpy() for part in cell_polar(points.device))
    image_loop(rows, of, edges, grid, reach, sector, place, far, image)
    return torch.from_numpy(image).permute(0, 3, 1, 2)


@compiled(fastmath=False)
def image_loop(points, crop, edges, grid, reach, sector, place, far, image):  # noqa: ANN001, ANN201
    """Fill image (B, H, W, C) of zeros; numbers of points are kept below zero until all are counted."""
    low, cell, ground = grid[0], grid[1], grid[2]
    slices, size, sectors = len(edges) - 1, image.shape[1], far.shape[1]
    one, circle = np.float32(1), np.float32(2 * math.pi)
    for p in range(len(points)):
        x, y, z = points[p, 0], points[p, 1], points[p, 2]
        column, row = math.floor((x - low) / cell), math.floor((y - low) / cell)
        place[p, 0] = -1
        if not (0 <= column < size and 0 <= row < size and edges[0] <= z < edges[slices]):
            continue
        layer = 0
        while z >= edges[layer + 1]:
            layer += 1
        i, j = int(row), int(column)
        place[p, 0], place[p, 1] = i, j
        at = image[crop[p], i, j]
        at[layer] -= one
        at[slices + 1] -= one
        at[slices] = max(at[slices], min(max(z, np.float32(0)), np.float32(4)) / np.float32(3))
        if z < ground:
            turns = np.float32(math.atan2(y, x)) / circle
            direction = math.floor(turns * np.float32(sectors)) % sectors
            far[crop[p], direction] = max(far[crop[p], direction], np.float32(math.sqrt(x * x + y * y)))
    for p in range(len(points)):
        if place[p, 0] < 0:
            continue
        at = image[crop[p], place[p, 0], place[p, 1]]
        if at[slices + 1] < 0:
            at[slices + 1] = math.log(one - at[slices + 1]) / np.float32(3)
            for layer in range(slices):
                if at[layer] < 0:
                    dense = min(np.float32(math.log(-at[layer])), np.float32(4))
                    at[layer] = np.float32(0.5) + np.float32(0.25) * dense
    for b in range(len(image)):
        for i in range(size):
            for j in range(size):
                image[b, i, j, slices + 2] = reach[i, j] / np.float32(40)
                image[b, i, j, slices + 3] = one if far[b, sector[i, j]] > reach[i, j] else np.float32(0)
