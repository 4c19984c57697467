"""LION: linear recurrences over equal groups of voxels (Liu et al. 2024, arXiv 2407.18232).

A layer sorts voxels by windows, first along x, then along y, and runs an operator along groups of thousands
of them. A block is an encoder and decoder of such layers over merged voxels; between blocks z is halved.
Names of parameters are those of the published checkpoints.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vision.pointcloud.sparse_conv import SubmanifoldConv
from vision.pointcloud.voxels import Voxels, from_keys, keys
from vision.pointcloud.windows import slots

Operator = Callable[[], nn.Module]
"""Makes one operator: (groups (G, T, C), filled (G,)) -> (G, T, C)."""


class LIONLayer(nn.Module):
    """One operator per direction, one after the other; (N, C) -> (N, C)."""

    def __init__(
        self,
        operator: Operator,
        window: Sequence[int],
        group: int,
        shift: bool,
        direction: Sequence[str] = ("x", "y"),
    ) -> None:
        """window: sizes on x, y, z; group: tokens of a group, 0 for the whole sample."""
        super().__init__()
        self.window, self.group, self.shift, self.direction = tuple(window), group, shift, tuple(direction)
        self.blocks = nn.ModuleList(operator() for _ in direction)

    def forward(self, voxels: Voxels) -> Voxels:
        if not len(voxels):
            return voxels
        places, groups = slots(voxels, self.window, self.group, self.shift, self.direction)
        features = voxels.features
        length = len(groups.to_slots) // len(groups.filled)
        for first, block in zip(self.direction, self.blocks, strict=True):
            rows, back = places[first]
            x = features.index_select(0, rows).view(-1, length, features.shape[1])  # (G, T, C)
            features = block(x, groups.filled).flatten(0, 1).index_select(0, back)
        return voxels.having(features)


class PositionEmbedding(nn.Module):
    """Places in the grid, centred and scaled to +-pi, through two layers: (N, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Linear(3, width), nn.BatchNorm1d(width), nn.ReLU(inplace=True), nn.Linear(width, width)
        )

    def forward(self, voxels: Voxels) -> Tensor:
        extent = voxels.features.new_tensor(list(reversed(voxels.shape)))
        place = voxels.coords[:, [3, 2, 1]].to(extent.dtype)
        place = (place - extent / 2) / extent * 2 * 3.1415  # as published
        return self.position_embedding_head(place)


