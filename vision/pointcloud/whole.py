"""A whole detector with sizes that never change, for graph formats: from points to heat and numbers.

Voxels, windows and merges have as many rows as a scan has; a graph wants to know how many. Here each list has
room for so many rows, and rows that are not used are marked. Sorting and scattering do the rest, and a linear
recurrence along a group is a doubling scan. The answer is that of the detector to rounding.
"""

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigError
from core.units.diagonal.min_unit import MinUnit
from vision.pointcloud.features import tensor_image
from vision.pointcloud.models.detector import LIONDetector
from vision.pointcloud.models.lion import LIONBlock, LIONLayer, PatchMerging3D
from vision.pointcloud.models.operators.both_ways import BothWays
from vision.pointcloud.sparse_conv import SubmanifoldConv
from vision.pointcloud.voxels import Voxels, from_keys, keys
from vision.pointcloud.windows import window_key

POINTS, ROOM = 65_536, 20_480
"""Points of a crop, and voxels of any level, that a graph has room for."""
FAR_M = 1e6
"""Where points lie that only fill the room."""
NONE = 1 << 40
"""The key of a row that is not used; larger than any."""


class VoxelRows(NamedTuple):
    """Voxels of one crop in a list with room for more."""

    features: Tensor
    """(V, C)"""
    coords: Tensor
    """(V, 4) int64: 0, z, y, x."""
    valid: Tensor
    """(V,) bool, the used ones first."""
    shape: tuple[int, int, int]

    def having(self, features: Tensor) -> "VoxelRows":
        """The same voxels with other features."""
        return self._replace(features=features)

    def as_voxels(self) -> Voxels:
        """For parts that look at each row alone."""
        return Voxels(self.features, self.coords, self.shape, 1)


