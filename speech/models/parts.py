"""Small parts that several published separators share, under their published names."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalNorm(nn.Module):
    """gLN: mean and variance over channels and all of time, one gain and shift a channel: (B, C, ...)."""

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.ndim))
        mean = x.mean(axes, keepdim=True)
        spread = (x - mean).square().mean(axes, keepdim=True)
        shape = (-1, *[1] * (x.ndim - 2))
        return (x - mean) / (spread + self.eps).sqrt() * self.gamma.view(shape) + self.beta.view(shape)


class CumulativeNorm(nn.Module):
    """cLN: as gLN, over the time so far: causal. (B, C, T)."""

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        count = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype) * x.shape[1]
        mean = x.sum(1).cumsum(-1) / count
        square = x.square().sum(1).cumsum(-1) / count
        scale = (square - mean.square()).clamp(min=0) + self.eps
        return (x - mean[:, None]) / scale.sqrt()[:, None] * self.gamma[:, None] + self.beta[:, None]


class Filters(nn.Module):
    """The filters of a learned filterbank under asteroid's names: `filterbank._filters` (N, 1, K)."""

    def __init__(self, count: int, length: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.filterbank = nn.Module()
        self.filterbank._filters = nn.Parameter(torch.empty(count, 1, length))
        nn.init.xavier_normal_(self.filterbank._filters)


class Encoder(Filters):
    """Waves (B, N) -> (B, filters, frames)."""

    def forward(self, wave: Tensor) -> Tensor:
        return F.conv1d(wave[:, None], self.filterbank._filters, stride=self.stride)  # pyright: ignore


class Decoder(Filters):
    """(B, filters, frames) -> waves (B, N)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose1d(x, self.filterbank._filters, stride=self.stride)[:, 0]  # pyright: ignore


def as_long_as(wave: Tensor, samples: int) -> Tensor:
    """Cut, or filled with zeros at the end."""
    return F.pad(wave, (0, max(0, samples - wave.shape[-1])))[..., :samples]


def long_enough(wave: Tensor, samples: int) -> Tensor:
    """Filled with zeros at the end up to at least so many samples."""
    return F.pad(wave, (0, max(0, samples - wave.shape[-1])))
