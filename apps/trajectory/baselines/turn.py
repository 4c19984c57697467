"""Constant turn rate in the horizontal plane, at constant speed or constant acceleration along the path.

With v the last difference over dt, turned on by omega dt per step and stretched by the speed s_j of step j:

    p_k = p + dt sum_{j=1..k} (s_j / s) R(j omega dt) v,  s_j = max(s + j a dt, 0)

which continues a sampled circle exactly. The third axis goes on at its last rate.
"""

import numpy as np

from apps.trajectory.baselines.linear import check, constant_velocity

TURN_POINTS = 5
"""Velocities that turn rate and acceleration are estimated from."""
SLOWEST_MPS = 0.1
"""Below this speed a heading means nothing, and the path goes straight on."""


def turning(past: np.ndarray, dt: float, horizon: int, accelerate: bool) -> np.ndarray:
    """Both predictors for 2 or 3 axes; several points of 3 axes side by side turn each by themselves."""
    past = check(past, horizon)
    n, history, dims = past.shape
    if dims > 3 and dims % 3 == 0:
        points = past.reshape(n, history, dims // 3, 3).transpose(0, 2, 1, 3).reshape(-1, history, 3)
        ahead = turning(points, dt, horizon, accelerate).reshape(n, dims // 3, horizon, 3)
        return ahead.transpose(0, 2, 1, 3).reshape(n, horizon, dims)
    if history < 3 or dims not in (2, 3):
        return constant_velocity(past, dt, horizon)
    velocity = np.diff(past, axis=1)[:, -TURN_POINTS:] / dt
    before, after = velocity[:, :-1, :2], velocity[:, 1:, :2]
    cross = (before[..., 0] * after[..., 1] - before[..., 1] * after[..., 0]).sum(1)
    dot = (before * after).sum((1, 2))
    speed = np.sqrt((velocity[..., :2] ** 2).sum(-1))
    moving = speed[:, -1] > SLOWEST_MPS
    omega_dt = np.where(moving, np.arctan2(cross, dot), 0.0)
    gain = np.zeros(n)
    if accelerate:
        k = np.arange(speed.shape[1]) - (speed.shape[1] - 1) / 2
        gain = np.where(moving, speed @ k / (k**2).sum(), 0.0)  # speed gained per step
    j = np.arange(1, horizon + 1)
    angle = omega_dt[:, None] * j
    last = np.where(moving, speed[:, -1], 1.0)[:, None]
    stretch = np.maximum(1 + gain[:, None] * j / last, 0.0)
    c, s = stretch * np.cos(angle), stretch * np.sin(angle)
    vx, vy = velocity[:, -1, 0, None], velocity[:, -1, 1, None]
    moves = [c * vx - s * vy, s * vx + c * vy]
    if dims == 3:
        moves.append(np.repeat(velocity[:, -1, 2, None], horizon, 1))
    return past[:, -1:] + dt * np.cumsum(np.stack(moves, -1), 1)


def ctrv(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """Constant turn rate and speed."""
    return turning(past, dt, horizon, accelerate=False)


def ctra(past: np.ndarray, dt: float, horizon: int) -> np.ndarray:
    """Constant turn rate and acceleration along the path."""
    return turning(past, dt, horizon, accelerate=True)
