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
from speech.models.depthwise import add_depthwise, compiled_here
from speech.models.parts import as_long_as

WINDOW, HOP, BINS = 640, 320, 321
DEPTH = 7
DOWN = [(5, 2)] * 6 + [(2, 2)]
UP = [(2, 2), (5, 2), (5, 2), (5, 2), (6, 2), (5, 2), (5, 2)]
PAST = 20
"""Frames, or bins, that a memory looks back, its own among them."""


Pair = tuple[Tensor, Tensor]
"""Real and imaginary parts, which lie apart: a layer reads each of them in one piece."""


def complex_product(re: Any, im: Any, x: Pair) -> Pair:
    """(re + j im) applied to x, each with its own bias: both parts go through each at once."""
    both = torch.cat(x)
    (ra, rb), (ia, ib) = re(both).chunk(2), im(both).chunk(2)
    return ra - ib, rb + ia


def transposed(
    x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """A transposed convolution of stride (2, 1) as two plain ones, for even and odd bins.

    Torch's own one on a CPU multiplies with all taps at once and adds up afterwards.
    """
    if stride != (2, 1) or padding[0] or padding[1] >= weight.shape[3]:
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    back = weight.transpose(0, 1).flip(2, 3)  # (out, in, K, L), the last tap first
    taps, aside = weight.shape[2], weight.shape[3] - 1 - padding[1]
    phases = [back[:, :, (taps - 1 - phase) % 2 :: 2] for phase in (0, 1)]
    found = [F.conv2d(x, part, bias, 1, (part.shape[2] - 1, aside)) for part in phases]
    shape = (len(x), len(back), 2 * x.shape[2] + taps - 2, found[0].shape[3])
    near = (
        torch.channels_last
        if found[0].is_contiguous(memory_format=torch.channels_last)
        else torch.contiguous_format
    )
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=near)
    out[:, :, 0::2], out[:, :, 1::2] = found
    return out


class ComplexConv(nn.Module):
    """Two real convolutions, of which three are made (Gauss): R (a + b), (I - R) a, (R + I) b."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], *, up: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.names = ("tconv_re", "tconv_im") if up else ("conv_re", "conv_im")
        self.up, whole = up, kernel == (1, 1)
        self.places: dict[str, Any] = {
            "stride": (1, 1) if whole else (2, 1),
            "padding": (0, 0) if whole else (0, 1),
        }
        for name in self.names:
            self.add_module(name, kind(inputs, outputs, kernel, **self.places))

    def forward(self, x: Pair) -> Pair:
        re, im = getattr(self, self.names[0]), getattr(self, self.names[1])
        conv = transposed if self.up else F.conv2d
        a, b = x
        both = conv(a + b, re.weight, re.bias, **self.places)
        real = both - conv(b, re.weight + im.weight, im.bias, **self.places)
        return real, both + conv(a, im.weight - re.weight, im.bias, **self.places)


class ComplexNorm(nn.Module):
    """A real batch norm for each part."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn_re = nn.BatchNorm2d(channels)
        self.bn_im = nn.BatchNorm2d(channels)

    def forward(self, x: Pair) -> Pair:
        return self.bn_re(x[0]), self.bn_im(x[1])


