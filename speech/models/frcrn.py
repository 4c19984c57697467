"""FRCRN (Zhao et al. 2022, arXiv 2206.07293) at 16 kHz: two complex U-Nets in a row, with FSMN memories.

    Y = STFT (640 / 320, root Hann);  u1 = unet(Y);  u2 = unet2(u1);  M = tanh u1 + tanh u2;  X = M Y

In the names of ClearerVoice-Studio, which registers every part twice (`encoder0` and `encoders.0`) and stores
its fixed transforms; either spelling loads, and the transforms are computed.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.features import root_hann
from speech.models.depthwise import add_along, compiled_here, taps_of
from speech.models.fused import positive
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


Weights = tuple[list[Tensor], Tensor]
"""Weights of one or two convolutions, for even and for odd bins, and their bias."""


def phases(weight: Tensor) -> list[Tensor]:
    """A transposed convolution (in, out, K, L) of stride (2, 1) as two plain ones, for even and odd bins.

    Torch's own one on a CPU multiplies with all taps at once and adds up afterwards.
    """
    back, taps = weight.transpose(0, 1).flip(2, 3), weight.shape[2]  # the last tap first
    return [back[:, :, (taps - 1 - phase) % 2 :: 2] for phase in (0, 1)]


def raised(x: Tensor, weights: Weights) -> Tensor:
    """The transposed convolution of stride (2, 1) and padding (0, 1), two taps in time."""
    parts, bias = weights
    found = [F.conv2d(x, part, bias, 1, (part.shape[2] - 1, 0)) for part in parts]
    taps = sum(part.shape[2] for part in parts)
    shape = (len(x), len(bias), 2 * x.shape[2] + taps - 2, found[0].shape[3])
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
        self.kept: tuple[Any, list[Weights]] | None = None

    def forward(self, x: Pair) -> Pair:
        a, b = x
        sums, differences, together = self.three(a)
        both = self.conv(a + b, sums)
        real = self.conv(b, together).neg_().add_(both)
        return real, both.add_(self.conv(a, differences))

    def conv(self, x: Tensor, weights: Weights) -> Tensor:
        return raised(x, weights) if self.up else F.conv2d(x, weights[0][0], weights[1], **self.places)

    def three(self, x: Tensor) -> list[Weights]:
        """R, I - R and R + I, laid out for x; kept until a weight changes where no gradient is wanted."""
        if not compiled_here(x) or any(part.is_inference() for part in self.parameters()):
            return self.combined(torch.contiguous_format)
        state = [(part.data_ptr(), part._version) for part in self.parameters()]
        if self.kept is None or self.kept[0] != state:
            self.kept = state, self.combined(torch.channels_last)
        return self.kept[1]

    def combined(self, near: torch.memory_format) -> list[Weights]:
        re, im = getattr(self, self.names[0]), getattr(self, self.names[1])
        pairs = [
            (re.weight, re.bias),
            (im.weight - re.weight, im.bias),
            (re.weight + im.weight, im.bias),
        ]
        return [
            (
                [part.contiguous(memory_format=near) for part in (phases(w) if self.up else [w])],
                bias,
            )
            for w, bias in pairs
        ]


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
        return F.leaky_relu(a, 0.01, inplace=True), F.leaky_relu(b, 0.01, inplace=True)


class FrequencyFsmn(nn.Module):
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
    """One or two complex memories along the bins of a frame, or along time: (B, C, F, T) of each part."""

    def __init__(self, width: int, layers: int, *, along_time: bool) -> None:
        super().__init__()
        self.layers, self.along_time = layers, along_time
        for layer in range(1, layers + 1):
            self.add_module(f"fsmn_re_L{layer}", FrequencyFsmn(width))
            self.add_module(f"fsmn_im_L{layer}", FrequencyFsmn(width))

    def forward(self, x: Pair) -> Pair:
        if compiled_here(x[0]) and not self.along_time and self.layers == len(x[0]) == 1:
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
        a, b = (part[0].permute(1, 2, 0).contiguous() for part in x)  # (F, T, C)
        re, im = (getattr(self, f"fsmn_{part}_L1") for part in ("re", "im"))
        weight = torch.cat([re.linear.weight, im.linear.weight])
        bias = torch.cat([re.linear.bias, im.linear.bias])
        taps = [memory_taps(net) for net in (re, im)]
        real, imaginary = a - b, a + b
        for part, signs in ((a, (1, 1)), (b, (1, -1))):
            hidden = positive(F.linear(part, weight).flatten(0, 1), bias)
            into = (real, imaginary) if part is a else (imaginary, real)  # R a and I b are real
            for h, net, tap, sign, out in zip(hidden.chunk(2, 1), (re, im), taps, signs, into, strict=True):
                p = (h @ net.project.weight.T).view(part.shape)
                add_along(p.numpy(), tap * np.float32(sign), PAST - 1, 1, out.numpy())
            del hidden, h, p  # before the other part's are made: they are what takes most at once
        return real.permute(2, 0, 1)[None], imaginary.permute(2, 0, 1)[None]


def memory_taps(net: FrequencyFsmn) -> Any:
    """Taps (K, C) of p + conv(p)."""
    taps = taps_of(net.conv1.weight[..., 0])
    taps[PAST - 1] += 1
    return taps


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

    def forward(self, x: Pair, into: Pair | None = None) -> Pair:
        """`into`: where the result goes, if there is room for it already."""
        means = x[0].mean((2, 3)), x[1].mean((2, 3))
        gains = complex_product(self.fc_r, self.fc_i, means)  # (B, C) each
        real, imaginary = (gain[:, :, None, None] for gain in gains)
        if into is None:
            return x[0] * real, x[1] * imaginary
        return torch.mul(x[0], real, out=into[0]), torch.mul(x[1], imaginary, out=into[1])


def room_for_two(x: Pair) -> Pair:
    """Of the layout of x, for its channels and as many more."""
    batch, channels, bins, frames = x[0].shape
    shape = (batch, 2 * channels, bins, frames)
    near = torch.channels_last if x[0].is_contiguous(memory_format=torch.channels_last) else None
    near = near or torch.contiguous_format
    return torch.empty(shape, memory_format=near), torch.empty(shape, memory_format=near)


def half_of(room: Pair, number: int) -> Pair:
    """The first or the second half of the channels."""
    a, b = (part.chunk(2, 1)[number] for part in room)
    return a, b


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
            squeeze = getattr(self, f"se_layer_enc{i}")
            if i == DEPTH - 1:
                break
            if not compiled_here(x[0]):
                skips.append(squeeze(x))
                continue
            skips.append(room_for_two(x))
            squeeze(x, half_of(skips[i], 1))
        x = self.fsmn(x)
        for i in range(DEPTH):
            x = getattr(self, f"decoder{i}")(x)
            if i == DEPTH - 1:
                break
            x = getattr(self, f"fsmn_dec{i}")(x)
            skip, squeeze = skips.pop(), getattr(self, f"se_layer_dec{i}")
            if not compiled_here(x[0]):
                x = squeeze(x) if i < DEPTH - 2 else x
                x = torch.cat([x[0], skip[0]], 1), torch.cat([x[1], skip[1]], 1)
                continue
            place = half_of(skip, 0)
            if i < DEPTH - 2:
                squeeze(x, place)
            else:
                for there, part in zip(place, x, strict=True):
                    there.copy_(part)
            x = skip
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