class PatchMerging3D(nn.Module):
    """Describe, perhaps generate, then merge voxels by whole factors on x, y, z.

    Gives the merged voxels and, for each row that went in, the row it went to.
    """

    def __init__(
        self, dim: int, out_dim: int = -1, down_scale: Sequence[int] = (2, 2, 2), diff_scale: float = 0.0
    ) -> None:
        """diff_scale: share of a sample's voxels that send out four neighbours; 0 for none."""
        super().__init__()
        out = dim if out_dim == -1 else out_dim
        self.sub_conv = nn.Sequential(SubmanifoldConv(dim, dim), nn.LayerNorm(dim), nn.GELU())
        self.norm = nn.LayerNorm(out)
        self.down_scale, self.diff_scale = tuple(down_scale), diff_scale

    def forward(self, voxels: Voxels) -> tuple[Voxels, Tensor]:
        voxels = voxels.having(self.sub_conv(voxels))
        features, coords = voxels.features, voxels.coords
        if self.diff_scale > 0:
            extra = generated(voxels, self.diff_scale)
            coords = torch.cat([coords, extra])
            features = torch.cat([features, features.new_zeros(len(extra), features.shape[1])])
        scale = coords.new_tensor([1, *reversed(self.down_scale)])
        depth, height, width = (
            -(-extent // size) for extent, size in zip(voxels.shape, reversed(self.down_scale), strict=True)
        )
        shape = (depth, height, width)
        key, inverse = keys(coords // scale, shape).unique(sorted=True, return_inverse=True)
        merged = features.new_zeros(len(key), features.shape[1]).index_add(0, inverse, features)
        return Voxels(self.norm(merged), from_keys(key, shape), shape, voxels.batch), inverse


def generated(voxels: Voxels, share: float) -> Tensor:
    """Coordinates of new voxels: four diagonal neighbours of the strongest `share` of every sample.

    Strength is the mean of a voxel's features; places beyond the border are moved onto it.
    """
    sample, strength = voxels.coords[:, 0], voxels.features.detach().float().mean(1)
    order = strength.argsort(descending=True, stable=True)
    order = order[sample[order].argsort(stable=True)]
    count = torch.bincount(sample, minlength=voxels.batch)
    rank = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[sample[order]]
    limit = (count.double() * share).floor().long()
    chosen = voxels.coords[order[rank < limit[sample[order]]]]
    _, height, width = voxels.shape
    steps = chosen.new_tensor([[0, 0, 1, -1], [0, 0, 1, 1], [0, 0, -1, -1], [0, 0, -1, 1]])
    new = (chosen[None] + steps[:, None]).flatten(0, 1)
    new[:, 2].clamp_(0, height - 1)
    new[:, 3].clamp_(0, width - 1)
    return new[new[:, 0].argsort(stable=True)]


def expand(fine: Voxels, coarse: Voxels, inverse: Tensor) -> Voxels:
    """What was merged is added to the voxels it came from."""
    return fine.having(fine.features + coarse.features.index_select(0, inverse[: len(fine)]))


class LIONBlock(nn.Module):
    """Encoder and decoder of LION layers over merged voxels; (N, C) -> (N, C) on the same voxels."""

    def __init__(
        self,
        dim: int,
        down_scales: Sequence[Sequence[int]],
        window: Sequence[int],
        group: int,
        operator: Operator,
        direction: Sequence[str] = ("x", "y"),
        shift: bool = True,
    ) -> None:
        super().__init__()
        depth = len(down_scales)
        shifts = [False, shift] * math.ceil(depth / 2)
        self.encoder = nn.ModuleList(
            LIONLayer(operator, window, group, shifts[k], direction) for k in range(depth)
        )
        self.downsample_list = nn.ModuleList(PatchMerging3D(dim, -1, scale) for scale in down_scales)
        self.pos_emb_list = nn.ModuleList(PositionEmbedding(dim) for _ in range(depth))
        self.decoder = nn.ModuleList(
            LIONLayer(operator, window, group, shifts[k], direction) for k in range(depth)
        )
        self.decoder_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth))

    def forward(self, voxels: Voxels) -> Voxels:
        if not len(voxels):
            return voxels
        levels = []
        x = voxels
        for layer, place, merge in zip(self.encoder, self.pos_emb_list, self.downsample_list, strict=True):
            x = layer(x.having(x.features + place(x)))
            merged, inverse = merge(x)
            levels.append((x, inverse))
            x = merged
        for layer, norm, (fine, inverse) in zip(
            self.decoder, self.decoder_norm, reversed(levels), strict=True
        ):
            x = expand(fine, layer(x), inverse)
            x = x.having(norm(x.features))
        return x


class LIONBackbone(nn.Module):
    """Four blocks with a merge of z after each, and one layer on what is left; x and y keep their extent.

    `windows` (x, y, z) and `groups` are those of the four blocks; the last layer has windows of 13 x 13 x 2
    and groups of 256. Parameters are named as in published checkpoints (`backbone_3d.`).
    """

    def __init__(
        self,
        dim: int,
        operator: Operator,
        windows: Sequence[Sequence[int]] = ((13, 13, 32), (13, 13, 16), (13, 13, 8), (13, 13, 4)),
        groups: Sequence[int] = (4096, 2048, 1024, 512),
        direction: Sequence[str] = ("x", "y"),
        shift: bool = True,
        diff_scale: float = 0.2,
        down_scales: Sequence[Sequence[Sequence[int]]] = (((2, 2, 2), (2, 2, 2)),) * 4,
        last: tuple[Sequence[int], int] = ((13, 13, 2), 256),
    ) -> None:
        super().__init__()
        self.stages = len(windows)
        for k in range(self.stages):
            block = LIONBlock(dim, down_scales[k], windows[k], groups[k], operator, direction, shift)
            self.add_module(f"linear_{k + 1}", block)
            self.add_module(f"dow{k + 1}", PatchMerging3D(dim, dim, (1, 1, 2), diff_scale))
        self.linear_out = LIONLayer(operator, last[0], last[1], True, direction)

    def forward(self, voxels: Voxels) -> tuple[Voxels, list[Voxels]]:
        """The last voxels, and those after each stage."""
        stages = []
        for k in range(1, self.stages + 1):
            voxels, _ = getattr(self, f"dow{k}")(getattr(self, f"linear_{k}")(voxels))
            stages.append(voxels)
        return self.linear_out(voxels), stages
