"""The bird's-eye network: height slices, residual convolutions at .4, .8 and 1.6 m, heat maps and boxes.

It has no recurrence: it is the baseline that stands in every table, and the last part of `tiny`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from vision.pointcloud.assign import NUMBERS, SPEEDS
from vision.pointcloud.features import CHANNELS, bev_image
from vision.pointcloud.models.memory import SweepMemory
from vision.pointcloud.voxels import PointLayer

HEAT_BIAS = -3.5
CLASSES = 3


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions and a skip, (B, C, H, W) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = conv(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width, eps=1e-3, momentum=0.03)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


class Pyramid(nn.Module):
    """Features at .4 m (B, C, H, W) through .8 and 1.6 m and back: (B, C, H, W)."""

    def __init__(self, width: int, deep: int, blocks: int) -> None:
        super().__init__()
        self.fine = Residual(width)
        self.middle = nn.Sequential(conv(width, deep, 2), *[Residual(deep) for _ in range(blocks)])
        self.coarse = nn.Sequential(conv(deep, deep, 2), *[Residual(deep) for _ in range(blocks)])
        self.to_half = nn.Conv2d(deep, deep, 1)
        self.to_fine = nn.Conv2d(deep, width, 1)
        self.last = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fine(x)
        half = self.middle(x)
        half = half + functional.interpolate(self.to_half(self.coarse(half)), scale_factor=2.0)
        return self.last(x + functional.interpolate(self.to_fine(half), scale_factor=2.0))


class MapHead(nn.Module):
    """Heat maps of three classes and nine numbers, or more, from features (B, C, H, W)."""

    def __init__(self, width: int, numbers: int = NUMBERS) -> None:
        super().__init__()
        self.heat = nn.Conv2d(width, CLASSES, 3, 1, 1)
        self.numbers = nn.Conv2d(width, numbers, 3, 1, 1)
        nn.init.constant_(self.heat.bias, HEAT_BIAS)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.heat(x), self.numbers(x)


def folded(network: nn.Module) -> nn.Module:
    """The same network for detection: every normalisation is part of the layer before it."""
    for module in network.modules():
        if isinstance(module, PointLayer) and isinstance(module.norm, nn.BatchNorm1d):
            module.linear, module.norm = fuse_linear_bn_eval(module.linear, module.norm), nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        if not isinstance(module, nn.Sequential) or len(module) < 2:
            continue
        first, second = module[0], module[1]
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(first, second).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            module[1] = nn.Identity()
        if isinstance(first, nn.Linear) and isinstance(second, nn.BatchNorm1d):
            module[0], module[1] = fuse_linear_bn_eval(first, second), nn.Identity()
    return network


class CropDetector(nn.Module):
    """What detectors of crops share: heads on a map of features, and perhaps a memory before them."""

    head: "MapHead"
    memory: SweepMemory | None
    sweeps: int = 1
    """Above 1 points have a fourth column, their age in seconds, and boxes have velocities."""

    def features(self, points: Tensor, crop: Tensor, crops: int) -> Tensor:
        """The map (crops, width, H, W) that the heads read."""
        raise NotImplementedError

    def forward(self, points: Tensor, crop: Tensor, crops: int) -> tuple[Tensor, Tensor]:
        """Points (N, 3) with the number of their crop (N,)."""
        features = self.features(points, crop, crops)
        if not torch.is_autocast_enabled(points.device.type):
            return self.head(features)
        with torch.autocast(points.device.type, enabled=False):  # the heads stay exact
            return self.head(features.float())

    def remember(self, features: Tensor, state: Any, motion: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Heat, numbers (B, 11, H, W) with velocities, and the state after this sweep.

        Args:
            state: that of the sweep before, or None.
            motion: (B, 3) of the frame of each crop since then.
        """
        assert self.memory is not None
        features, speed, state = self.memory(features, state, motion)
        heat, numbers = self.head(features)
        return heat, torch.cat([numbers, speed], 1), state


class BevNetwork(CropDetector):
    """Crops -> heat logits (B, 3, 128, 128) and numbers (B, 9, 128, 128)."""

    def __init__(self, width: int = 32, deep: int = 64, blocks: int = 2, sweeps: int = 1) -> None:
        super().__init__()
        self.stem = conv(CHANNELS, width, 2)
        self.pyramid = Pyramid(width, deep, blocks)
        self.head = MapHead(width, NUMBERS + (SPEEDS if sweeps > 1 else 0))
        self.memory, self.sweeps = None, sweeps

    def features(self, points: Tensor, crop: Tensor, crops: int) -> Tensor:
        """The map (crops, width, 128, 128) that the heads read."""
        image = bev_image(points[:, :3], crop, crops).contiguous(memory_format=torch.channels_last)
        return self.pyramid(self.stem(image))
