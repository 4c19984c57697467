"""Errors of predicted paths in metres, and scores of predicted distributions.

Protocol of every figure: Euclidean distance e_k = |p_hat_k - p_k| over all axes; ADE at step h is the mean of
e_1 .. e_h, FDE at h is e_h. `predicted` is (..., T, D) or, with K futures, (n, K, T, D); `truth` broadcasts.
"""

import math

import numpy as np
from scipy.special import ndtr


def distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(..., T) Euclidean error of every step."""
    return np.sqrt(((np.asarray(predicted) - np.asarray(truth)) ** 2).sum(-1))


def ade(predicted: np.ndarray, truth: np.ndarray, step: int | None = None) -> np.ndarray:
    """(...,) average displacement error of the steps up to `step` (from 1; None: all)."""
    return distances(predicted, truth)[..., :step].mean(-1)


def fde(predicted: np.ndarray, truth: np.ndarray, step: int | None = None) -> np.ndarray:
    """(...,) displacement error at `step` (from 1; None: the last)."""
    return distances(predicted, truth)[..., -1 if step is None else step - 1]


def min_ade(predicted: np.ndarray, truth: np.ndarray, step: int | None = None) -> np.ndarray:
    """(n,) ADE of the best of K futures (n, K, T, D)."""
    return ade(predicted, truth[:, None], step).min(1)


def min_fde(predicted: np.ndarray, truth: np.ndarray, step: int | None = None) -> np.ndarray:
    """(n,) FDE of the future with the best FDE."""
    return fde(predicted, truth[:, None], step).min(1)


def fde_of_min_ade(predicted: np.ndarray, truth: np.ndarray, step: int | None = None) -> np.ndarray:
    """(n,) FDE of the future with the best ADE."""
    best = ade(predicted, truth[:, None], step).argmin(1)
    return fde(predicted, truth[:, None], step)[np.arange(len(best)), best]


def miss_rate(final_errors: np.ndarray, threshold_m: float = 0.5) -> float:
    """Share of windows whose (best) final error is above the threshold."""
    return float((np.asarray(final_errors) > threshold_m).mean())


def mse(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared error over every coordinate, as in training."""
    return float(((np.asarray(predicted) - np.asarray(truth)) ** 2).mean())


def mse_of_distance(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared distance, as VECTOR's node reports it: D times `mse`."""
    return float((distances(predicted, truth) ** 2).mean())


def gaussian_nll(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Negative log density per coordinate, nats."""
    z = (np.asarray(truth) - mean) / sd
    return 0.5 * z**2 + np.log(sd) + 0.5 * math.log(2 * math.pi)


def gaussian_crps(mean: np.ndarray, sd: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score per coordinate (Gneiting and Raftery 2007, section 4.2).

    crps = sd [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)],  z = (truth - mean) / sd
    """
    z = (np.asarray(truth) - mean) / sd
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def pinball(quantile: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """Pinball loss per coordinate of the quantile at `level`."""
    miss = np.asarray(truth) - quantile
    return np.maximum(level * miss, (level - 1) * miss)


def coverage(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> float:
    """Share of coordinates inside [low, high]."""
    return float(((np.asarray(truth) >= low) & (np.asarray(truth) <= high)).mean())


def conformal_quantile(scores: np.ndarray, alpha: float) -> float:
    """The ceil((n + 1)(1 - alpha))-th smallest of n scores; infinite where n is too small for alpha."""
    ordered = np.sort(np.ravel(scores))
    rank = math.ceil((len(ordered) + 1) * (1 - alpha) - 1e-9)
    return float(ordered[rank - 1]) if rank <= len(ordered) else math.inf


def summary(predicted: np.ndarray, truth: np.ndarray, dt: float, at_s: tuple[float, ...]) -> dict[str, dict]:
    """`{"ade": {"0.5": ..}, "fde": {...}}` in metres, means over windows, at horizons in seconds.

    A horizon that the prediction does not reach is None.
    """
    errors = distances(predicted, truth)
    found: dict[str, dict] = {"ade": {}, "fde": {}}
    for horizon in at_s:
        step = round(horizon / dt)
        known = 1 <= step <= errors.shape[-1] and len(errors) > 0
        found["ade"][str(horizon)] = float(errors[..., :step].mean()) if known else None
        found["fde"][str(horizon)] = float(errors[..., step - 1].mean()) if known else None
    return found
