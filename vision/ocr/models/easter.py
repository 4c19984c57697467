"""EASTER2 (Chaudhary & Bali 2022, arXiv 2205.14879): convolutions along the columns of a line, no recurrence.

    old' = BN(conv1(old)) + BN(conv1(x)),   y = conv-BN-ReLU, twice, conv-BN,   x' = relu(old' + y SE(y))

A column of pixels is a step with as many features. SE gates the channels by their mean over the valid steps.
EASTER (2020) is the same family without gates and running sums; its table of layers could not be checked, nor
could EASTER2's padding, so both are ours in these points. Label 0 is the blank here, the last one there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNITS = ((256, 5, 0.2), (256, 7, 0.2), (256, 9, 0.3))
"""Filters, kernel and dropout of the three units."""


def inside(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x (B, C, T) with steps from `lengths` on set to zero."""
    if lengths is None:
        return x
    return x * (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None].to(x.dtype)


class Step(nn.Module):
    """Convolution, BatchNorm, and where asked ReLU and dropout: (B, I, T) -> (B, O, T / stride)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        drop: float | None,
    ) -> None:
        super().__init__()
        self.stride, self.drop = stride, drop
        # "same" of Keras at stride 2 pads nothing on the left and one step on the right
        padding = 0 if stride > 1 else dilation * (kernel - 1) // 2
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation)
        self.norm = nn.BatchNorm1d(outputs, eps=1e-5, momentum=0.003)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = self.norm(self.conv(F.pad(x, (0, 1)) if self.stride > 1 else x))
        if self.drop is not None:
            x = F.dropout(x.relu(), self.drop, self.training)
        return inside(x, lengths)


class Gate(nn.Module):
    """Squeeze and excitation over the valid steps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 8), nn.Linear(channels // 8, channels)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        count = x.shape[2] if lengths is None else lengths.clamp(min=1)[:, None].to(x.dtype)
        gate = self.up(self.down(x.sum(2) / count).relu()).sigmoid()
        return x * gate[..., None]


class Unit(nn.Module):
    """(old, x) -> (new x, new old)."""

    def __init__(self, old: int, inputs: int, filters: int, kernel: int, drop: float, gated: bool) -> None:
        super().__init__()
        self.old = Step(old, filters, 1, drop=None)
        self.new = Step(inputs, filters, 1, drop=None)
        self.body = nn.ModuleList(
            [
                Step(inputs, filters, kernel, drop=drop),
                Step(filters, filters, kernel, drop=drop),
                Step(filters, filters, kernel, drop=None),
            ]
        )
        self.gate = Gate(filters) if gated else None
        self.drop = drop

    def forward(self, old: Tensor, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        total = self.old(old, lengths) + self.new(x, lengths)
        y = x
        for step in self.body:
            y = step(y, lengths)
        if self.gate is not None:
            y = self.gate(y, lengths)
        return F.dropout((total + y).relu(), self.drop, self.training), total


class Easter(nn.Module):
    """ink (B, 1, H, W) in 0..1, widths (B,) -> logits (T, B, V), None. One frame every four columns."""

    stride = 4
    focal = True
    """Trained by 0.25 (1 - exp(-ctc))^0.5 ctc."""

    def __init__(self, outputs: int, height: int, *, gated: bool = True) -> None:
        super().__init__()
        self.gated = gated
        self.first = Step(height, 128, 3, stride=2, drop=0.2)
        self.second = Step(128, 128, 3, stride=2, drop=0.2)
        self.units = nn.ModuleList()
        before = 128
        for filters, kernel, drop in UNITS:
            self.units.append(Unit(before, before, filters, kernel, drop, gated))
            before = filters
        self.wide = Step(before, 512, 11, dilation=2, drop=0.4)
        self.mix = Step(512, 512, 1, drop=0.4)
        self.head = nn.Conv1d(512, outputs, 1)

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return widths // 2 // 2

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        widths = None if widths is None else widths.to(ink.device)
        half = None if widths is None else widths // 2
        lengths = None if half is None else half // 2
        x = self.second(self.first(ink[:, 0], half), lengths)  # (B, C, T)
        old = x
        for unit in self.units:
            x, total = unit(old, x, lengths)
            old = total if self.gated else x
        return self.head(self.mix(self.wide(x, lengths), lengths)).permute(2, 0, 1), None
