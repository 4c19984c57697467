"""The simple methods that a network must beat: a Wiener filter for noise, an ideal mask for talkers."""

from collections.abc import Sequence

import numpy as np

WINDOW, HOP = 512, 128
RATE = 16000


def stft(wave: np.ndarray) -> np.ndarray:
    """Root-Hann spectra (T, 257), zeros around the ends."""
    padded = np.pad(wave, (WINDOW - HOP, WINDOW - HOP + -len(wave) % HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    return np.fft.rfft(frames * window(), axis=1)


def istft(spectra: np.ndarray, samples: int) -> np.ndarray:
    """The inverse of `stft`."""
    frames = np.fft.irfft(spectra, WINDOW, axis=1) * window() * (HOP / (WINDOW / 2))
    wave = np.zeros((len(frames) - 1) * HOP + WINDOW)
    for index, frame in enumerate(frames):
        wave[index * HOP : index * HOP + WINDOW] += frame
    return wave[WINDOW - HOP : WINDOW - HOP + samples]


def window() -> np.ndarray:
    """The square root of a periodic Hann window, (WINDOW,)."""
    return np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW))


def wiener(noisy: np.ndarray, alpha: float = 0.98, floor: float = 0.05) -> np.ndarray:
    """Decision-directed Wiener filter (Ephraim & Malah 1984) of a whole clip at 16 kHz, (N,) -> (N,).

    Noise is the 20th percentile of each bin's power over the clip, times 1.8.
    """
    spectra = stft(np.asarray(noisy, np.float64))
    power = np.abs(spectra) ** 2
    noise = np.maximum(1.8 * np.percentile(power, 20, axis=0), 1e-12)
    gain = np.empty_like(power)
    before = np.zeros(power.shape[1])
    for t, frame in enumerate(power):
        posterior = frame / noise
        prior = alpha * before + (1 - alpha) * np.maximum(posterior - 1, 0)
        gain[t] = np.maximum(prior / (1 + prior), floor)
        before = gain[t] ** 2 * posterior
    return istft(spectra * gain, len(noisy))


def ideal_mask(mixture: np.ndarray, sources: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a mask of real ratios could do at best, knowing the sources: |S_k| / sum |S|."""
    spectra = stft(np.asarray(mixture, np.float64))
    sizes = [np.abs(stft(np.asarray(source, np.float64))) for source in sources]
    total = sum(sizes) + 1e-12
    return [istft(spectra * size / total, len(mixture)) for size in sizes]
