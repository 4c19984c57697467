"""Waves to frames and back: the short-time Fourier transform that every network of ours stands on.

Root-Hann windows for analysis and synthesis at half a window's hop add up to one, so no division is needed
and a frame can be turned back alone, which is what a stream does.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def constant(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A table that is made once per device: `table(*args, like=x)` lies where x does and has no gradient."""

    known: dict[tuple[Any, ...], Tensor] = {}

    def table(*args: int, like: Tensor) -> Tensor:
        dtype = like.real.dtype if like.is_complex() else like.dtype
        key = like.device, dtype, *args
        if key not in known:
            with torch.inference_mode(False):  # what is made inside would be refused in training later
                made = make(*args).to(like.device, dtype)
            if type(made) is not Tensor:  # an exporter's stand-in, without numbers
                return made
            known[key] = made
        return known[key]

    return table


@constant
def root_hann(length: int) -> Tensor:
    """The square root of the periodic Hann window, computed in float64. (length,)"""
    return torch.hann_window(length, periodic=True, dtype=torch.float64).sqrt()


def frames_of(samples: int, hop: int) -> int:
    """Frames that `analyse` makes of that many samples when the hop is half the window."""
    return -(-samples // hop) + 1


def analyse(wave: Tensor, window: int, hop: int) -> Tensor:
    """Spectra of a wave (B, N) -> complex (B, T, window // 2 + 1); `window - hop` zeros come first.

    The last frames are filled with zeros, so that every sample lies under as many windows as any other.
    """
    before = window - hop
    count = -(-(wave.shape[-1] + before) // hop)
    padded = F.pad(wave, (before, count * hop + before - wave.shape[-1] - before))
    pieces = padded.unfold(-1, window, hop)  # (B, T, window)
    return torch.fft.rfft(pieces * root_hann(window, like=wave))


def synthesise(spectra: Tensor, window: int, hop: int, samples: int) -> Tensor:
    """The inverse of `analyse`: complex (B, T, F) -> (B, samples)."""
    pieces = torch.fft.irfft(spectra, n=window) * root_hann(window, like=spectra) * (2 * hop / window)
    count = pieces.shape[-2]
    folded = F.fold(
        pieces.reshape(-1, count, window).transpose(1, 2),
        output_size=(1, (count - 1) * hop + window),
        kernel_size=(1, window),
        stride=(1, hop),
    )  # (B, 1, 1, N)
    before = window - hop
    wave = folded.reshape(*spectra.shape[:-2], -1)
    return wave[..., before : before + samples]


def smooth(
    x: Tensor, rate: float, state: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Running mean over time that forgets: m_t = m_{t-1} + rate (x_t - m_{t-1}), each divided by its weight.

    x (B, T, D); the state is the mean (B, D) and the weight (B, 1) it has gathered. The first output is the
    first input, so a stream needs no time to find its level.
    """
    mean, weight = (
        (x.new_zeros(x.shape[0], x.shape[2]), x.new_zeros(x.shape[0], 1)) if state is None else state
    )
    outputs = []
    for piece in x.split(256, dim=1):
        steps = torch.arange(piece.shape[1] + 1, device=x.device, dtype=x.dtype)
        decay = (1 - rate) ** steps
        lag = steps[1:, None] - steps[None, 1:]
        kernel = torch.where(lag >= 0, rate * (1 - rate) ** lag.clamp(min=0), 0.0)  # (T, T)
        means = torch.einsum("ts,bsd->btd", kernel, piece) + decay[1:, None] * mean[:, None]
        weights = 1 - decay[1:] * (1 - weight)  # (B, T)
        outputs.append(means / weights[..., None])
        mean, weight = means[:, -1], weights[:, -1:]
    return torch.cat(outputs, 1), (mean, weight)


def smooth_step(x: Tensor, rate: float, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One step of `smooth`: x (B, D)."""
    mean, weight = state
    mean = mean + rate * (x - mean)
    weight = weight + rate * (1 - weight)
    return mean / weight, (mean, weight)


def compressed(spectra: Tensor, power: float = 0.3) -> tuple[Tensor, Tensor]:
    """Magnitude^power and the spectrum with that magnitude; both have gradients at zero."""
    magnitude = (spectra.real.square() + spectra.imag.square() + 1e-10).sqrt()
    scale = magnitude ** (power - 1)
    return magnitude * scale, spectra * scale


@cache
def mel_bands(count: int, bins: int, rate: int) -> np.ndarray:
    """Triangles even on the mel scale, from 0 Hz to half the rate, (bins, count)."""
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), count + 2)
    points = (700 * (10 ** (mel / 2595) - 1)) / (rate / 2) * (bins - 1)
    place = np.arange(bins)[:, None]
    rise = (place - points[:-2]) / np.maximum(points[1:-1] - points[:-2], 1e-9)
    fall = (points[2:] - place) / np.maximum(points[2:] - points[1:-1], 1e-9)
    return np.clip(np.minimum(rise, fall), 0, None)
