"""What a prediction answers: how near it comes to a place, and how likely it enters a sphere around it."""

from dataclasses import dataclass

import numpy as np

from apps.trajectory.prediction import Prediction
from core.errors import ConfigError, DataError


@dataclass(frozen=True)
class Approach:
    """The moment when the predicted path is nearest to a point."""

    ahead_s: float | None
    """None where the path still comes nearer at its end: nobody knows how near."""
    distance_m: float | None

    @property
    def beyond_horizon(self) -> bool:
        return self.ahead_s is None


def closest_approach(prediction: Prediction, point: np.ndarray) -> Approach:
    """Nearest moment of the predicted path, straight between steps and beginning at the anchor.

    Raises:
        DataError: the point has other coordinates than the prediction.
    """
    path = known_path(prediction, point)
    times = np.concatenate([[0.0], prediction.ahead_s])[: len(path)]
    legs, gap = np.diff(path, axis=0), np.asarray(point, dtype=np.float64) - path[:-1]
    length = np.maximum((legs**2).sum(1), 1e-12)
    along = np.clip((gap * legs).sum(1) / length, 0, 1)
    distance = np.linalg.norm(gap - along[:, None] * legs, axis=1)
    leg = int(np.argmin(distance))
    if leg == len(legs) - 1 and along[leg] >= 1 - 1e-9:
        return Approach(None, None)
    return Approach(float(times[leg] + along[leg] * (times[leg + 1] - times[leg])), float(distance[leg]))


def known_path(prediction: Prediction, point: np.ndarray) -> np.ndarray:
    """Anchor and predicted positions up to the model's horizon, (K+1, D)."""
    if np.shape(point) != prediction.anchor.shape:
        raise DataError(f"the point has shape {np.shape(point)}, positions have {prediction.anchor.shape}.")
    known = np.isfinite(prediction.mean).all(1)
    return np.concatenate([prediction.anchor[None], prediction.mean[known]])


def sample_futures(prediction: Prediction, count: int, seed: int = 0) -> np.ndarray:
    """`count` possible paths (count, K, D) from the covariance, or from the conformal radius without one.

    One normal vector per path moves all its steps, since a track that is ahead of its prediction stays ahead.

    Raises:
        DataError: the prediction has neither covariance nor radius.
    """
    D = len(prediction.anchor)
    if prediction.covariance is not None:
        covariance = prediction.covariance
    elif prediction.radius is not None:
        from scipy.stats import chi2

        deviation = prediction.radius / np.sqrt(chi2.ppf(prediction.coverage, D))
        covariance = deviation[:, None, None] ** 2 * np.eye(D)
    else:
        raise DataError(
            "the model gives neither a covariance nor a calibrated radius, so futures cannot be drawn."
        )
    known = np.isfinite(covariance).all((1, 2)) & np.isfinite(prediction.mean).all(1)
    factor = np.linalg.cholesky(covariance[known])
    normal = np.random.default_rng(seed).standard_normal((count, D))
    paths = np.full((count, *prediction.mean.shape), np.nan)
    paths[:, known] = prediction.mean[known] + np.einsum("kij,nj->nki", factor, normal)
    return paths


def entry_probability(
    prediction: Prediction, centre: np.ndarray, radius_m: float, *, samples: int = 2000, seed: int = 0
) -> float:
    """Chance that the track enters a sphere within the horizon: the share of drawn futures that do.

    Raises:
        DataError: the centre has other coordinates than the prediction, or no uncertainty is known.
        ConfigError: the radius is not positive.
    """
    if not radius_m > 0:
        raise ConfigError(f"the radius of a sphere must be positive, got {radius_m}.")
    known = np.isfinite(prediction.mean).all(1)
    path = known_path(prediction, centre)
    if np.linalg.norm(path[0] - centre) <= radius_m:
        return 1.0
    futures = sample_futures(prediction, samples, seed)[:, known]
    paths = np.concatenate([np.broadcast_to(path[:1], (samples, 1, path.shape[1])), futures], 1)
    legs, gap = np.diff(paths, axis=1), np.asarray(centre, dtype=np.float64) - paths[:, :-1]
    along = np.clip((gap * legs).sum(-1) / np.maximum((legs**2).sum(-1), 1e-12), 0, 1)
    distance = np.linalg.norm(gap - along[..., None] * legs, axis=-1)
    return float((distance <= radius_m).any(1).mean())
