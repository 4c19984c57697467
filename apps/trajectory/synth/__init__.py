"""Generated flights: twelve families of motion within the limits of a multirotor, seeded, numpy only.

flights = generate(seed=0, count=1000, split="train")
track = recorded(flights[0])

`curriculum` mixes these with families of its own into what a training sees; `write` puts flights into a file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.signal import lfilter

from apps.trajectory.data import in_order
from apps.trajectory.synth import sensor as sensors
from apps.trajectory.synth.limits import RACING, Limits, slowdown
from apps.trajectory.synth.paths import FAMILIES
from apps.trajectory.synth.sensor import Sensor
from apps.trajectory.track import Track
from core.errors import ConfigError

Split = Literal["train", "validation", "test"]
SLOTS = {"train": (0, 800_000), "validation": (800_000, 900_000), "test": (900_000, 1_000_000)}
"""Flight numbers of each split, so that no flight is in two of them."""
HELD_OUT = "helix"
"""The family that only the test split has."""
FINE_S = 0.02
"""Limits are looked at, and attitude lags, on a clock at least this fine."""
LAG_S = (0.05, 0.15)

__all__ = ["FAMILIES", "HELD_OUT", "RACING", "Flight", "Limits", "Sensor", "generate", "recorded"]


@dataclass(frozen=True)
class Flight:
    """The truth of one flight on an even clock."""

    seed: int
    number: int
    """With the seed, everything about the flight follows from it."""
    kind: str
    time_s: np.ndarray
    """(N,)."""
    positions: np.ndarray
    """(N, 3) metres, z up and above 0."""
    velocities: np.ndarray
    accelerations: np.ndarray
    parameters: dict[str, Any]

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def name(self) -> str:
        return f"generated/{self.kind}/{self.seed}-{self.number}"

    def track(self) -> Track:
        """The true path, with velocities."""
        return Track(self.name, "generated", self.time_s, 0, self.positions, self.velocities)


def generate(
    seed: int,
    count: int,
    *,
    split: Split = "train",
    families: Sequence[str] | None = None,
    duration_s: float = 20.0,
    dt: float = 0.1,
    limits: Limits | None = None,
    lag: bool = True,
) -> list[Flight]:
    """`count` flights; flight i of a split depends on the seed and i alone.

    Args:
        families: names of FAMILIES; None for all that the split may have.
        limits: instead of the usual ones (and the racing ones for racing).
        lag: let the vehicle follow the path with the first-order lag of its attitude, 50 to 150 ms.

    Raises:
        ConfigError: an unknown family, or a size that makes no flight.
    """
    names = list(families) if families else [name for name in FAMILIES if split == "test" or name != HELD_OUT]
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise ConfigError(f"no family {unknown[0]!r}; the generator has {', '.join(FAMILIES)}.")
    if split not in SLOTS:
        raise ConfigError(f"no split {split!r}; choose {', '.join(SLOTS)}.")
    first, end = SLOTS[split]
    if not 0 <= count <= end - first:
        raise ConfigError(f"the {split} split has {end - first} flights; {count} were asked for.")
    if not (0 < dt <= duration_s / 2 and math.isfinite(duration_s)) or seed < 0:
        raise ConfigError(
            f"duration_s {duration_s} must be two steps of dt {dt} or more, seed {seed} 0 or more."
        )
    return [one(seed, number, names, duration_s, dt, limits, lag) for number in range(first, first + count)]


def one(
    seed: int,
    number: int,
    names: Sequence[str],
    duration_s: float,
    dt: float,
    limits: Limits | None,
    lag: bool,
) -> Flight:
    """Draw a path, slow it down until it can be flown, sample it, lift it above ground."""
    rng = np.random.default_rng([seed, number])
    kind = names[int(rng.integers(len(names)))]
    path, parameters = FAMILIES[kind](rng, duration_s)
    every = math.ceil(dt / FINE_S)
    t = np.arange(math.floor(duration_s / dt + 1e-9) * every + 1) * (dt / every)
    keeps = limits or (RACING if kind == "racing" else Limits())
    v, a, jerk = (within(path, t, order) for order in (1, 2, 3))
    s = slowdown(v, a, jerk, keeps)
    p = within(path, t / s, 0)
    if s > 1:
        v, a = within(path, t / s, 1) / s, within(path, t / s, 2) / s**2
    if lag:
        tau = rng.uniform(*LAG_S)
        p, v, a = lagged(p, v, a, dt / every, tau)
        parameters = {**parameters, "lag_s": tau}
    p, v, a = p[::every], v[::every], a[::every]
    p = p + np.array([0, 0, rng.uniform(0.5, 3.0) - p[:, 2].min()])
    return Flight(seed, number, kind, t[::every], p, v, a, {**parameters, "slowdown": s})


def within(path: Any, u: np.ndarray, order: int) -> np.ndarray:
    """The path or a derivative; one that ends stays at its end."""
    knots = getattr(path, "t", getattr(path, "x", None))
    if knots is None or u[-1] <= knots[-1]:
        return path(u, nu=order)
    found = path(np.minimum(u, knots[-1]), nu=order)
    return found if order == 0 else np.where((u <= knots[-1])[:, None], found, 0.0)


def lagged(
    p: np.ndarray, v: np.ndarray, a: np.ndarray, step: float, tau: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position, velocity and acceleration behind tau dy/dt = x - y, started as if it had always been flown.

    Exact for inputs that are linear between samples:
    y_{k+1} = e y_k + (1 - e - c) x_{k+1} + c x_k,  e = exp(-step/tau),  c = tau/step (1 - e) - e
    """
    e = math.exp(-step / tau)
    c = tau / step * (1 - e) - e
    b, den = [1 - e - c, c], [1.0, -e]

    def follow(x: np.ndarray, begin: np.ndarray) -> np.ndarray:
        state = (c * x[0] + e * begin)[None]
        return np.concatenate([begin[None], lfilter(b, den, x[1:], axis=0, zi=state)[0]])

    return follow(p, p[0] - tau * v[0] + tau**2 * a[0]), follow(v, v[0] - tau * a[0]), follow(a, a[0])


def recorded(flight: Flight, sensor: Sensor | None = None) -> Track:
    """A flight as a recorder has it, sorted and without repeats; None draws a recorder."""
    rng = np.random.default_rng([flight.seed, flight.number, 1])
    sensor = sensor or sensors.draw(rng)
    time_s, positions = sensors.record(flight.time_s, flight.positions, flight.velocities, sensor, rng)
    order = in_order(time_s)
    return Track(flight.name, "generated", time_s[order], 0, positions[order])
