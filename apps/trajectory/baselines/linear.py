"""Predictions that are a fixed linear map of the past: standing still, straight on, and fitted polynomials.

Each is written for what it is; `linear` then applies it to the unit impulses once and keeps the
(horizon, history) matrix, so that any number of windows costs one matrix product.
"""

from collections.abc import Callable
from functools import lru_cache, wraps

import numpy as np

Predict = Callable[[np.ndarray, float, int], np.ndarray]
LS_POINTS = 5
"""Positions of the least-squares line."""
POLYNOMIAL_POINTS, POLYNOMIAL_DEGREE = 11, 2


def check(past: np.ndarray, horizon: int) -> np.ndarray:
    """The past as float64 (n, history, D).

    Raises:
        ValueError: another shape, or nothing to predict from.
    """
    past = np.asarray(past, dtype=np.float64)
    if past.ndim != 3 or past.shape[1] < 1 or horizon < 0:
        raise ValueError(
            f"past must be (n, history, D), got {past.shape}, and the horizon 0 or more, got {horizon}"
        )
    return past


def linear(method: Predict) -> Predict:
    """The same predictor, as a product with its matrix.

    The last position is subtracted first: these methods do not know where the origin is, and far from it the
    product would lose digits.
    """

    @lru_cache(maxsize=64)
    def weights(history: int, dt: float, horizon: int) -> np.ndarray:
        impulses = np.eye(history)[:, :, None]  # window i is 1 at sample i
        return np.ascontiguousarray(method(impulses, dt, horizon)[:, :, 0].T)

    @wraps(method)
    def predict(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
        past = check(past, horizon)
        last = past[:, -1:]
        return last + np.matmul(weights(past.shape[1], float(dt), horizon), past - last)

    return predict


def steps(horizon: int) -> np.ndarray:
    """(horizon, 1) 1, 2, ..."""
    return np.arange(1, horizon + 1, dtype=np.float64)[:, None]


@linear
def hold(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """It stays where it is."""
    return past[:, -1:] + 0 * steps(horizon)


@linear
def constant_velocity(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """p + k (p_T - p_{T-1})."""
    if past.shape[1] < 2:
        return past[:, -1:] + 0 * steps(horizon)
    return past[:, -1:] + steps(horizon) * (past[:, -1:] - past[:, -2:-1])


@linear
def constant_velocity_ls(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """From the last position with the slope of a line fitted to the last five."""
    points = min(LS_POINTS, past.shape[1])
    k = np.arange(points) - (points - 1) / 2
    slope = np.einsum("t,ntd->nd", k, past[:, -points:]) / max((k**2).sum(), 1)
    return past[:, -1:] + steps(horizon) * slope[:, None]


@linear
def constant_acceleration(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """The parabola through the last three positions."""
    if past.shape[1] < 3:
        return constant_velocity(past, dt, horizon)
    k = steps(horizon)
    velocity = past[:, -1:] - past[:, -2:-1]
    acceleration = past[:, -1:] - 2 * past[:, -2:-1] + past[:, -3:-2]
    return past[:, -1:] + k * velocity + k * (k + 1) / 2 * acceleration


@linear
def polynomial(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """A parabola fitted by least squares to the last eleven positions."""
    points = min(POLYNOMIAL_POINTS, past.shape[1])
    degree = min(POLYNOMIAL_DEGREE, points - 1)
    behind = np.vander(np.arange(1 - points, 1, dtype=np.float64), degree + 1)
    ahead = np.vander(steps(horizon)[:, 0], degree + 1)
    return np.matmul(ahead @ np.linalg.pinv(behind), past[:, -points:])
