"""Losses of published recipes, for networks of their layouts: FRCRN, MossFormer2 SE, Parallel WaveGAN.

All take waves (B, N) and masks as the networks of `speech.models` give them, and give one number. Items whose
reference is silent count where the loss has a meaning for silence, and are left out where it has none.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from speech.features import constant
from speech.loss import SILENT, si_sdr

RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))
"""FFT length and hop of the three spectra, as published at 24 kHz; windows are as long as the FFT."""


@constant
def symmetric_hann(length: int) -> Tensor:
    """The Hann window whose ends are both zero. (length,)"""
    return torch.hann_window(length, periodic=False, dtype=torch.float64)


@constant
def symmetric_hamming(length: int) -> Tensor:
    return torch.hamming_window(length, periodic=False, dtype=torch.float64)


def framed(wave: Tensor, window: Tensor, hop: int) -> Tensor:
    """Spectra (B, T, F) of whole frames, without padding."""
    return torch.fft.rfft(wave.unfold(-1, len(window), hop) * window)


def frcrn_loss(mask: Tensor, estimate: Tensor, noisy: Tensor, clean: Tensor, window: int = 640) -> Tensor:
    """Squared error of the complex ratio mask, times the window, less SI-SNR (Zhao et al. 2022).

    Args:
        mask: (B, T, F, 2), of frames of `window` samples at half of it, as FRCRN has them.
        estimate, noisy, clean: (B, N) at 16 kHz.

    The target is S conj(Y) / |Y|^2 with parts above 2 set to 1 and below -2 to -1, as published. The loss's
    own spectra have a symmetric Hann window, other than the network's. A silent reference asks for a mask of
    zeros and has no SI-SNR.
    """
    shape = symmetric_hann(window, like=noisy)
    y, s = (framed(wave, shape, window // 2) for wave in (noisy, clean))
    ratio = s * y.conj() / (y.real.square() + y.imag.square() + 1e-8)
    target = torch.view_as_real(ratio)
    target = torch.where(target > 2, 1.0, torch.where(target < -2, -1.0, target))
    frames = min(mask.shape[1], target.shape[1])
    error = (mask[:, :frames] - target[:, :frames]).square().mean((0, 1, 2)).sum()
    return window * error - mean_of_loud(si_sdr(estimate, clean, 1e-6), clean)


def phase_sensitive_loss(
    mask: Tensor, noisy: Tensor, clean: Tensor, window: int = 1920, hop: int = 384
) -> Tensor:
    """Squared error of a real mask to |S|^2 / |Y|^2 cos(angle S - angle Y), by loudness (MossFormer2 SE).

    mask (B, T, F) of frames with a symmetric Hamming window; noisy, clean (B, N) at 48 kHz, any scale.
    Targets are cut to 0..1; a bin counts by its magnitude relative to the largest of its frame, and frames of
    silence do not count.
    """
    shape = symmetric_hamming(window, like=noisy)
    y, s = (framed(wave, shape, hop) for wave in (noisy, clean))
    power = y.real.square() + y.imag.square()
    across = s.real * y.real + s.imag * y.imag  # |S| |Y| cos
    lengths = ((s.real.square() + s.imag.square()) * power).sqrt()
    cosine = across / lengths.clamp(min=1e-20)
    target = ((s.real.square() + s.imag.square()) / (power + 1e-6) * cosine).clamp(0, 1)
    magnitude = power.sqrt()
    loud = magnitude / magnitude.amax(-1, keepdim=True).clamp(min=1e-10)
    frames = min(mask.shape[1], target.shape[1])
    error = (mask[:, :frames] - target[:, :frames]).square() * loud[:, :frames]
    return 0.5 * error.sum() / (len(mask) * max(1, frames))


def multi_resolution_loss(
    estimate: Tensor, clean: Tensor, resolutions: tuple[tuple[int, int], ...] = RESOLUTIONS
) -> Tensor:
    """Spectral convergence and the distance of log magnitudes, means over resolutions (Yamamoto et al. 2020).

    Waves (B, N) longer than half of the longest window. Where the reference is silent the convergence, which
    divides by it, is the energy of the estimate instead.
    """
    total = estimate.new_zeros(())
    quiet = clean.square().mean(-1) < SILENT
    for window, hop in resolutions:
        shape = torch.hann_window(window, device=clean.device)
        a, b = (
            torch.stft(wave, window, hop, window=shape, return_complex=True).abs().clamp(min=1e-5)
            for wave in (estimate, clean)
        )
        distance = (a - b).square().sum((1, 2)).sqrt()
        size = torch.where(quiet, 1.0, b.square().sum((1, 2)).sqrt())
        total = total + (distance / size).mean() + F.l1_loss(a.log(), b.log())
    return total / len(resolutions)


def mean_of_loud(values: Tensor, clean: Tensor) -> Tensor:
    """Mean over the items (B,) whose reference is not silent; zero if all are."""
    loud = clean.square().mean(-1) >= SILENT
    return torch.where(loud, values, 0.0).sum() / loud.sum().clamp(min=1)
