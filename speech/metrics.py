"""Figures for waves that a reference is known for, (N,) arrays at one rate.

    si_sdr    scale-invariant signal to distortion ratio, dB, means removed (arXiv 1811.02508)
    sdr       the same after the best filter of 512 taps (BSS-eval v3; Scheibler 2022, arXiv 2110.06440)
    pesq_wb   ITU-T P.862.2, -0.5..4.5, at 16 kHz; pesq_nb P.862 at 8 or 16 kHz (package pesq)
    stoi      short-time objective intelligibility, estoi its extended form (package pystoi)

What cannot be scored is NaN, and `mean` counts it apart: a silent reference has no SI-SDR, a silent estimate
no PESQ, a clip under a quarter of a second neither PESQ nor STOI.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from core.errors import DataError

SILENCE = 1e-10
"""Mean square below which a wave counts as silent: -100 dBFS."""
SHORTEST = 0.25
"""Seconds that PESQ and STOI need."""


def checked(estimate: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 of the same length.

    Raises:
        DataError: other shapes than (N,), or lengths that differ.
    """
    estimate, clean = np.asarray(estimate, np.float64), np.asarray(clean, np.float64)
    if estimate.ndim != 1 or estimate.shape != clean.shape:
        raise DataError(
            f"a score compares two waves of one length; got {estimate.shape} and {clean.shape} samples."
        )
    return estimate, clean


def silent(wave: np.ndarray) -> bool:
    """Whether there is nothing to hear."""
    return not len(wave) or float(np.mean(np.square(wave))) < SILENCE


def si_sdr(estimate: np.ndarray, clean: np.ndarray, eps: float = 0.0) -> float:
    """dB; NaN for a silent reference. `eps` is added to all three energies, as some libraries do."""
    estimate, clean = checked(estimate, clean)
    if silent(clean):
        return math.nan
    estimate, clean = estimate - estimate.mean(), clean - clean.mean()
    target = (estimate @ clean + eps) / (clean @ clean + eps) * clean
    error = estimate - target
    return decibel(float(target @ target) + eps, float(error @ error) + eps)


def decibel(signal: float, error: float) -> float:
    """10 log10 of a ratio, within +-150 dB: float32 files say no more than that."""
    if signal <= 0:
        return -150.0
    return float(np.clip(10 * np.log10(signal / max(error, signal * 1e-15)), -150.0, 150.0))


def sdr(estimate: np.ndarray, clean: np.ndarray, taps: int = 512) -> float:
    """SI-SDR after the reference went through the filter of `taps` that explains most of the estimate."""
    from scipy.linalg import solve_toeplitz

    estimate, clean = checked(estimate, clean)
    if silent(clean) or len(clean) < taps:
        return math.nan
    size = 1 << (len(clean) + taps - 1).bit_length()
    spectrum = np.fft.rfft(clean, size)
    own = np.fft.irfft(np.abs(spectrum) ** 2, size)[:taps]
    cross = np.fft.irfft(np.conj(spectrum) * np.fft.rfft(estimate, size), size)[:taps]
    own[0] *= 1 + 1e-10
    try:
        filter_ = solve_toeplitz(own, cross)
    except np.linalg.LinAlgError:
        return math.nan
    explained = float(cross @ filter_)
    return decibel(explained, float(estimate @ estimate) - explained)


def pesq_wb(estimate: np.ndarray, clean: np.ndarray, rate: int) -> float:
    """Wide-band PESQ; waves of another rate than 16 kHz are resampled. NaN where it cannot be computed."""
    return pesq(estimate, clean, rate, "wb")


def pesq(estimate: np.ndarray, clean: np.ndarray, rate: int, mode: str = "wb") -> float:
    """PESQ by the package of that name, in the mode wb or nb."""
    from core.terminal import need

    need("metrics", "pesq")
    from pesq import NoUtterancesError
    from pesq import pesq as score

    estimate, clean = checked(estimate, clean)
    if silent(clean) or silent(estimate) or len(clean) < SHORTEST * rate:
        return math.nan
    at = 8000 if mode == "nb" and rate == 8000 else 16000
    try:
        return float(score(at, resampled(clean, rate, at), resampled(estimate, rate, at), mode))
    except (NoUtterancesError, ValueError, RuntimeError):
        return math.nan


