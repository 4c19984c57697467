"""FRCRN (Zhao et al. 2022, arXiv 2206.07293) at 16 kHz: two complex U-Nets in a row, with FSMN memories.

    Y = STFT (640 / 320, root Hann);  u1 = unet(Y);  u2 = unet2(u1);  M = tanh u1 + tanh u2;  X = M Y

In the names of ClearerVoice-Studio, which registers every part twice (`encoder0` and `encoders.0`) and stores
its fixed transforms; either spelling loads, and the transforms are computed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.features import root_hann
from speech.models.parts import as_long_as

WINDOW, HOP, BINS = 640, 320, 321
DEPTH = 7
DOWN = [(5, 2)] * 6 + [(2, 2)]
UP = [(2, 2), (5, 2), (5, 2), (5, 2), (6, 2), (5, 2), (5, 2)]
PAST = 20
"""Frames, or bins, that a memory looks back, its own among them."""


def complex_product(re: Any, im: Any, x: Tensor) -> Tensor:
    """(re + j im) applied to x (..., 2), each with its own bias."""
    a, b = x.unbind(-1)
    return torch.stack([re(a) - im(b), re(b) + im(a)], -1)


class ComplexConv(nn.Module):
    """Two real convolutions."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], *, up: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.names = ("tconv_re", "tconv_im") if up else ("conv_re", "conv_im")
        whole = kernel == (1, 1)
        stride, pad = ((1, 1), (0, 0)) if whole else ((2, 1), (0, 1))
        for name in self.names:
            self.add_module(name, kind(inputs, outputs, kernel, stride=stride, padding=pad))

    def forward(self, x: Tensor) -> Tensor:
        re, im = getattr(self, self.names[0]), getattr(self, self.names[1])
        return complex_product(re, im, x)


class ComplexNorm(nn.Module):
    """A real batch norm for each part."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn_re = nn.BatchNorm2d(channels)
        self.bn_im = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.bn_re(x[..., 0]), self.bn_im(x[..., 1])], -1)


class Coder(nn.Module):
    """A convolution that halves or doubles the bins, norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], *, up: bool) -> None:
        super().__init__()
        self.name = "transconv" if up else "conv"
        self.add_module(self.name, ComplexConv(inputs, outputs, kernel, up=up))
        self.bn = ComplexNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.bn(getattr(self, self.name)(x)), 0.01)


