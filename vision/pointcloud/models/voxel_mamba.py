"""Voxel Mamba (Zhang et al. 2024, arXiv 2406.10700): no groups, one Hilbert curve, two scales.

A block runs one recurrence forward over coarse voxels and one backward over fine ones; the two branches are
the two directions, so a unit that looks one way suffices. Names of parameters are those of the published
checkpoints.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from core.parts.norm import RMSNorm
from core.units.diagonal.mamba import Mamba
from vision.pointcloud.orders import hilbert
from vision.pointcloud.sparse_conv import InverseConv, StridedConv, SubmanifoldConv
from vision.pointcloud.voxels import Voxels

WINDOW = 12
Unit = Callable[[int], nn.Module]
"""Makes a core unit of a width."""


def norm(width: int) -> nn.BatchNorm1d:
    """Normalisation of voxels with the published constants."""
    return nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)


class Mixer(nn.Module):
    """A normalised sequence through one unit, without a residual: (1, T, C) -> same."""

    def __init__(self, width: int, unit: Unit) -> None:
        super().__init__()
        self.norm = RMSNorm(width, 1e-5)
        self.mixer = unit(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.mixer(self.norm(x))[0]


def published_mamba(width: int) -> nn.Module:
    """Mamba with its ordinary sizes."""
    return Mamba(width, width, state_size=16, conv_width=4, expand=2)


class PositionCode(nn.Sequential):
    """Places of voxels as features (N, C), from nine numbers; a window is only a number in the code."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(9, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))

    def of(self, voxels: Voxels) -> Tensor:
        depth, height, _ = voxels.shape
        _, z, y, x = voxels.coords.to(voxels.features.dtype).unbind(1)
        across = down = height // WINDOW + 1  # as published: x is divided by the extent of y
        half = WINDOW // 2
        numbers = torch.stack(
            [
                z / depth,
                (y // WINDOW) / down, (x // WINDOW) / across, (y % WINDOW) / WINDOW, (x % WINDOW) / WINDOW,
                ((y + half) // WINDOW) / down, ((x + half) // WINDOW) / across,
                ((y + half) % WINDOW) / WINDOW, ((x + half) % WINDOW) / WINDOW,
            ],
            1,
        )  # fmt: skip
        return self(numbers)


def along(features: Tensor, voxels: Voxels, bits: int, shift: int, mixer: nn.Module, back: bool) -> Tensor:
    """Features (N, C) through a mixer along the Hilbert curve of each sample, perhaps from its end on."""
    name = ("hilbert", bits, shift)
    if name not in voxels.memo:
        key = hilbert(voxels.coords[:, 1:] + shift, bits)
        key = (voxels.coords[:, 0] << (3 * bits)) | key
        voxels.memo[name] = (
            key.argsort(),
            torch.bincount(voxels.coords[:, 0], minlength=voxels.batch).tolist(),
        )
    order, counts = voxels.memo[name]
    outputs = []
    for rows in order.split(counts):
        if len(rows):
            x = features[rows.flip(0) if back else rows][None]
            y = mixer(x)[0]
            outputs.append(y.flip(0) if back else y)
    mixed = torch.cat(outputs) if outputs else features
    return torch.empty_like(mixed).index_copy(0, order, mixed)


class Refine(nn.Module):
    """ReLU(BN(submanifold convolution with bias) + x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = SubmanifoldConv(width, width, bias=True)
        self.bn1 = norm(width)

    def forward(self, voxels: Voxels) -> Voxels:
        return voxels.having(torch.relu(self.bn1(self.conv1(voxels)) + voxels.features))


class Coarsen(nn.Module):
    """To the coarse scale (or not, at stride 1), then refined there."""

    def __init__(self, width: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict()
        if stride > 1:
            conv = StridedConv(width, width, (kernel,) * 3, (stride,) * 3, (kernel // 2,) * 3)
            self.blocks["0"] = nn.ModuleList([conv, norm(width)])
        self.blocks["1"] = Refine(width)

    def forward(self, voxels: Voxels) -> Voxels:
        if "0" in self.blocks:
            conv, bn = self.blocks["0"]  # pyright: ignore[reportGeneralTypeIssues]
            voxels = conv(voxels)
            voxels = voxels.having(torch.relu(bn(voxels.features)))
        return self.blocks["1"](voxels)


class DualScaleBlock(nn.Module):
    """(N, C) -> (N, C): forward over coarse voxels, backward over fine ones, added on the fine ones."""

    def __init__(
        self,
        width: int,
        number: int,
        stride: int,
        kernel: int,
        bits: Sequence[int],
        unit: Unit = published_mamba,
    ) -> None:
        """number: of the block, added to coordinates before the curve; bits: of the fine and coarse curve."""
        super().__init__()
        self.number, self.stride, self.kernel, self.bits = number, stride, kernel, tuple(bits)
        self.mamba_encoder_list = nn.ModuleList([Mixer(width, unit), Mixer(width, unit)])
        self.conv_encoder = nn.ModuleDict({"1": Coarsen(width, stride, kernel)})
        up: nn.Module = SubmanifoldConv(width, width, (kernel,) * 3)
        if stride > 1:
            up = InverseConv(width, width, (kernel,) * 3)
        self.conv_decoder = nn.ModuleList([nn.ModuleList([up, norm(width)])])
        self.conv_decoder_norm = nn.ModuleList([norm(width)])
        self.norm, self.norm_back = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, voxels: Voxels, place: PositionCode) -> Voxels:
        features = voxels.features
        coarse = self.conv_encoder["1"](voxels)
        x = coarse.features + place.of(coarse)
        forth = self.norm(along(x, coarse, self.bits[1], self.number, self.mamba_encoder_list[0], back=False))
        x = features + place.of(voxels)
        fine = self.norm_back(
            along(x, voxels, self.bits[0], self.number, self.mamba_encoder_list[1], back=True)
        )
        up, bn = self.conv_decoder[0]  # pyright: ignore[reportGeneralTypeIssues]
        if self.stride > 1:
            raised = up(forth, voxels, (self.stride,) * 3, (self.kernel // 2,) * 3)
        else:
            raised = up(coarse.having(forth))
        raised = torch.relu(bn(raised))
        return voxels.having(self.conv_decoder_norm[0](raised + fine + features))


class DownZ(nn.Module):
    """Half of z: a strided convolution over three layers, normalised."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.add_module("0", StridedConv(width, width, (3, 1, 1), (2, 1, 1), (0, 0, 0)))
        self.add_module("1", norm(width))

    def forward(self, voxels: Voxels) -> Voxels:
        voxels = self.get_submodule("0")(voxels)
        return voxels.having(torch.relu(self.get_submodule("1")(voxels.features)))


class VoxelMamba(nn.Module):
    """Six dual-scale blocks, z halved after each pair and once more: voxels -> voxels of a plane."""

    def __init__(
        self,
        width: int,
        stages: Sequence[int] = (2, 2, 2),
        strides: Sequence[int] = (1, 2, 4),
        kernels: Sequence[int] = (3, 3, 5),
        bits: Sequence[int] = (9, 8, 7),
        unit: Unit = published_mamba,
    ) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.block_list, self.downZ_list = nn.ModuleList(), nn.ModuleList()
        number = 0
        for k, count in enumerate(stages):
            for _ in range(count):
                curve = (bits[0], bits[k])
                self.block_list.append(DualScaleBlock(width, number, strides[k], kernels[k], curve, unit))
                number += 1
            self.downZ_list.append(DownZ(width))
        self.conv_out = DownZ(width)
        self.pos_embed = PositionCode(width)

    def forward(self, voxels: Voxels) -> Voxels:
        """Voxels of a grid of Z layers; the sparse shape has one layer more, as published."""
        number = 0
        for count, down in zip(self.stages, self.downZ_list, strict=True):
            for _ in range(count):
                voxels = self.block_list[number](voxels, self.pos_embed)
                number += 1
            if number == len(self.block_list):
                voxels = self.conv_out(voxels)  # before the last halving, as published
            voxels = down(voxels)
        return voxels


def from_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published weights under the names here: the taps of Mamba's convolution lie along memory."""
    out = {}
    for name, value in tensors.items():
        if name.endswith("mixer.conv1d.weight"):
            out[name.replace("conv1d", "conv")] = value[:, 0].T.contiguous()
        else:
            out[name.replace("mixer.conv1d.", "mixer.conv.")] = value
    return out