class Coder(nn.Module):
    """A convolution that halves or doubles the bins, norm, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], *, up: bool) -> None:
        super().__init__()
        self.name = "transconv" if up else "conv"
        self.add_module(self.name, ComplexConv(inputs, outputs, kernel, up=up))
        self.bn = ComplexNorm(outputs)

    def forward(self, x: Pair) -> Pair:
        a, b = self.bn(getattr(self, self.name)(x))
        return F.leaky_relu(a, 0.01), F.leaky_relu(b, 0.01)


class FrequencyFsmn(nn.Module):
    """FSMN that looks back: x + p + conv(p), p = W relu(V x): (B, T, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.project = nn.Linear(width, width, bias=False)
        self.conv1 = nn.Conv2d(width, width, (PAST, 1), groups=width, bias=False)

    def over_rows(self, x: Tensor) -> Tensor:
        """The same along the first axis of (S, T, C)."""
        p = self.project(self.linear(x).relu_())
        taps = self.conv1.weight[..., 0].repeat(x.shape[1], 1, 1)
        return add_depthwise(p.flatten(1)[None], taps, PAST - 1, (x + p).flatten(1)[None]).view(p.shape)

    def forward(self, x: Tensor) -> Tensor:
        if compiled_here(x):
            p = self.project(self.linear(x).relu_())
            return add_depthwise(p, self.conv1.weight[..., 0], PAST - 1, x + p)
        p = self.project(self.linear(x).relu()).transpose(1, 2)
        seen = F.conv1d(F.pad(p, (PAST - 1, 0)), self.conv1.weight[..., 0], groups=p.shape[1])
        return x + (p + seen).transpose(1, 2)


class ComplexMemory(nn.Module):
    """One or two complex memories along the bins of a frame, or along time: (B, C, F, T) of each part."""

    def __init__(self, width: int, layers: int, *, along_time: bool) -> None:
        super().__init__()
        self.layers, self.along_time = layers, along_time
        for layer in range(1, layers + 1):
            self.add_module(f"fsmn_re_L{layer}", FrequencyFsmn(width))
            self.add_module(f"fsmn_im_L{layer}", FrequencyFsmn(width))

    def forward(self, x: Pair) -> Pair:
        if compiled_here(x[0]) and not self.along_time and len(x[0]) == 1:
            return self.across(x)
        order = (0, 3, 1, 2) if self.along_time else (0, 3, 2, 1)
        shape = x[0].permute(order).shape
        # time: (B, T, C F); frequency: (B T, F, C)
        first = 2 if self.along_time else 0
        y = tuple(part.permute(order).flatten(first, first + 1) for part in x)
        for layer in range(1, self.layers + 1):
            re, im = (getattr(self, f"fsmn_{part}_L{layer}") for part in ("re", "im"))
            y = complex_product(re, im, y)  # pyright: ignore[reportArgumentType]
        back = (0, 2, 3, 1) if self.along_time else (0, 3, 2, 1)
        real, imaginary = (part.reshape(shape).permute(back) for part in y)
        return real, imaginary

    def across(self, x: Pair) -> Pair:
        """Memories over the bins of all frames at once, where features lie next to each other: no copies."""
        y = tuple(part[0].permute(1, 2, 0) for part in x)  # (F, T, C)
        for layer in range(1, self.layers + 1):
            re, im = (getattr(self, f"fsmn_{part}_L{layer}").over_rows for part in ("re", "im"))
            (ra, ia), (rb, ib) = ((re(part), im(part)) for part in y)
            y = ra.sub_(ib), rb.add_(ia)
        real, imaginary = (part.permute(2, 0, 1)[None] for part in y)
        return real, imaginary


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

    def forward(self, x: Pair) -> Pair:
        means = x[0].mean((2, 3)), x[1].mean((2, 3))
        gains = complex_product(self.fc_r, self.fc_i, means)  # (B, C) each
        return x[0] * gains[0][:, :, None, None], x[1] * gains[1][:, :, None, None]


class UNet(nn.Module):
    """Parts (B, 1, 321, T) -> the same shape."""

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

    def forward(self, x: Pair) -> Pair:
        skips: list[Pair] = []
        for i in range(DEPTH):
            if i:
                x = getattr(self, f"fsmn_enc{i}")(x)
            x = getattr(self, f"encoder{i}")(x)
            if i == 0 and compiled_here(x[0]):  # the memories want features that lie together
                x = (
                    x[0].contiguous(memory_format=torch.channels_last),
                    x[1].contiguous(memory_format=torch.channels_last),
                )
            skips.append(getattr(self, f"se_layer_enc{i}")(x))
        x = self.fsmn(x)
        for i in range(DEPTH):
            x = getattr(self, f"decoder{i}")(x)
            if i == DEPTH - 1:
                break
            x = getattr(self, f"fsmn_dec{i}")(x)
            if i < DEPTH - 2:
                x = getattr(self, f"se_layer_dec{i}")(x)
            skip = skips[DEPTH - 2 - i]
            x = torch.cat([x[0], skip[0]], 1), torch.cat([x[1], skip[1]], 1)
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
        return torch.stack(self.mask_parts(spectra.real, spectra.imag), -1)

    def mask_parts(self, real: Tensor, imaginary: Tensor) -> Pair:
        """The parts of `mask`, from those of spectra: (B, 321, T) each."""
        near = torch.channels_last if compiled_here(real) else torch.contiguous_format
        first = self.unet(
            (real[:, None].contiguous(memory_format=near), imaginary[:, None].contiguous(memory_format=near))
        )
        second = self.unet2(first)
        a, b = ((one.tanh() + two.tanh())[:, 0] for one, two in zip(first, second, strict=True))
        return a, b

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
