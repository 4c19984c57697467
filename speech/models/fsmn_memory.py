"""Memories of MossFormer2: weighted sums of the frames around each (FSMN, arXiv 1512.08301).

memory  x + p + conv(p) over 39 frames,  p = W relu(V x)
dense   x + conv2([y, p]),  y = conv1(p): dilated, each with an instance norm and a PReLU
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.models.depthwise import add_along, add_depthwise, array, compiled_here, spread, taps_of
from speech.models.fused import columns, dealt, positive

Affine = tuple[Any, Any, Any, Any]
"""y (S, D), and of each feature scale, shift, slope: prelu(scale y + shift) is meant. Arrays of float32."""

REACH = 20
"""Frames that a memory looks to each side, itself among them."""


class Fsmn(nn.Module):
    """FSMN: x + p + conv(p) over 39 frames, p = W relu(V x): (B, S, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.project = nn.Linear(width, width, bias=False)
        self.remember(width)

    def remember(self, width: int) -> None:
        taps = 2 * REACH - 1
        self.conv1 = nn.Conv2d(width, width, (taps, 1), groups=width, bias=False)

    def projected(self, x: Tensor) -> Tensor:
        return self.project(self.linear(x).relu()).transpose(1, 2)  # (B, D, S)

    def projected_rows(self, x: Tensor) -> Tensor:
        """The same of (S, D), compiled: (S, D)."""
        return self.project(positive(F.linear(x, self.linear.weight), self.linear.bias))

    def forward(self, x: Tensor) -> Tensor:
        p = self.projected(x)
        seen = F.conv1d(p, self.conv1.weight[..., 0], padding=REACH - 1, groups=p.shape[1])
        return x + (p + seen).transpose(1, 2)

    def remembered(self, x: Tensor) -> Affine:
        """What is added to x (S, D), compiled."""
        p = self.projected_rows(x)
        y = add_depthwise(p[None], self.conv1.weight[..., 0], REACH - 1, p[None])[0].numpy()
        ones = np.ones(y.shape[1], np.float32)
        return y, ones, np.zeros_like(ones), ones


class DenseFsmn(Fsmn):
    """x + two dilated convolutions, the second of the first's output and its input together."""

    def remember(self, width: int) -> None:
        self.conv = DilatedDense(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.projected(x)).transpose(1, 2)

    def remembered(self, x: Tensor) -> Affine:
        return self.conv.unfinished(self.projected_rows(x))


class DilatedDense(nn.Module):
    """(B, D, S). A group of the second convolution has two neighbouring channels of the joined input, so it
    is the sum of two depthwise ones: seven times faster on a CPU than the grouped 2-D kernel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        taps = 2 * REACH - 1
        for i in (1, 2):
            conv = nn.Conv2d(i * width, width, (taps, 1), groups=width, bias=False, dilation=(i, 1))
            self.add_module(f"conv{i}", conv)
            self.add_module(f"norm{i}", nn.InstanceNorm2d(width, affine=True))
            self.add_module(f"prelu{i}", nn.PReLU(width))

    def unfinished(self, p: Tensor) -> Affine:
        """The second convolution of p (S, D) before its norm and its PReLU, compiled."""
        taps = [taps_of(conv.weight[:, part : part + 1, :, 0]) for conv, part in self.convolutions()]
        source, y = array(p), np.zeros(p.shape, np.float32)
        add_along(source, taps[0], REACH - 1, 1, y)
        first = affine(y, self.norm1, self.prelu1)
        even, odd, out = np.empty_like(y), np.empty_like(y), np.zeros_like(y)
        spread(lambda low, high: dealt(y, *first, source, low, high, even, odd), len(p))
        for part, tap in zip((even, odd), taps[1:], strict=True):
            add_along(part, tap, 2 * (REACH - 1), 2, out)
        return out, *affine(out, self.norm2, self.prelu2)

    def convolutions(self) -> list[tuple[Any, int]]:
        """The three depthwise convolutions: of which, and of which channel of a group."""
        return [(self.conv1, 0), (self.conv2, 0), (self.conv2, 1)]

    def frames(self, p: Tensor) -> Tensor:
        """The same on (S, D), compiled."""
        y, *rest = (torch.from_numpy(part) for part in self.unfinished(p))
        scale, shift, slope = rest
        y = y * scale + shift
        return torch.where(y > 0, y, y * slope)

    def forward(self, x: Tensor) -> Tensor:
        if compiled_here(x):
            return torch.stack([self.frames(row.T).T for row in x])
        skip, width = x, x.shape[1]
        for i in (1, 2):
            conv, norm, prelu = (getattr(self, f"{name}{i}") for name in ("conv", "norm", "prelu"))
            reach = i * (REACH - 1)
            parts = (
                F.conv1d(skip[:, part::i], conv.weight[:, part : part + 1, :, 0], None, 1, reach, i, width)
                for part in range(i)
            )
            x = prelu(norm(sum(parts)[..., None])[..., 0])  # pyright: ignore
            skip = torch.cat([x, skip], 1)
        return x


def affine(y: Any, norm: Any, prelu: Any) -> tuple[Any, Any, Any]:
    """Scale and shift of an instance norm of y (S, D), and slopes: (D,) each."""
    mean, variance = np.zeros(y.shape[1]), np.zeros(y.shape[1])
    columns(y, mean, variance)
    scale = array(norm.weight) / np.sqrt(variance + norm.eps)
    shift = array(norm.bias) - mean * scale
    return scale.astype(np.float32), shift.astype(np.float32), array(prelu.weight)
