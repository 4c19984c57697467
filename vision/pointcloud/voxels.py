"""Points to voxels, and voxels as rows of features with coordinates.

Coordinates are (batch, z, y, x); grid sizes of settings are (x, y, z), as published.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.kernels.jit import compiled
from vision.pointcloud.rows import largest_rows

LARGEST_GRID = 1 << 27
"""Cells of a grid that is looked up through an index of all of them; larger ones are searched."""


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

    def looped(
        self, points: Tensor, shared: Tensor | None, voxel: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        """The same of points (N, I) beside what their voxels share (V, S); the norm is in the linear layer.

        What is shared goes through its part of the layer once a voxel instead of once a point. Gives what
        each point keeps and the largest of each voxel; of the last layer only the latter.
        """
        own = self.linear.weight[:, : points.shape[1]]
        bias = self.linear.bias if self.linear.bias is not None else own.new_zeros(len(own))
        if shared is None:
            base = bias.expand(count, -1).contiguous()
        else:
            base = shared @ self.linear.weight[:, points.shape[1] :].T + bias
        x = points @ own.T
        top = torch.zeros_like(base)
        point_loop(x.numpy(), base.numpy(), voxel.numpy(), self.last, top.numpy())
        return x, top


@compiled
def point_loop(x, base, voxel, last, top):  # noqa: ANN001, ANN201
    """x (N, C) = max(0, x + base (V, C) of its voxel), kept if not last; top (V, C) = the largest of each."""
    for p in range(len(x)):
        row = voxel[p]
        for c in range(x.shape[1]):
            value = max(x[p, c] + base[row, c], np.float32(0))
            if not last:
                x[p, c] = value
            top[row, c] = max(top[row, c], value)


@compiled
def ones(word):  # noqa: ANN001, ANN201
    """How many bits of a uint64 are set; compilers know this for one instruction."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled(fastmath=False)
def voxel_loop(points, sample, low, size, grid, bits, before, kept, voxel):  # noqa: ANN001, ANN201
    """Which points lie in the grid, in `kept`, and the row of the voxel of each, in `voxel`.

    Rows rise with cells. `bits`, zeros, has a bit for each cell of (B, X, Y, Z), set where it is occupied;
    `before` is for the number of occupied cells before each word. Gives how many points there are, and the
    cells of the rows.
    """
    count = 0
    for p in range(len(points)):
        x = math.floor((points[p, 0] - low[0]) / size[0])
        y = math.floor((points[p, 1] - low[1]) / size[1])
        z = math.floor((points[p, 2] - low[2]) / size[2])
        if 0 <= x < grid[0] and 0 <= y < grid[1] and 0 <= z < grid[2]:
            cell = ((sample[p] * grid[0] + int(x)) * grid[1] + int(y)) * grid[2] + int(z)
            kept[count], voxel[count] = p, cell
            bits[cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
            count += 1
    rows = 0
    for word in range(len(bits)):
        before[word] = rows
        rows += ones(bits[word])
    key = np.empty(rows, np.int64)
    for k in range(count):
        cell = voxel[k]
        lower = (np.uint64(1) << np.uint64(cell & 63)) - np.uint64(1)
        row = before[cell >> 6] + ones(bits[cell >> 6] & lower)
        voxel[k], key[row] = row, cell
    return count, key


@compiled(fastmath=False)
def mean_loop(points, kept, voxel, mean):  # noqa: ANN001, ANN201
    """mean (V, M), zeros, of the first M channels of the kept points of each voxel."""
    counts = np.zeros(len(mean), mean.dtype)
    for k in range(len(kept)):
        row = voxel[k]
        counts[row] += 1
        for c in range(mean.shape[1]):
            mean[row, c] += points[kept[k], c]
    for row in range(len(mean)):
        for c in range(mean.shape[1]):
            mean[row, c] /= counts[row]


@compiled(fastmath=False)
def offset_loop(points, kept, voxel, low, size, mean, out):  # noqa: ANN001, ANN201
    """out (N, C + 6): the channels of each kept point, its way from the mean and the middle of its voxel."""
    channels = points.shape[1]
    for k in range(len(kept)):
        p, row = kept[k], voxel[k]
        for c in range(channels):
            out[k, c] = points[p, c]
        for axis in range(3):
            cell = np.float32(math.floor((points[p, axis] - low[axis]) / size[axis]))
            out[k, channels + axis] = points[p, axis] - mean[row, axis]
            out[k, channels + 3 + axis] = points[p, axis] - (
                (cell + np.float32(0.5)) * size[axis] + low[axis]
            )


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
        if self.may_loop(points, batch):
            return self.looped(points, sample, batch)
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
        averaged = points[:, : self.averaged(points)]
        mean = averaged.new_zeros(len(key), averaged.shape[1]).index_add(0, voxel, averaged) / count[:, None]
        if not len(self.pfn_layers):
            return Voxels(mean, from_keys(key, shape), shape, batch)
        middle = (cell + 0.5) * size + low
        features = torch.cat([points, points[:, :3] - mean[voxel], points[:, :3] - middle], 1)
        for layer in self.pfn_layers:
            features = layer(features, voxel, len(key))
        return Voxels(features, from_keys(key, shape), shape, batch)

    def averaged(self, points: Tensor) -> int:
        """Channels whose means are asked for: the place; all, where means are the answer."""
        return 3 if len(self.pfn_layers) else points.shape[1]

    def may_loop(self, points: Tensor, batch: int) -> bool:
        """Whether compiled loops take these points: no gradients, on a CPU, in a grid that has an index."""
        folded = all(isinstance(layer.norm, nn.Identity) for layer in self.pfn_layers)
        learns = torch.is_grad_enabled() and any(part.requires_grad for part in (points, *self.parameters()))
        plain = points.device.type == "cpu" and points.dtype == torch.float32 and not learns
        return plain and folded and batch * math.prod(self.grid) <= LARGEST_GRID

    def looped(self, points: Tensor, sample: Tensor, batch: int) -> Voxels:
        """The same by loops over the points, with a bit for each cell in place of a sort."""
        place = np.array(self.bounds[:3], np.float32), np.array(self.size, np.float32)
        words = -(-batch * math.prod(self.grid) // 64)
        rows, of = points.detach().contiguous().numpy(), sample.long().contiguous().numpy()
        kept, voxel = np.empty(len(rows), np.int32), np.empty(len(rows), np.int32)
        index = np.zeros(words, np.uint64), np.empty(words, np.int32)
        found, key = voxel_loop(rows, of, *place, np.array(self.grid, np.int64), *index, kept, voxel)
        kept, voxel = kept[:found], voxel[:found]
        shape = (self.grid[2], self.grid[1], self.grid[0])
        coords = from_keys(torch.from_numpy(key), shape)
        mean = np.zeros((len(key), self.averaged(points)), np.float32)
        mean_loop(rows, kept, voxel, mean)
        if not len(self.pfn_layers):
            return Voxels(torch.from_numpy(mean), coords, shape, batch)
        features = np.empty((found, rows.shape[1] + 6), np.float32)
        offset_loop(rows, kept, voxel, *place, mean, features)
        x, shared, which = torch.from_numpy(features), None, torch.from_numpy(voxel)
        for layer in self.pfn_layers:
            assert isinstance(layer, PointLayer)
            x, shared = layer.looped(x, shared, which, len(key))
        assert shared is not None
        return Voxels(shared, coords, shape, batch)
