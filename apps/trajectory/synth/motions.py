"""Motions of many movers, each told by a few numbers: what a predictor must not do worse than a ruler.

Drones straight up, take-off, landing, fall, straight flight from walking pace to 250 m/s, rest, hard stops,
corners, pauses, the grid of a GPS, pedestrians with gait, cars that change lanes, ships that heave, circles;
recorded at 1, 10 or 100 Hz. The true path and what a recorder makes of it are both known, so an error can be
measured against the truth and a ball against the record.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.signal import lfilter

HEIGHT_M = 50.0
LATITUDE = math.radians(47)
DEGREE_M = 111_320.0
TRACK_S = 12.0
"""Length of a track, at steps of 0.1 s; slower recorders see the same number of samples."""

Path = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Motion:
    """One track: where it was, and what was written down."""

    family: str
    time_s: np.ndarray
    """(N,) on an even clock."""
    truth: np.ndarray
    """(N, D) metres."""
    recorded: np.ndarray
    """(N, D) metres."""

    @property
    def step_s(self) -> float:
        return float(self.time_s[1] - self.time_s[0])


@dataclass(frozen=True)
class Draw:
    """Random numbers of one track; `wider` stretches every range at both ends, `scale` multiplies it."""

    rng: Generator
    wider: float = 1.0
    scale: float = 1.0

    def uniform(self, low: float, high: float) -> float:
        low = low / self.wider if low > 0 else low * self.wider
        return self.scale * float(self.rng.uniform(low, high * self.wider))

    def log(self, low: float, high: float) -> float:
        exponent = self.rng.uniform(math.log(low / self.wider), math.log(high * self.wider))
        return self.scale * float(np.exp(exponent))

    def sign(self) -> float:
        return float(self.rng.choice([-1.0, 1.0]))

    def instant(self, low: float, high: float, span_s: float) -> float:
        """A time that is low to high in a track of 12 s, in one of span_s."""
        return float(self.rng.uniform(low, high)) * span_s / TRACK_S

    def along(self) -> tuple[np.ndarray, np.ndarray]:
        """A horizontal direction and its left normal, (3,) each."""
        angle = self.rng.uniform(0, 2 * math.pi)
        c, s = math.cos(angle), math.sin(angle)
        return np.array([c, s, 0.0]), np.array([-s, c, 0.0])

    def wander(self, t: np.ndarray, deviation: float, constant_s: float) -> np.ndarray:
        """A Gauss-Markov process per axis, (N, 3)."""
        keep = math.exp(-(t[1] - t[0]) / constant_s)
        kicks = self.rng.normal(size=(len(t), 3)) * deviation * math.sqrt(1 - keep**2)
        kicks[0] = self.rng.normal(size=3) * deviation
        return np.asarray(lfilter([1.0], [1.0, -keep], kicks, axis=0))


def at_height(t: np.ndarray, height: float | np.ndarray = HEIGHT_M) -> np.ndarray:
    """(N, 3) standing at the origin."""
    place = np.zeros((len(t), 3))
    place[:, 2] = height
    return place


def vertical(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    height = HEIGHT_M + draw.sign() * draw.uniform(1, 6) * t
    return at_height(t, height) + draw.wander(t, 0.05, 2.0), 0.01


def takeoff(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    begin, gain, climb = draw.instant(2.5, 7, t[-1]), draw.uniform(1, 3), draw.uniform(1, 5)
    since = np.maximum(t - begin, 0)
    until = np.minimum(since, climb / gain)
    return at_height(t, HEIGHT_M + gain * until**2 / 2 + climb * (since - until)), 0.02


def landing(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    sink, end = draw.uniform(0.5, 2), draw.instant(4, 10, t[-1])
    path = at_height(t, np.maximum(sink * (end - t), 0))
    return path + draw.uniform(0, 0.3) * np.minimum(t, end)[:, None] * draw.along()[0], 0.02


def free_fall(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    fallen = 9.81 * np.maximum(t - draw.instant(3, 8, t[-1]), 0) ** 2 / 2
    return at_height(t, HEIGHT_M - fallen) + draw.uniform(0, 3) * t[:, None] * draw.along()[0], 0.02


def line(t: np.ndarray, draw: Draw, low: float, high: float, climb: float) -> np.ndarray:
    pace = draw.log(low, high) * draw.along()[0]
    return at_height(t) + t[:, None] * (pace + np.array([0, 0, draw.uniform(-climb, climb)]))


def straight_exact(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    return line(t, draw, 1, 250, 2), 0.0


def straight_noisy(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    return line(t, draw, 1, 250, 2), draw.log(0.02, 1)


def rest(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    return at_height(t), draw.log(0.005, 0.2)


def hard_stop(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    speed, begin, brake = draw.uniform(3, 15), draw.instant(3, 9, t[-1]), draw.uniform(4, 8)
    braking = np.clip(t - begin, 0, speed / brake)
    way = speed * np.minimum(t, begin) + speed * braking - brake * braking**2 / 2
    return at_height(t) + way[:, None] * draw.along()[0], 0.02


def corner(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    speed, radius, begin, side = (
        draw.uniform(2, 8),
        draw.uniform(0.5, 2),
        draw.instant(3, 9, t[-1]),
        draw.sign(),
    )
    ahead, left = draw.along()
    way = speed * t
    angle = np.clip((way - speed * begin) / radius, 0, math.pi / 2)
    beyond = np.maximum(way - speed * begin - radius * math.pi / 2, 0)
    forward = np.minimum(way, speed * begin) + radius * np.sin(angle)
    sideways = side * (radius * (1 - np.cos(angle)) + beyond)
    return at_height(t) + forward[:, None] * ahead + sideways[:, None] * left, 0.02


def pauses(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    """Legs of trapezoid speed and rests in turn."""
    fine = np.arange(0, t[-1] + 0.02, 0.01)
    pace, start, moving = np.zeros_like(fine), 0.0, bool(draw.rng.random() < 0.5)
    while start < t[-1]:
        length = draw.rng.uniform(1.5, 3.5)
        if moving:
            since = fine - start
            leg = np.minimum(np.minimum(draw.uniform(1, 6), 4 * since), 4 * (length - since))
            pace = np.where((since >= 0) & (since <= length), np.maximum(leg, 0), pace)
        start, moving = start + length, not moving
    way = np.interp(t, fine, np.concatenate([[0], np.cumsum((pace[1:] + pace[:-1]) / 2 * 0.01)]))
    return at_height(t) + way[:, None] * draw.along()[0], 0.02


def gps_grid(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    walk = draw.uniform(0.3, 2) * t[:, None] * draw.along()[0]
    return at_height(t) + walk + draw.wander(t, 0.5, 30.0), 0.0


def pedestrian(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    """Yaw is a random walk; the body sways with the steps."""
    fine = np.linspace(0, t[-1], max(len(t), round(t[-1] / 0.1) + 1))
    step = fine[1] - fine[0]
    walk = draw.rng.normal(size=len(fine)) * 0.25 * math.sqrt(step)
    yaw = draw.rng.uniform(0, 2 * math.pi) + np.cumsum(walk)
    ahead = np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], 1)
    way = np.cumsum(np.vstack([np.zeros(3), ahead[:-1]]), 0) * draw.uniform(0.8, 1.8) * step
    beat, phase = 2 * math.pi * draw.uniform(0.8, 1.1), draw.rng.uniform(0, 2 * math.pi)
    sway = draw.uniform(0.02, 0.04) * np.sin(beat * t + phase)
    bob = 0.015 * np.sin(2 * (beat * t + phase))
    way, ahead = (np.stack([np.interp(t, fine, axis) for axis in x.T], 1) for x in (way, ahead))
    left = np.stack([-ahead[:, 1], ahead[:, 0], 0 * t], 1)
    return way + sway[:, None] * left + bob[:, None] * ahead, 0.02


def lane_change(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    ahead, left = draw.along()
    x = np.clip((t - draw.instant(3, 7, t[-1])) / draw.uniform(3, 6), 0, 1)
    aside = draw.sign() * 3.5 * (10 * x**3 - 15 * x**4 + 6 * x**5)
    return draw.uniform(10, 35) * t[:, None] * ahead + aside[:, None] * left, 0.05


def circling(t: np.ndarray, speed: float, rate: float, draw: Draw) -> np.ndarray:
    """A level circle at `rate` radians a second, begun in any direction."""
    start = draw.rng.uniform(0, 2 * math.pi)
    if abs(rate) < 1e-9:
        return speed * t[:, None] * [math.cos(start), math.sin(start), 0]
    radius = speed / rate
    angle = start + rate * t
    flat = [radius * (np.sin(angle) - math.sin(start)), radius * (math.cos(start) - np.cos(angle)), 0 * t]
    return np.stack(flat, 1)


def ship(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    rate = draw.sign() * math.radians(draw.uniform(0, 0.6))
    path = circling(t, draw.uniform(3, 10), rate, draw)
    beat = 2 * math.pi / draw.uniform(6, 12)
    path[:, 2] = draw.uniform(0.3, 1.5) * np.sin(beat * t + draw.rng.uniform(0, 2 * math.pi))
    return path, 0.1


def turn(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    speed = draw.uniform(5, 30)
    path = circling(t, speed, draw.sign() * speed / draw.log(10, 100), draw)
    return path + at_height(t, HEIGHT_M + draw.uniform(-1, 1) * t), 0.02


def turn_1hz(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    path = circling(t, draw.uniform(60, 120), draw.sign() * math.radians(draw.uniform(1, 4)), draw)
    return path + at_height(t, HEIGHT_M + draw.uniform(-5, 5) * t), 2.0


def noisy_100hz(t: np.ndarray, draw: Draw) -> tuple[np.ndarray, float]:
    return line(t, draw, 2, 40, 1), draw.log(0.02, 0.2)


Family = Callable[[np.ndarray, Draw], tuple[np.ndarray, float]]
MOTIONS: dict[str, Family] = {
    "vertical": vertical,
    "takeoff": takeoff,
    "landing": landing,
    "free_fall": free_fall,
    "straight_exact": straight_exact,
    "straight_noisy": straight_noisy,
    "rest": rest,
    "hard_stop": hard_stop,
    "corner": corner,
    "pauses": pauses,
    "gps_grid": gps_grid,
    "pedestrian": pedestrian,
    "lane_change": lane_change,
    "ship": ship,
    "turn": turn,
    "turn_1hz": turn_1hz,
    "noisy_100hz": noisy_100hz,
}
"""Family -> true path (N, 3) at times, and the deviation of the white noise of its record."""
FLAT = frozenset({"pedestrian", "lane_change"})
"""Families of two coordinates."""
STEPS_S = {"turn_1hz": 1.0, "noisy_100hz": 0.01}
SPANS_S = {"turn_1hz": 60.0}


def motion(
    family: str,
    rng: Generator,
    *,
    step_s: float | None = None,
    span_s: float | None = None,
    wider: float = 1.0,
    scale: float = 1.0,
    noise: float | None = None,
    digits: int = 6,
) -> Motion:
    """One track of a family.

    Args:
        step_s: seconds between samples; None: the family's own, mostly 0.1.
        span_s: length of the track; None: 12 s, or the family's own.
        wider: stretches the family's ranges at both ends by this factor.
        scale: multiplies all of them.
        noise: deviation of the record, m; None: the family's own.
        digits: behind the point of what is written down.
    """
    step = step_s or STEPS_S.get(family, 0.1)
    span = span_s or SPANS_S.get(family, TRACK_S)
    t = step * np.arange(round(span / step) + 1)
    draw = Draw(rng, wider, scale)
    truth, usual = MOTIONS[family](t, draw)
    recorded = truth + (usual if noise is None else noise) * rng.normal(size=truth.shape)
    if family == "gps_grid":
        grid = DEGREE_M * 1e-7 * np.array([math.cos(LATITUDE), 1.0, 0.0]) + [0, 0, 0.05]
        recorded = np.round(recorded / grid) * grid
    dims = 2 if family in FLAT else 3
    return Motion(family, t, truth[:, :dims], recorded[:, :dims].round(digits))
