"""What a recorder makes of a flight: its rate, jitter, noise, gaps, repeats and disorder."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.signal import lfilter


@dataclass(frozen=True)
class Sensor:
    """One recorder; `draw` makes a random one."""

    rate_hz: float = 10.0
    jitter: float = 0.0
    """Standard deviation of a stamp, as a share of the step."""
    white_m: float = 0.0
    """Noise that differs from sample to sample."""
    slow_m: float = 0.0
    """Noise that wanders: a Gauss-Markov process."""
    slow_s: float = 5.0
    """Its time constant."""
    dropout: float = 0.0
    """Share of samples that begin a gap."""
    gap_s: float = 0.3
    """Mean length of a gap."""
    repeated: float = 0.0
    """Share of samples that carry the stamp of the one before."""
    late: float = 0.0
    """Share of samples that are written after the next one."""
    quantum_m: float = 0.0
    """Step that positions are rounded to; 0 for none."""


def draw(rng: Generator) -> Sensor:
    """10 to 100 Hz, 0 to 10 cm of noise, and each fault in a part of the recorders."""

    def sometimes(chance: float, value: float) -> float:
        return value if rng.random() < chance else 0.0

    noise = sometimes(0.8, math.exp(rng.uniform(math.log(1e-3), math.log(0.1))))
    share = rng.uniform(0.3, 1.0)
    return Sensor(
        rate_hz=float(rng.choice([10, 20, 30, 50, 100])),
        jitter=sometimes(0.5, rng.uniform(0, 0.15)),
        white_m=noise * share,
        slow_m=noise * math.sqrt(1 - share**2),
        slow_s=rng.uniform(1, 20),
        dropout=sometimes(0.3, rng.uniform(0, 0.02)),
        gap_s=rng.uniform(0.05, 0.8),
        repeated=sometimes(0.2, 0.01),
        late=sometimes(0.2, 0.005),
        quantum_m=sometimes(0.2, 0.01),
    )


def record(
    time_s: np.ndarray, positions: np.ndarray, velocities: np.ndarray, sensor: Sensor, rng: Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(stamps (m,), positions (m, 3)) in the order in which they are written, which may be disorder.

    Between the true samples the path is the cubic with their positions and velocities.
    """
    step = 1 / sensor.rate_hz
    stamps = np.arange(time_s[0], time_s[-1] + 1e-9, step)
    taken = np.sort(
        np.clip(stamps + sensor.jitter * step * rng.normal(size=len(stamps)), time_s[0], time_s[-1])
    )
    measured = hermite(time_s, positions, velocities, taken)
    measured += sensor.white_m * rng.normal(size=measured.shape)
    if sensor.slow_m:
        keep = math.exp(-step / sensor.slow_s)
        kicks = rng.normal(size=measured.shape) * sensor.slow_m * math.sqrt(1 - keep**2)
        kicks[0] = rng.normal(size=3) * sensor.slow_m
        measured += lfilter([1.0], [1.0, -keep], kicks, axis=0)
    if sensor.quantum_m:
        measured = np.round(measured / sensor.quantum_m) * sensor.quantum_m
    written = taken.copy()
    again = np.flatnonzero(rng.random(len(written)) < sensor.repeated)
    again = again[again > 0]
    written[again] = taken[again - 1]
    alive = np.ones(len(written), dtype=bool)
    for begin in np.flatnonzero(rng.random(len(written)) < sensor.dropout):
        alive[begin : begin + 1 + int(rng.exponential(sensor.gap_s) / step)] = False
    alive[[0, -1]] = True
    order = np.arange(len(written))
    swapped = np.flatnonzero(rng.random(len(order) - 1) < sensor.late)
    order[swapped], order[swapped + 1] = order[swapped + 1].copy(), order[swapped].copy()
    order = order[alive[order]]
    return written[order], measured[order]


def hermite(time_s: np.ndarray, p: np.ndarray, v: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Cubic interpolation of samples with velocities on an even clock: (m,) times -> (m, 3)."""
    h = time_s[1] - time_s[0]
    i = np.clip(((at - time_s[0]) / h).astype(np.int64), 0, len(time_s) - 2)
    x = ((at - time_s[i]) / h)[:, None]
    rest = 1 - x
    return (
        p[i] * (1 + 2 * x) * rest**2
        + p[i + 1] * (3 - 2 * x) * x**2
        + h * x * rest * (v[i] * rest - v[i + 1] * x)
    )