def distinct(key: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Different keys in rising order (room,), `NONE` where there are no more, and the place of each key (N,).

    Keys that are `NONE`, and those for which there is no room, have the place `room`.
    """
    ranked, order = key.sort()
    first = torch.cat([ranked[:1] < NONE, (ranked[1:] != ranked[:-1]) & (ranked[1:] < NONE)])
    rank = torch.where(ranked < NONE, first.long().cumsum(0) - 1, room).clamp(max=room)
    found = torch.full((room + 1,), NONE, dtype=key.dtype, device=key.device).scatter(0, rank, ranked)
    return found[:room], torch.empty_like(rank).scatter(0, order, rank)


def rows_of(key: Tensor, features: Tensor, shape: tuple[int, int, int]) -> VoxelRows:
    """Rows of distinct keys."""
    valid = key < NONE
    return VoxelRows(features, from_keys(torch.where(valid, key, 0), shape), valid, shape)


def summed(x: Tensor, place: Tensor, room: int) -> Tensor:
    """Sums (room, C) of rows (N, C) that have the same place."""
    out = x.new_zeros(room + 1, x.shape[1])
    return out.scatter_add(0, place[:, None].expand_as(x), x)[:room]


def taken(x: Tensor, place: Tensor) -> Tensor:
    """Rows of x (V, C) at places; zeros at the place V."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).index_select(0, place)


def scan(a: Tensor, b: Tensor) -> Tensor:
    """h_t = a_t h_{t-1} + b_t along axis 1 from zero, in log2(T) doublings."""
    step = 1
    while step < a.shape[1]:
        b = b + a * functional.pad(b, (0, 0, step, 0))[:, : b.shape[1]]
        a = a * functional.pad(a, (0, 0, step, 0))[:, : a.shape[1]]
        step *= 2
    return b


class Whole(nn.Module):
    """points (P, 3) of a crop, heights above ground, filled up with `FAR_M` -> heat, numbers.

    Raises:
        ConfigError: a detector with other parts than LION layers of a unit with a linear scan.
    """

    def __init__(self, network: nn.Module, room: int = ROOM) -> None:
        super().__init__()
        if not isinstance(network, LIONDetector) or network.sweeps > 1:
            raise ConfigError("whole detectors of one sweep with LION layers become a graph; this is none.")
        for part in network.modules():
            if isinstance(part, LIONLayer) and not (
                part.group
                and room % part.group == 0
                and set(part.direction) <= {"x", "y"}
                and all(
                    isinstance(block, BothWays) and isinstance(block.forth, MinUnit) for block in part.blocks
                )
            ):
                raise ConfigError(
                    "the scan of this operator does not become a graph: that of min_gru and min_lstm does, "
                    f"along windows x and y in groups that divide {room:,}."
                )
            if isinstance(part, PatchMerging3D) and part.diff_scale:
                raise ConfigError("voxels that are generated do not become a graph.")
        self.network, self.room = network, room

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        crop = torch.zeros(len(points), dtype=torch.long, device=points.device)
        rows = self.voxels(points)
        for block, merge in zip(network.blocks, network.merges, strict=True):
            assert isinstance(block, LIONBlock)
            assert isinstance(merge, PatchMerging3D)
            rows, _ = self.merged(merge, self.block(block, rows))
        rows = self.layer(network.last, rows)
        image = tensor_image(points, crop, 1)
        both = torch.cat([network.flat(self.above(rows)), network.stem(image)], 1)
        return network.head(network.pyramid(network.join(both)))

    def voxels(self, points: Tensor) -> VoxelRows:
        """Points as voxels with learned features."""
        vfe = self.network.voxels
        low, size = points.new_tensor(vfe.bounds[:3]), points.new_tensor(vfe.size)
        cell = ((points - low) / size).floor()
        grid = points.new_tensor(vfe.grid)
        keep = ((cell >= 0) & (cell < grid)).all(1)
        x, y, z = torch.where(keep[:, None], cell, 0).long().unbind(1)
        shape = (vfe.grid[2], vfe.grid[1], vfe.grid[0])
        key = keys(torch.stack([torch.zeros_like(z), z, y, x], 1), shape)
        key, place = distinct(torch.where(keep, key, NONE), self.room)
        points = torch.where(keep[:, None], points, 0)
        count = summed(torch.ones_like(points[:, :1]), place, self.room).clamp(min=1)
        mean = summed(points, place, self.room) / count
        reach = points[:, :2].norm(dim=1, keepdim=True) / 20
        middle = (cell + 0.5) * size + low
        x = torch.cat([points, reach, points - taken(mean, place), points - middle], 1)
        x = torch.where(keep[:, None], x, 0)
        for layer in vfe.pfn_layers:
            own = layer.norm(layer.linear(x)).relu()  # pyright: ignore[reportCallIssue]
            top = own.new_zeros(self.room + 1, own.shape[1])
            top = top.scatter_reduce(0, place[:, None].expand_as(own), own, "amax")
            x = top[: self.room] if layer.last else torch.cat([own, top.index_select(0, place)], 1)
        return rows_of(key, x, shape)

    def layer(self, layer: nn.Module, rows: VoxelRows) -> VoxelRows:
        """A LION layer: each operator along its order."""
        assert isinstance(layer, LIONLayer)
        features = rows.features
        count = rows.valid.sum()
        starts = torch.arange(0, self.room, layer.group, device=features.device)
        filled = (count - starts).clamp(0, layer.group)
        for first, block in zip(layer.direction, layer.blocks, strict=True):
            key = window_key(rows.coords, rows.shape, layer.window, layer.shift, first)
            order = torch.where(rows.valid, key, NONE).sort().indices
            x = features.index_select(0, order).view(-1, layer.group, features.shape[1])
            y = self.operator(block, x, filled).flatten(0, 1)
            features = torch.empty_like(y).scatter(0, order[:, None].expand_as(y), y)
        return rows.having(features)

    def operator(self, block: nn.Module, x: Tensor, filled: Tensor) -> Tensor:
        """Both directions of a unit along groups (G, T, C)."""
        assert isinstance(block, BothWays)
        normed = block.norm(x)
        place = torch.arange(x.shape[1], device=x.device)
        mirror = filled[:, None] - 1 - place
        mirror = torch.where(mirror >= 0, mirror, place)[..., None].expand_as(x)
        forth = self.unit(block.forth, normed)
        back = self.unit(block.back, normed.gather(1, mirror))
        return x + block.out(forth + back.gather(1, mirror))

    def unit(self, unit: nn.Module, x: Tensor) -> Tensor:
        """A unit along whole groups from its empty state."""
        assert isinstance(unit, MinUnit)
        a, b, kept = unit.decays(x)
        return unit.readout(scan(a, b), kept)

    def block(self, block: LIONBlock, rows: VoxelRows) -> VoxelRows:
        """Encoder and decoder."""
        levels = []
        for layer, place, merge in zip(block.encoder, block.pos_emb_list, block.downsample_list, strict=True):
            rows = self.layer(layer, rows.having(rows.features + place(rows.as_voxels())))
            merged, inverse = self.merged(merge, rows)
            levels.append((rows, inverse))
            rows = merged
        for layer, norm, (fine, inverse) in zip(
            block.decoder, block.decoder_norm, reversed(levels), strict=True
        ):
            rows = fine.having(norm(fine.features + taken(self.layer(layer, rows).features, inverse)))
        return rows

    def merged(self, merge: nn.Module, rows: VoxelRows) -> tuple[VoxelRows, Tensor]:
        """Described and merged voxels, and where each row went."""
        assert isinstance(merge, PatchMerging3D)
        convolution, norm, act = merge.sub_conv
        described = act(norm(self.convolved(convolution, rows)))
        scale = rows.coords.new_tensor([1, *reversed(merge.down_scale)])
        depth, height, width = (
            -(-extent // size) for extent, size in zip(rows.shape, reversed(merge.down_scale), strict=True)
        )
        shape = (depth, height, width)
        key = torch.where(rows.valid, keys(rows.coords // scale, shape), NONE)
        key, inverse = distinct(key, self.room)
        return rows_of(key, merge.norm(summed(described, inverse, self.room)), shape), inverse

    def convolved(self, convolution: nn.Module, rows: VoxelRows) -> Tensor:
        """A submanifold convolution by a dense table of rows."""
        assert isinstance(convolution, SubmanifoldConv)
        depth, height, width = rows.shape
        _, z, y, x = rows.coords.unbind(1)
        cells = depth * height * width
        numbers = torch.arange(self.room, device=z.device)
        place = torch.where(rows.valid, (z * height + y) * width + x, cells)
        table = torch.full((cells + 1,), self.room, device=z.device).scatter(0, place, numbers)
        reach = [range(-(size // 2), size // 2 + 1) for size in convolution.kernel]
        steps = torch.tensor(list(product(*reach)), device=z.device)  # (K, 3) on z, y, x
        near = rows.coords[None, :, 1:] + steps[:, None]  # (K, V, 3)
        inside = ((near >= 0) & (near < near.new_tensor(rows.shape))).all(2) & rows.valid
        at = torch.where(inside, (near[..., 0] * height + near[..., 1]) * width + near[..., 2], cells)
        source = torch.where(inside, table[at], self.room)
        weight = convolution.weight.flatten(1, 3).permute(1, 2, 0)  # (K, I, O)
        out = (taken(rows.features, source.flatten()).unflatten(0, source.shape) @ weight).sum(0)
        return out if convolution.bias is None else out + convolution.bias

    def above(self, rows: VoxelRows) -> Tensor:
        """The volume seen from above, (1, C * Z, Y, X)."""
        depth, height, width = rows.shape
        _, z, y, x = rows.coords.unbind(1)
        cells = depth * height * width
        place = torch.where(rows.valid, (z * height + y) * width + x, cells)[:, None]
        flat = rows.features.new_zeros(cells + 1, rows.features.shape[1])
        flat = flat.scatter(0, place.expand_as(rows.features), rows.features)[:cells]
        return flat.view(depth, height, width, -1).permute(3, 0, 1, 2).reshape(1, -1, height, width)


def filled_up(points: Tensor, count: int = POINTS) -> Tensor:
    """Points (N, 3) of a crop in a list of `count`.

    Raises:
        ConfigError: there are more.
    """
    if len(points) > count:
        raise ConfigError(f"a crop of {len(points):,} points has no room in a graph of {count:,}.")
    return functional.pad(points, (0, 0, 0, count - len(points)), value=FAR_M)
