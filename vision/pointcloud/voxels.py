"""Points to voxels, and voxels as rows of features with coordinates.

Coordinates are (batch, z, y, x); grid sizes of settings are (x, y, z), as published.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vision.pointcloud.rows import largest_rows


@dataclass(frozen=True)
class Voxels:
    """Occupied voxels of a batch; no two rows have the same coordinates."""

    features: Tensor
    """(N, C)"""
    coords: Tensor
    """(N, 4) int64: batch, z, y, x."""
    shape: tuple[int, int, int]
    """Extents of z, y, x."""
    batch: int
    memo: dict[Any, Any] = field(default_factory=dict, repr=False)
    """What was worked out for these coordinates: neighbours, orders. Shared by all features on them."""

    def having(self, features: Tensor) -> "Voxels":
        """The same voxels with other features."""
        return replace(self, features=features)

    def __len__(self) -> int:
        return len(self.coords)


def keys(coords: Tensor, shape: Sequence[int]) -> Tensor:
    """One number for each (batch, z, y, x), rising by batch, x, y, z: (N,) int64."""
    depth, height, width = shape
    batch, z, y, x = coords.long().unbind(1)
    return ((batch * width + x) * height + y) * depth + z


def from_keys(key: Tensor, shape: Sequence[int]) -> Tensor:
    """Coordinates (N, 4) of keys."""
    depth, height, width = shape
    z, key = key % depth, key // depth
    y, key = key % height, key // height
    return torch.stack([key // width, z, y, key % width], 1)


def dense(voxels: Voxels) -> Tensor:
    """(B, C, Z, Y, X) with zeros where there is no voxel."""
    depth, height, width = voxels.shape
    batch, z, y, x = voxels.coords.unbind(1)
    place = ((batch * depth + z) * height + y) * width + x
    out = voxels.features.new_zeros(voxels.batch * depth * height * width, voxels.features.shape[1])
    out = out.index_copy(0, place, voxels.features)
    return out.view(voxels.batch, depth, height, width, -1).permute(0, 4, 1, 2, 3)


def from_above(voxels: Voxels) -> Tensor:
    """(B, C * Z, Y, X), channel c * Z + z: the volume seen from above."""
    return dense(voxels).flatten(1, 2)


def from_above_as_stored(voxels: Voxels) -> Tensor:
    """(B, Z * C, Y, X), channel z * C + c: the same volume as it lies in memory, with channels last."""
    depth, height, width = voxels.shape
    batch, z, y, x = voxels.coords.unbind(1)
    place = ((batch * height + y) * width + x) * depth + z
    out = voxels.features.new_zeros(voxels.batch * height * width * depth, voxels.features.shape[1])
    out = out.index_copy(0, place, voxels.features)
    return out.view(voxels.batch, height, width, -1).permute(0, 3, 1, 2)


class PointLayer(nn.Module):
    """Linear, normalisation, ReLU and the maximum of each voxel; not last: each point keeps its own too."""

    def __init__(self, inputs: int, outputs: int, last: bool) -> None:
        super().__init__()
        self.last = last
        width = outputs if last else outputs // 2
        self.linear = nn.Linear(inputs, width, bias=False)
        self.norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)

    def forward(self, points: Tensor, voxel: Tensor, count: int) -> Tensor:
        x = self.norm(self.linear(points)).relu()
        top = largest_rows(x, voxel, count)
        return top if self.last else torch.cat([x, top.index_select(0, voxel)], 1)


class DynamicVoxels(nn.Module):
    """Points to voxels with learned features; no limit on points or voxels.

    A point's input is all its channels, its offset from the mean of its voxel and from the voxel's middle.
    """

    def __init__(
        self, channels: int, filters: Sequence[int], size: Sequence[float], bounds: Sequence[float]
    ) -> None:
        """size: of a voxel on x, y, z; bounds: x0 y0 z0 x1 y1 z1."""
        super().__init__()
        self.size, self.bounds = tuple(size), tuple(bounds)
        self.grid = tuple(round((bounds[3 + k] - bounds[k]) / size[k]) for k in range(3))
        widths = [channels + 6, *filters]
        self.pfn_layers = nn.ModuleList(
            PointLayer(widths[k], widths[k + 1], k == len(filters) - 1) for k in range(len(filters))
        )

    def forward(self, points: Tensor, sample: Tensor, batch: int) -> Voxels:
        """points (N, channels), x, y, z first; sample (N,) -> voxels in rising order of b, x, y, z."""
        low = points.new_tensor(self.bounds[:3])
        size = points.new_tensor(self.size)
        cell = ((points[:, :3] - low) / size).floor()  # by division in float32: see the traps of voxelising
        grid = points.new_tensor(self.grid)
        keep = ((cell >= 0) & (cell < grid)).all(1)
        points, sample, cell = points[keep], sample[keep].long(), cell[keep]
        shape = (self.grid[2], self.grid[1], self.grid[0])
        x, y, z = cell.long().unbind(1)
        key = keys(torch.stack([sample, z, y, x], 1), shape)
        key, voxel, count = key.unique(sorted=True, return_inverse=True, return_counts=True)
        mean = points.new_zeros(len(key), 3).index_add(0, voxel, points[:, :3]) / count[:, None]
        middle = (cell + 0.5) * size + low
        if not len(self.pfn_layers):  # no learned features: the means of the points
            mean = points.new_zeros(len(key), points.shape[1]).index_add(0, voxel, points) / count[:, None]
            return Voxels(mean, from_keys(key, shape), shape, batch)
        features = torch.cat([points, points[:, :3] - mean[voxel], points[:, :3] - middle], 1)
        for layer in self.pfn_layers:
            features = layer(features, voxel, len(key))
        return Voxels(features, from_keys(key, shape), shape, batch)
