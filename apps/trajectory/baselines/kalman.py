"""Kalman filters of constant velocity and constant acceleration, driven by white noise.

State per axis (x, v[, a]), axes one after the other:

    F = [[1, dt, dt^2/2], [0, 1, dt], [0, 0, 1]],  Q = g g^T q^2,  g = (dt^2/2, dt[, 1])
    x = F x,  P = F P F^T + Q
    S = H P H^T + R,  K = P H^T S^-1,  y = z - H x
    x = x + K y,  P = (I - K H) P (I - K H)^T + K R K^T

The first measurement starts the filter, with P = diag(r^2, 100, 100) per axis. The gains do not depend on the
data, so a prediction is a fixed linear map of the past.
"""

from dataclasses import dataclass

import numpy as np

from apps.trajectory.baselines.linear import linear

START_VARIANCES = (100.0, 100.0)


@dataclass(frozen=True)
class Dynamics:
    """Matrices of one filter: F, Q (S, S), H (D, S), R (D, D)."""

    F: np.ndarray
    Q: np.ndarray
    H: np.ndarray
    R: np.ndarray
    start: np.ndarray
    """P before the first step, (S, S)."""


def model(
    order: int, dt: float, q: float, r: float, dims: int, unknown: tuple[float, float] = START_VARIANCES
) -> Dynamics:
    """Constant velocity (order 1) or acceleration (2), process noise q, measurement noise r, in `dims` axes.

    `unknown` are the variances of velocity and acceleration before anything is measured.
    """
    size = order + 1
    f = np.eye(size)
    for offset in range(1, size):
        f += np.diag(np.full(size - offset, dt**offset / (1 if offset == 1 else 2)), offset)
    g = np.array([dt**2 / 2, dt, 1.0])[:size]
    h = np.eye(1, size)
    start = np.diag([r**2, *unknown][:size])
    each = np.eye(dims)
    return Dynamics(
        np.kron(each, f),
        np.kron(each, np.outer(g, g) * q**2),
        np.kron(each, h),
        each * r**2,
        np.kron(each, start),
    )


@dataclass(frozen=True)
class Trace:
    """What a filter knew after each measurement but the first."""

    x: np.ndarray
    """(..., T-1, S)."""
    P: np.ndarray
    """(T-1, S, S), the same for every window."""
    loglik: np.ndarray
    """(..., T-1) log density of each measurement given those before it."""


def start(z: np.ndarray, kind: Dynamics) -> np.ndarray:
    """(..., S) state at the first measurement z (..., D)."""
    return z @ kind.H


def innovation_loglik(y: np.ndarray, S: np.ndarray) -> np.ndarray:
    """log N(y; 0, S) for y (..., D) and S (..., D, D)."""
    solved = np.linalg.solve(S, y[..., None])[..., 0]
    return -0.5 * ((y * solved).sum(-1) + np.linalg.slogdet(S)[1] + y.shape[-1] * np.log(2 * np.pi))


def run(z: np.ndarray, kind: Dynamics) -> Trace:
    """Filter measurements z (..., T, D)."""
    x, P = start(z[..., 0, :], kind), kind.start
    unit = np.eye(len(P))
    xs, Ps, logs = [], [], []
    for t in range(1, z.shape[-2]):
        x, P = x @ kind.F.T, kind.F @ P @ kind.F.T + kind.Q
        S = kind.H @ P @ kind.H.T + kind.R
        K = np.linalg.solve(S, kind.H @ P).T
        y = z[..., t, :] - x @ kind.H.T
        logs.append(innovation_loglik(y, S))
        x, rest = x + y @ K.T, unit - K @ kind.H
        P = rest @ P @ rest.T + K @ kind.R @ K.T
        xs.append(x)
        Ps.append(P)
    if not xs:
        return Trace(
            np.empty((*x.shape[:-1], 0, len(unit))), np.empty((0, *P.shape)), np.empty((*x.shape[:-1], 0))
        )
    return Trace(np.stack(xs, -2), np.stack(Ps), np.stack(logs, -1))


def extrapolate(x: np.ndarray, kind: Dynamics, horizon: int) -> np.ndarray:
    """(n, horizon, D) positions that follow state x (n, S)."""
    found = np.empty((len(x), horizon, len(kind.H)))
    for k in range(horizon):
        x = x @ kind.F.T
        found[:, k] = x @ kind.H.T
    return found


def predict(past: np.ndarray, dt: float, horizon: int, order: int, q: float, r: float) -> np.ndarray:
    """Filter the past, then go on without measurements."""
    kind = model(order, dt, q, r, past.shape[2])
    states = run(past, kind).x
    return extrapolate(states[:, -1] if states.shape[1] else start(past[:, 0], kind), kind, horizon)


@linear
def kalman_cv(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """Constant velocity; acceleration noise 16 m/s^2, measurement noise 2 cm."""
    return predict(past, dt, horizon, 1, 16.0, 0.02)


@linear
def kalman_ca(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """Constant acceleration; its noise 2 m/s^2 per step, measurement noise 2 cm."""
    return predict(past, dt, horizon, 2, 2.0, 0.02)
