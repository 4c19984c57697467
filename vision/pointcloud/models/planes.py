"""Bird's-eye backbones of published detectors: plain and residual levels, each brought back to one scale.

Names of parameters are those of OpenPCDet's checkpoints (`backbone_2d.`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

EPS, MOMENTUM = 1e-3, 0.01


def norm(width: int) -> nn.BatchNorm2d:
    """Normalisation with the published constants."""
    return nn.BatchNorm2d(width, eps=EPS, momentum=MOMENTUM)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the skip is a 1x1 convolution where `down` says so."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, down: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = norm(outputs)
        self.downsample_layer = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs)) if down else None
        )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample_layer is None else self.downsample_layer(x)
        return functional.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + skip)


def up_branch(inputs: int, outputs: int, stride: float) -> nn.Sequential:
    """From a level to the common scale; a stride below 1 makes it coarser."""
    if stride >= 1:
        size = round(stride)
        layer: nn.Module = nn.ConvTranspose2d(inputs, outputs, size, size, bias=False)
    else:
        size = round(1 / stride)
        layer = nn.Conv2d(inputs, outputs, size, size, bias=False)
    return nn.Sequential(layer, norm(outputs), nn.ReLU())


class BEVBackbone(nn.Module):
    """(B, C, H, W) -> (B, sum of up_filters, H', W'); `residual` chooses the kind of level."""

    def __init__(
        self,
        inputs: int,
        layers: Sequence[int],
        strides: Sequence[int],
        filters: Sequence[int],
        up_strides: Sequence[float],
        up_filters: Sequence[int],
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.blocks, self.deblocks = nn.ModuleList(), nn.ModuleList()
        for count, stride, width, up, up_width in zip(
            layers, strides, filters, up_strides, up_filters, strict=True
        ):
            level = residual_level if residual else plain_level
            self.blocks.append(level(inputs, width, stride, count))
            self.deblocks.append(up_branch(width, up_width, up))
            inputs = width

    def forward(self, x: Tensor) -> Tensor:
        ups = []
        for block, up in zip(self.blocks, self.deblocks, strict=True):
            x = block(x)
            ups.append(up(x))
        return torch.cat(ups, 1)


def plain_level(inputs: int, width: int, stride: int, count: int) -> nn.Sequential:
    """A strided convolution and `count` more."""
    parts: list[nn.Module] = [nn.ZeroPad2d(1), nn.Conv2d(inputs, width, 3, stride, bias=False)]
    parts += [norm(width), nn.ReLU()]
    for _ in range(count):
        parts += [nn.Conv2d(width, width, 3, 1, 1, bias=False), norm(width), nn.ReLU()]
    return nn.Sequential(*parts)


def residual_level(inputs: int, width: int, stride: int, count: int) -> nn.Sequential:
    """A strided residual block and `count` more."""
    first = ResidualBlock(inputs, width, stride, down=True)
    return nn.Sequential(first, *[ResidualBlock(width, width) for _ in range(count)])
