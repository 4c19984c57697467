"""What can be said of a recording without its clean version: DNSMOS and plain levels.

DNSMOS P.835 and P.808 (Reddy et al. 2022, arXiv 2110.01763) are networks that guess what listeners would say,
1 to 5: speech (sig), background (bak), overall (ovrl). The package `speechmos` (extra `metrics`) brings them.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from core.terminal import need
from speech.audio import read_sound
from speech.metrics import resampled, silent

RATE = 16000
SHORTEST_S = 1.0
"""Shorter clips are repeated by the package until they fill nine seconds, which scores the repetition."""
NAMES = {
    "sig_mos": "dnsmos_sig",
    "bak_mos": "dnsmos_bak",
    "ovrl_mos": "dnsmos_ovrl",
    "p808_mos": "dnsmos_p808",
}


def dnsmos(wave: np.ndarray, rate: int) -> dict[str, float]:
    """Four guesses for a wave (N,); NaN for silence and for less than a second.

    The package scores digital silence like bad speech and raises above full scale, so silence is caught here
    and louder waves are scaled to full scale.

    Raises:
        MissingExtraError: the extra `metrics` is not installed.
    """
    need("metrics", "speechmos", "librosa", "onnxruntime")
    from speechmos import dnsmos as package

    if silent(wave) or len(wave) < SHORTEST_S * rate:
        return dict.fromkeys(NAMES.values(), math.nan)
    at = resampled(np.asarray(wave, np.float64), rate, RATE)
    peak = float(np.abs(at).max())
    found: Any = package.run(at / peak if peak > 1 else at, sr=RATE)
    return {ours: float(found[theirs]) for theirs, ours in NAMES.items()}


def levels(wave: np.ndarray, rate: int) -> dict[str, float]:
    """RMS and peak in dBFS, and how far the loud parts lie above the quiet ones.

    The last one is the 90th less the 10th percentile of the levels of 20 ms: a rough figure for the noise.
    """
    hop = max(1, rate // 50)
    whole = len(wave) // hop * hop
    power = np.square(wave[:whole].reshape(-1, hop).astype(np.float64)).mean(1) + 1e-12
    low, high = np.percentile(10 * np.log10(power), (10, 90)) if len(power) else (math.nan, math.nan)
    square = float(np.mean(np.square(wave.astype(np.float64))))
    return {
        "rms_db": 10 * math.log10(square + 1e-20),
        "peak_db": 20 * math.log10(float(np.abs(wave).max()) + 1e-10),
        "range_db": float(high - low),
    }


def figures_of(path: str | Path) -> dict[str, float]:
    """All of them for a file, its channels averaged.

    Raises:
        DataError: no sound. MissingExtraError: the extra `metrics` is not installed.
    """
    samples, rate = read_sound(path)
    wave = samples.mean(1)
    return {**dnsmos(wave, rate), **levels(wave, rate)}