def stoi(estimate: np.ndarray, clean: np.ndarray, rate: int, *, extended: bool = False) -> float:
    """STOI, or ESTOI; NaN for silence and for clips without 0.4 s of speech."""
    from core.terminal import need

    need("metrics", "pystoi")
    from pystoi import stoi as score

    estimate, clean = checked(estimate, clean)
    if silent(clean) or len(clean) < SHORTEST * rate:
        return math.nan
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        value = float(score(clean, estimate, rate, extended))
    short = any("Not enough STFT frames" in str(warning.message) for warning in told)
    return math.nan if short else value


def resampled(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """At another rate, by soxr."""
    if rate == wanted:
        return wave
    import soxr

    return soxr.resample(wave, rate, wanted)


def every(estimate: np.ndarray, clean: np.ndarray, rate: int) -> dict[str, float]:
    """SI-SDR, wide-band PESQ and STOI of one estimate."""
    return {
        "si_sdr": si_sdr(estimate, clean),
        "pesq_wb": pesq_wb(estimate, clean, rate),
        "stoi": stoi(estimate, clean, rate),
    }


def compared(clean: str | Path, estimate: str | Path) -> dict[str, float]:
    """Every figure of one file against its reference, channels averaged.

    Raises:
        DataError: not the same rate and length, or no sound.
    """
    from speech.audio import read_sound

    (wanted, rate), (found, other) = read_sound(clean), read_sound(estimate)
    if rate != other or len(wanted) != len(found):
        raise DataError(
            f"{estimate}: {len(found)} samples at {other} Hz, the reference has {len(wanted)} at {rate} Hz."
        )
    a, b = found.mean(1), wanted.mean(1)
    return {
        "si_sdr": si_sdr(a, b),
        "sdr": sdr(a, b),
        "pesq_wb": pesq_wb(a, b, rate),
        "pesq_nb": pesq(a, b, rate, "nb"),
        "stoi": stoi(a, b, rate),
        "estoi": stoi(a, b, rate, extended=True),
    }


def mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Means of each figure over the rows that have it; `<figure>_unscored` counts the others, if any."""
    figures: dict[str, float | None] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        known = [value for value in values if math.isfinite(value)]
        figures[name] = sum(known) / len(known) if known else None
        if len(known) < len(values):
            figures[f"{name}_unscored"] = len(values) - len(known)
    return figures


def best_match(estimates: Sequence[np.ndarray], sources: Sequence[np.ndarray]) -> list[int]:
    """For each source the estimate that is its own: the assignment with the highest mean SI-SDR.

    With unequal numbers the best choice of estimates, or of sources: -1 where none is left.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.array([[si_sdr(estimate, source) for estimate in estimates] for source in sources])
    table = np.nan_to_num(table, nan=-200.0)
    rows, columns = linear_sum_assignment(-table)
    found = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    return [found.get(index, -1) for index in range(len(sources))]


def separated(
    estimates: Sequence[np.ndarray], sources: Sequence[np.ndarray], mixture: np.ndarray, rate: int
) -> dict[str, float]:
    """SI-SDR, its improvement, PESQ and STOI, means over the sources in the best order."""
    order = best_match(estimates, sources)
    rows = []
    for source, chosen in zip(sources, order, strict=True):
        if chosen < 0:
            continue
        row = every(estimates[chosen], source, rate)
        rows.append({**row, "si_sdri": row["si_sdr"] - si_sdr(mixture, source)})
    return {name: average(row[name] for row in rows) for name in ("si_sdr", "si_sdri", "pesq_wb", "stoi")}


def average(values: Iterable[float]) -> float:
    """Mean of the finite ones; NaN if there is none."""
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan
