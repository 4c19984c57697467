"""The methods that a network must beat: no training, one interface.

predict(past (n, history, D), dt, horizon) -> (n, horizon, D)
"""

from apps.trajectory.baselines.imm import imm_ca
from apps.trajectory.baselines.kalman import kalman_ca, kalman_cv
from apps.trajectory.baselines.linear import (
    Predict,
    constant_acceleration,
    constant_velocity,
    constant_velocity_ls,
    hold,
    polynomial,
)
from apps.trajectory.baselines.turn import ctra, ctrv

BASELINES: dict[str, Predict] = {
    "hold": hold,
    "constant_velocity": constant_velocity,
    "constant_velocity_ls": constant_velocity_ls,
    "constant_acceleration": constant_acceleration,
    "kalman_cv": kalman_cv,
    "kalman_ca": kalman_ca,
    "imm": imm_ca,
    "ctrv": ctrv,
    "ctra": ctra,
    "polynomial": polynomial,
}

__all__ = ["BASELINES", "Predict"]
