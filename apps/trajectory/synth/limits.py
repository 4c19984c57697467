"""What a multirotor can fly, and time scaling to it.

Slowing a path down by s divides speed by s, acceleration by s^2 and jerk by s^3, and leaves its shape alone.
Clipping would bend it.
"""

import math
from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81
MARGIN = 1.002
"""For peaks between the instants that are looked at."""


@dataclass(frozen=True)
class Limits:
    """Largest values of a flight."""

    speed_mps: float = 12.0
    acceleration_mps2: float = 8.0
    jerk_mps3: float = 60.0
    tilt_rad: float = math.radians(55)
    climb_mps: float = 6.0
    sink_mps: float = 3.0


RACING = Limits(speed_mps=25.0, acceleration_mps2=20.0)


def slowdown(v: np.ndarray, a: np.ndarray, j: np.ndarray, limits: Limits) -> float:
    """The smallest s >= 1 at which velocity, acceleration and jerk (n, 3) of a path keep the limits.

    Tilt is that of the thrust that the horizontal acceleration needs: |a_xy| <= g tan(tilt).
    """

    def peak(x: np.ndarray) -> float:
        return math.sqrt(float((x**2).sum(1).max()))

    level = GRAVITY * math.tan(limits.tilt_rad)
    need = max(
        peak(v) / limits.speed_mps,
        math.sqrt(peak(a) / limits.acceleration_mps2),
        math.sqrt(peak(a[:, :2]) / level),
        (peak(j) / limits.jerk_mps3) ** (1 / 3),
        float(v[:, 2].max()) / limits.climb_mps,
        float(-v[:, 2].min()) / limits.sink_mps,
    )
    return max(1.0, MARGIN * need)
