"""The LION detector for scans of any sensor: voxels, LION blocks, bird's-eye pyramid, heads.

Beside the voxels' own map, the stem reads what the bird's-eye network reads: the density and visibility of a
crop cannot be told from occupied voxels alone.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigError
from core.parts.recompute import checkpointed
from core.registry import build
from vision.pointcloud.assign import NUMBERS, SPEEDS
from vision.pointcloud.columns import spread
from vision.pointcloud.config import ModelConfig
from vision.pointcloud.crops import CELLS, HEIGHT_LOW, LOW, OUT_CELLS, SIZE
from vision.pointcloud.features import CHANNELS, bev_image
from vision.pointcloud.models.bev import BevNetwork, CropDetector, MapHead, Pyramid, conv
from vision.pointcloud.models.lion import LIONBlock, LIONLayer, PatchMerging3D
from vision.pointcloud.models.memory import SweepMemory
from vision.pointcloud.models.operators import build_operator
from vision.pointcloud.models.unimamba import UniMambaLevel
from vision.pointcloud.models.voxel_mamba import VoxelMamba
from vision.pointcloud.voxels import DynamicVoxels, Voxels, from_above_as_stored

YOUNG_S = 0.05
"""Age of points of the last sweep, at most."""


class LIONDetector(CropDetector):
    """Crops -> heat logits (B, 3, 128, 128) and numbers (B, 9, 128, 128)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        layers = config.layers
        top = HEIGHT_LOW + layers * config.layer_m
        self.cell = SIZE / OUT_CELLS
        self.sweeps = config.sweeps
        self.voxels = DynamicVoxels(
            5 if config.sweeps > 1 else 4, (dim, dim), (self.cell, self.cell, config.layer_m),
            (LOW, LOW, HEIGHT_LOW, LOW + SIZE, LOW + SIZE, top),
        )  # fmt: skip

        def operator() -> nn.Module:
            made = build_operator(config.operator, dim, config.drop_path)
            return checkpointed(made) if config.recompute else made

        def quarter(width: int) -> nn.Module:
            made = build_operator(config.operator, width, config.drop_path)
            return checkpointed(made) if config.recompute else made

        self.blocks = nn.ModuleList()
        self.merges = nn.ModuleList()
        left = layers >> config.blocks
        if config.backbone == "voxel_mamba":
            self.last: nn.Module = curve_body(config)
            left = 1
        else:
            for k in range(config.blocks):
                window, group = (config.window, config.window, max(1, layers >> k)), config.groups[k]
                if config.backbone == "unimamba":
                    self.blocks.append(UniMambaLevel(dim, config.window, quarter))
                else:
                    scales = ((2, 2, 2), (2, 2, 2))
                    self.blocks.append(LIONBlock(dim, scales, window, group, operator, config.orders))
                self.merges.append(PatchMerging3D(dim, -1, (1, 1, 2), config.generate))
            if config.backbone == "unimamba":
                self.last = nn.Identity()
            else:
                window = (config.window, config.window, max(1, left))
                self.last = LIONLayer(operator, window, config.groups[-1], True, config.orders)
        self.flat = conv(dim * left, config.width)
        self.stem = conv(CHANNELS, config.width, CELLS // OUT_CELLS)
        self.join = conv(2 * config.width, config.width)
        self.pyramid = Pyramid(config.width, config.deep, config.depth)
        self.head = MapHead(config.width, NUMBERS + (SPEEDS if config.sweeps > 1 else 0))
        self.memory = memory_of(config)

    def flattened(self, voxels: Voxels) -> Tensor:
        """The first convolution of the map; its weights are turned to how the volume lies in memory.

        Most columns hold no voxel: without gradients on a CPU only those that do are multiplied.
        """
        first, *rest = self.flat
        assert isinstance(first, nn.Conv2d)
        weight = first.weight.unflatten(1, (-1, voxels.shape[0])).transpose(1, 2).flatten(1, 2)
        if voxels.features.device.type == "cpu" and not torch.is_grad_enabled():
            x = spread(voxels, weight, first.bias)
        else:
            x = functional.conv2d(from_above_as_stored(voxels), weight, first.bias, padding=1)
        for part in rest:
            x = part(x)
        return x

    def features(self, points: Tensor, crop: Tensor, crops: int) -> Tensor:
        """The map (crops, width, 128, 128) that the heads read, of points (N, 3) with their crop (N,)."""
        reach = points[:, :2].norm(dim=1, keepdim=True) / 20
        voxels = self.voxels(torch.cat([points[:, :3], reach, points[:, 3:]], 1), crop, crops)
        for block, merge in zip(self.blocks, self.merges, strict=True):
            voxels, _ = merge(block(voxels))
        voxels = self.last(voxels)
        flat = self.flattened(voxels)
        if self.sweeps > 1:  # its density is that of one sweep
            now = points[:, 3] < YOUNG_S
            points, crop = points[now], crop[now]
        image = bev_image(points[:, :3], crop, crops).contiguous(memory_format=torch.channels_last)
        return self.pyramid(self.join(torch.cat([flat, self.stem(image)], 1)))


def curve_body(config: ModelConfig) -> nn.Module:
    """Voxel Mamba over the grid of a crop, two blocks for each setting of `blocks`.

    Raises:
        ConfigError: layers that so many stages do not bring down to a plane.
    """
    deep = config.layers
    for _ in range(config.blocks + 1):
        deep = (deep + 1 - 3) // 2 + 1 if deep == config.layers else (deep - 3) // 2 + 1
    if deep != 1:
        raise ConfigError(f"voxel_mamba: {config.layers} layers are no plane after {config.blocks} stages.")
    stages = config.blocks
    bits = (OUT_CELLS + 2 * stages).bit_length()
    name = "mamba" if config.operator == "Mamba" else config.operator

    def unit(width: int) -> nn.Module:
        return build(name, width, width)

    return OneMoreLayer(
        VoxelMamba(
            config.dim, (2,) * stages, tuple(1 << k for k in range(stages)),
            tuple(3 if k < 2 else 5 for k in range(stages)), (bits,) * stages, unit,
        )
    )  # fmt: skip


class OneMoreLayer(nn.Module):
    """The sparse shape has one layer more than the grid, as published."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, voxels: Voxels) -> Voxels:
        depth, height, width = voxels.shape
        return self.body(replace(voxels, shape=(depth + 1, height, width), memo={}))


def memory_of(config: ModelConfig) -> SweepMemory | None:
    """The memory over sweeps, where the configuration has one."""
    return SweepMemory(config.memory, config.width, SIZE / OUT_CELLS, LOW) if config.memory else None


def build_network(config: ModelConfig) -> nn.Module:
    """The network of a configuration."""
    if config.backbone == "bev":
        network = BevNetwork(config.width, config.deep, config.depth, config.sweeps)
        network.memory = memory_of(config)
        return network
    return LIONDetector(config)