class Memory(nn.Module):
    """FSMN that looks back: x + p + conv(p), p = W relu(V x): (B, T, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.project = nn.Linear(width, width, bias=False)
        self.conv1 = nn.Conv2d(width, width, (PAST, 1), groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        p = self.project(self.linear(x).relu()).transpose(1, 2)
        seen = F.conv1d(F.pad(p, (PAST - 1, 0)), self.conv1.weight[..., 0], groups=p.shape[1])
        return x + (p + seen).transpose(1, 2)


class ComplexMemory(nn.Module):
    """One or two complex memories along the bins of a frame, or along time: (B, C, F, T, 2)."""

    def __init__(self, width: int, layers: int, *, along_time: bool) -> None:
        super().__init__()
        self.layers, self.along_time = layers, along_time
        for layer in range(1, layers + 1):
            self.add_module(f"fsmn_re_L{layer}", Memory(width))
            self.add_module(f"fsmn_im_L{layer}", Memory(width))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.permute(0, 3, 1, 2, 4) if self.along_time else x.permute(0, 3, 2, 1, 4)
        # time: (B, T, C F, 2); frequency: (B T, F, C, 2)
        y = shape.flatten(2, 3) if self.along_time else shape.flatten(0, 1)
        for layer in range(1, self.layers + 1):
            re, im = (getattr(self, f"fsmn_{part}_L{layer}") for part in ("re", "im"))
            y = complex_product(re, im, y)
        y = y.reshape(shape.shape)
        return y.permute(0, 2, 3, 1, 4) if self.along_time else y.permute(0, 3, 2, 1, 4)


class Squeeze(nn.Module):
    """Gains from the mean over bins and time; each part is multiplied with its own."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        for name in ("fc_r", "fc_i"):
            gains = nn.Sequential(
                nn.Linear(channels, channels // reduction),
                nn.ReLU(),
                nn.Linear(channels // reduction, channels),
                nn.Sigmoid(),
            )
            self.add_module(name, gains)

    def forward(self, x: Tensor) -> Tensor:
        gains = complex_product(self.fc_r, self.fc_i, x.mean((2, 3)))  # (B, C, 2)
        return x * gains[:, :, None, None]


class UNet(nn.Module):
    """(B, 1, 321, T, 2) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for i in range(DEPTH):
            inputs = 1 if i == 0 else channels
            self.add_module(f"fsmn_enc{i}", ComplexMemory(channels, 1, along_time=False))
            self.add_module(f"encoder{i}", Coder(inputs, channels, DOWN[i], up=False))
            self.add_module(f"se_layer_enc{i}", Squeeze(channels))
            inputs = channels if i == 0 else 2 * channels
            outputs = 1 if i == DEPTH - 1 else channels
            self.add_module(f"fsmn_dec{i}", ComplexMemory(channels, 1, along_time=False))
            self.add_module(f"decoder{i}", Coder(inputs, outputs, UP[i], up=True))
            if i < DEPTH - 1:
                self.add_module(f"se_layer_dec{i}", Squeeze(channels))
        self.fsmn = ComplexMemory(channels, 2, along_time=True)
        self.linear = ComplexConv(1, 1, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i in range(DEPTH):
            if i:
                x = getattr(self, f"fsmn_enc{i}")(x)
            x = getattr(self, f"encoder{i}")(x)
            skips.append(getattr(self, f"se_layer_enc{i}")(x))
        x = self.fsmn(x)
        for i in range(DEPTH):
            x = getattr(self, f"decoder{i}")(x)
            if i == DEPTH - 1:
                break
            x = getattr(self, f"fsmn_dec{i}")(x)
            if i < DEPTH - 2:
                x = getattr(self, f"se_layer_dec{i}")(x)
            x = torch.cat([x, skips[DEPTH - 2 - i]], 1)
        return self.linear(x)


class FRCRN(nn.Module):
    """Noisy waves (B, N) at 16 kHz -> clean ones (B, N)."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.unet = UNet(channels)
        self.unet2 = UNet(channels)

    def forward(self, wave: Tensor) -> Tensor:
        samples = wave.shape[-1]
        whole = max(WINDOW, samples) + -(max(WINDOW, samples) - WINDOW) % HOP
        spectra = self.spectra(as_long_as(wave, whole))
        clean = spectra * torch.view_as_complex(self.mask(spectra).contiguous())
        return self.waves(clean)[..., :samples]

    def mask(self, spectra: Tensor) -> Tensor:
        """Spectra (B, 321, T) -> complex mask as (B, 321, T, 2), its parts in -2..2."""
        first = self.unet(torch.view_as_real(spectra)[:, None])
        return (first.tanh() + self.unet2(first).tanh())[:, 0]

    @staticmethod
    def spectra(wave: Tensor) -> Tensor:
        """(B, N) -> complex (B, 321, T), whole frames alone."""
        frames = wave.unfold(-1, WINDOW, HOP) * root_hann(WINDOW, like=wave)
        return torch.fft.rfft(frames).transpose(1, 2)

    @staticmethod
    def waves(spectra: Tensor) -> Tensor:
        """The inverse, divided by the sum of squared windows; sample 0 is always zero."""
        window = root_hann(WINDOW, like=spectra)
        frames = torch.fft.irfft(spectra.transpose(1, 2), n=WINDOW) * window
        total = (frames.shape[1] - 1) * HOP + WINDOW

        def added(parts: Tensor) -> Tensor:
            parts = parts.transpose(1, 2)
            return F.fold(parts, output_size=(1, total), kernel_size=(1, WINDOW), stride=(1, HOP))[:, 0, 0]

        return added(frames) / (added(window.square().expand(1, frames.shape[1], -1)) + 1e-8)
