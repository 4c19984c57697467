"""How far lines lie apart: everything else is measured in it."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vision.ocr.segmentation.ink import InkMap

STRIPS = 8
BLANK = 12.0
"""Pitch of a page without ink, in pixels."""


def component_height(ink: InkMap) -> float:
    """The ink-weighted median height of components: specks count little."""
    if not len(ink.heights):
        return BLANK / 2.2
    order = np.argsort(ink.heights)
    weight = np.cumsum(ink.areas[order])
    return float(ink.heights[order][np.searchsorted(weight, weight[-1] / 2)])


def line_pitch(ink: InkMap) -> float:
    """Distance of lines in pixels, from the autocorrelation of the rows' ink in vertical strips."""
    height = component_height(ink)
    total = np.zeros(len(ink.strength))
    for strip in np.array_split(ink.strength, STRIPS, axis=1):
        profile = strip.sum(1)
        profile = profile - gaussian_filter1d(profile, 4 * height)
        deviation = float(profile.std())
        if deviation < 1e-6:
            continue
        n = len(profile)
        spectrum = np.fft.rfft(profile, 2 * n)
        correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:n]
        total = total + deviation * correlation / max(correlation[0], 1e-9)
    if not total[0]:
        return BLANK
    total = total / total[0]
    low, high = int(0.9 * height), min(int(4 * height) + 2, len(total) - 1)
    peaks = [
        lag
        for lag in range(max(low, 3), high)
        if total[lag] >= total[lag - 1] and total[lag] > total[lag + 1]
    ]
    best = max((total[lag] for lag in peaks), default=0.0)
    if best >= 0.1:
        pitch = next(lag for lag in peaks if total[lag] >= 0.8 * best)
        return float(min(pitch, 4 * height))
    return float(2.2 * height)
