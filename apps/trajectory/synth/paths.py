"""Families of motion. Each draws a path p(u) that can be evaluated with all its derivatives, exactly.

Closed forms are sums of sinusoids; waypoint flight is the spline of degree 7 that minimises snap through the
points (continuous to the 6th derivative); legs and bursts are pieces of constant jerk. None of them obeys
any limit yet: see `limits`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PPoly, make_interp_spline

Path = Callable[..., np.ndarray]
"""(times (n,), order of the derivative) -> (n, 3)."""
Part = tuple[np.ndarray, float, float]
"""(amplitude vector, rate, phase) of a sinusoid."""
Drawn = tuple[Path, dict[str, Any]]
"""A path and the parameters that it was drawn with."""


@dataclass(frozen=True)
class Waves:
    """p(u) = start + slope u + sum_w amplitude_w sin(rate_w u + phase_w)."""

    amplitude: np.ndarray
    """(W, 3)."""
    rate: np.ndarray
    phase: np.ndarray
    slope: np.ndarray

    def __call__(self, u: np.ndarray, nu: int = 0) -> np.ndarray:
        waves = np.sin(u[:, None] * self.rate + (self.phase + nu * math.pi / 2)) @ (
            self.amplitude * self.rate[:, None] ** nu
        )
        if nu == 0:
            return waves + u[:, None] * self.slope
        return waves + self.slope if nu == 1 else waves


def waves(parts: list[Part], slope: np.ndarray | None = None) -> Waves:
    """From (amplitude vector, rate, phase) of each sinusoid."""
    amplitude, rate, phase = zip(*parts, strict=True)
    return Waves(
        np.array(amplitude),
        np.array(rate),
        np.array(phase),
        np.zeros(3) if slope is None else np.asarray(slope),
    )


def from_jerk(durations: np.ndarray, jerk: np.ndarray, v0: np.ndarray) -> Path:
    """Pieces (m,) of constant jerk (m, 3), from velocity v0 and no acceleration."""
    d = durations[:, None]
    a = np.concatenate([np.zeros((1, 3)), np.cumsum(jerk * d, 0)])[:-1]
    v = v0 + np.concatenate([np.zeros((1, 3)), np.cumsum(a * d + jerk * d**2 / 2, 0)])[:-1]
    p = np.concatenate([np.zeros((1, 3)), np.cumsum(v * d + a * d**2 / 2 + jerk * d**3 / 6, 0)])[:-1]
    return PPoly(np.stack([jerk / 6, a / 2, v, p]), np.concatenate([[0.0], np.cumsum(durations)]))


def legs(points: np.ndarray, speed: float, rest_s: np.ndarray, rng: Generator) -> Path:
    """Straight legs between points, each from rest to rest by a trapezoid of speed with rounded corners.

    Pieces of a leg: jerk +J, 0, -J for the times (c, b, c), cruise, and the same backwards, with
    v = J c (b + c) and length = v (2 c + b + cruise).
    """
    moves = np.diff(points, axis=0)
    length = np.maximum(np.linalg.norm(moves, axis=1), 1e-6)
    corner = rng.uniform(0.2, 0.5, len(moves))
    push = speed / rng.uniform(1.5, 4.0, len(moves))
    cruise = np.maximum(length / speed - 2 * corner - push, 0.0)
    v = length / (2 * corner + push + cruise)
    j = (v / (corner * (push + corner)))[:, None] * moves / length[:, None]
    none = np.zeros_like(j)
    durations = np.stack([corner, push, corner, cruise, corner, push, corner, rest_s], 1)
    jerk = np.stack([j, none, -j, none, -j, none, j, none], 1)
    keep = durations.ravel() > 1e-9
    return from_jerk(durations.ravel()[keep], jerk.reshape(-1, 3)[keep], np.zeros(3))


def minimum_snap(points: np.ndarray, times: np.ndarray) -> Path:
    """The C^6 spline of degree 7 through the points, at rest at both ends up to jerk."""
    rest = [(order, np.zeros(3)) for order in (1, 2, 3)]
    return make_interp_spline(times, points, k=7, bc_type=(rest, rest))


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def plane(rng: Generator, tilt: float) -> tuple[np.ndarray, np.ndarray]:
    """Two orthogonal unit vectors of a plane whose normal leans by at most `tilt` radians."""
    lean, turn, spin = rng.uniform(0, tilt), rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
    normal = np.array([math.sin(lean) * math.cos(turn), math.sin(lean) * math.sin(turn), math.cos(lean)])
    side = np.cross(normal, [1.0, 0.0, 0.0] if abs(normal[0]) < 0.9 else [0.0, 1.0, 0.0])
    side /= np.linalg.norm(side)
    other = np.cross(normal, side)
    return math.cos(spin) * side + math.sin(spin) * other, math.cos(spin) * other - math.sin(spin) * side


def phase(rng: Generator) -> float:
    return rng.uniform(0, 2 * math.pi)


def hover(rng: Generator, duration_s: float) -> Drawn:
    """Station keeping: a slow drift and a sway of centimetres."""
    drift = rng.normal(size=3) * [1, 1, 0.3] * log_uniform(rng, 0.005, 0.15)
    sway = log_uniform(rng, 0.01, 0.15)
    parts = [(sway * rng.normal(size=3) / 2, rng.uniform(0.2, 3.0), phase(rng)) for _ in range(5)]
    return waves(parts, drift), {"drift_mps": float(np.linalg.norm(drift)), "sway_m": sway}


def line(rng: Generator, duration_s: float) -> Drawn:
    """There and back on a straight line, with a trapezoid of speed."""
    speed = log_uniform(rng, 0.3, 12)
    direction = rng.normal(size=3) * [1, 1, 0.3]
    direction /= np.linalg.norm(direction)
    length = max(speed * rng.uniform(2, max(duration_s, 3)), 1.0)
    count = math.ceil(duration_s * speed / length) + 2
    points = np.where(np.arange(count + 1)[:, None] % 2, length, 0.0) * direction
    return legs(points, speed, rng.exponential(0.5, count), rng), {"speed_mps": speed, "length_m": length}


def ring(rng: Generator, narrow: float, tilt: float) -> tuple[list[Part], dict[str, Any]]:
    """Sinusoids of an ellipse in a random plane."""
    radius, speed = log_uniform(rng, 0.5, 20), log_uniform(rng, 0.3, 12)
    rate = min(speed / radius, math.sqrt(rng.uniform(3, 14) / radius)) * rng.choice([-1, 1])
    one, two = plane(rng, tilt)
    begin = phase(rng)
    parts = [(radius * one, rate, begin + math.pi / 2), (narrow * radius * two, rate, begin)]
    return parts, {"radius_m": radius, "rate_radps": float(rate)}


def circle(rng: Generator, duration_s: float) -> Drawn:
    """A circle in a plane that leans by up to 45 degrees."""
    parts, parameters = ring(rng, 1.0, math.pi / 4)
    return waves(parts), parameters


def ellipse(rng: Generator, duration_s: float) -> Drawn:
    """An ellipse with an axis ratio down to 0.3."""
    narrow = rng.uniform(0.3, 0.95)
    parts, parameters = ring(rng, narrow, math.pi / 4)
    return waves(parts), {**parameters, "axis_ratio": narrow}


def helix(rng: Generator, duration_s: float) -> Drawn:
    """A helix or spiral; (1 + m sin w u) times a circle is three circles."""
    parts, parameters = ring(rng, 1.0, 0.2)
    swell, slow = rng.uniform(0, 0.5) * rng.choice([0, 1]), rng.uniform(0.05, 0.3)
    for amplitude, rate, begin in list(parts) if swell else []:
        parts.append((amplitude * swell / 2, rate - slow, begin + math.pi / 2))
        parts.append((amplitude * swell / 2, rate + slow, begin - math.pi / 2))
    climb = rng.uniform(-2, 3)
    return waves(parts, np.array([0, 0, climb])), {**parameters, "climb_mps": climb, "swell": swell}


def lemniscate(rng: Generator, duration_s: float) -> Drawn:
    """A figure of eight (Gerono's: cos, sin 2 / 2) in a plane of any direction."""
    size, speed = log_uniform(rng, 0.6, 15), log_uniform(rng, 0.3, 12)
    rate = min(speed / size, math.sqrt(rng.uniform(2, 10) / size))
    one, two = plane(rng, math.pi)
    begin = phase(rng)
    parts = [(size * one, rate, begin + math.pi / 2), (size / 2 * two, 2 * rate, 2 * begin)]
    return waves(parts), {"size_m": size, "rate_radps": rate}


def lissajous(rng: Generator, duration_s: float) -> Drawn:
    """One sinusoid per axis, their rates in the ratio of small integers."""
    ratio = rng.integers(1, 4, 3)
    size = np.array([log_uniform(rng, 0.5, 10), log_uniform(rng, 0.5, 10), log_uniform(rng, 0.2, 3)])
    rate = min(log_uniform(rng, 0.1, 3), math.sqrt(rng.uniform(3, 14) / (size * ratio**2).max()))
    one, two = plane(rng, 0.0)
    parts = [
        (size[0] * one, rate * ratio[0], phase(rng)),
        (size[1] * two, rate * ratio[1], phase(rng)),
        (np.array([0, 0, size[2]]), rate * ratio[2], phase(rng)),
    ]
    return waves(parts), {"ratio": ratio.tolist(), "size_m": size.tolist(), "rate_radps": rate}


def waypoints(rng: Generator, duration_s: float) -> Drawn:
    """Minimum snap through random waypoints; time between two of them from their distance."""
    speed = log_uniform(rng, 0.5, 10)
    reach = speed * rng.uniform(1.5, 4.0)
    count = min(math.ceil(duration_s * speed / reach) + 3, 60)
    heading = np.cumsum(rng.normal(0, 0.9, count))
    step = np.stack([np.cos(heading), np.sin(heading), rng.normal(0, 0.2, count)], 1)
    points = np.concatenate(
        [np.zeros((1, 3)), np.cumsum(step * reach * rng.uniform(0.5, 1.5, (count, 1)), 0)]
    )
    return minimum_snap(points, allocate(points, speed, 4.0)), {"speed_mps": speed, "waypoints": count}


def allocate(points: np.ndarray, speed: float, acceleration: float) -> np.ndarray:
    """Times of waypoints: distance at cruise speed, and time to gain and to lose it."""
    times = np.linalg.norm(np.diff(points, axis=0), axis=1) / speed + 0.05
    times[[0, -1]] += speed / acceleration
    return np.concatenate([[0.0], np.cumsum(times)])


def racing(rng: Generator, duration_s: float) -> Drawn:
    """Laps through gates on a closed loop, no two laps alike, at the edge of what can be flown."""
    gates, speed = int(rng.integers(5, 10)), rng.uniform(5, 18)
    angle = 2 * math.pi * np.arange(gates) / gates + rng.normal(0, 0.15, gates)
    radius = speed**2 / rng.uniform(8, 16) * np.array([rng.uniform(1, 2.2), rng.uniform(0.8, 1.2)])
    loop = np.stack([radius[0] * np.cos(angle), radius[1] * np.sin(angle), rng.normal(0, 0.6, gates)], 1)
    loop *= rng.uniform(0.8, 1.2, (gates, 1))
    around = np.linalg.norm(np.diff(loop, axis=0, append=loop[:1]), axis=1).sum()
    laps = min(math.ceil(duration_s * speed / around) + 2, 40)
    points = np.concatenate([loop + rng.normal(0, 0.02 * radius.min(), loop.shape) for _ in range(laps)])
    return minimum_snap(points, allocate(points, speed, 8.0)), {
        "speed_mps": speed,
        "gates": gates,
        "laps": laps,
    }


def evasive(rng: Generator, duration_s: float) -> Drawn:
    """Bursts of jerk that throw the velocity to another one again and again."""
    speed = log_uniform(rng, 2, 12)
    rest = rng.exponential(0.6, int(duration_s / 0.6) + 4)
    velocity = rng.normal(size=(len(rest) + 1, 3)) * [0.6, 0.6, 0.15] * speed
    change = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
    # a burst +J, -J peaks at an acceleration of 2 change / burst and needs a jerk of 4 change / burst^2
    burst = np.maximum(2 * change / 7, np.sqrt(4 * change / 55)) * rng.uniform(1.0, 1.6, len(rest)) + 0.05
    jerk = 4 * np.diff(velocity, axis=0) / burst[:, None] ** 2
    durations = np.stack([burst / 2, burst / 2, rest + 0.05], 1).ravel()
    pieces = np.stack([jerk, -jerk, 0 * jerk], 1).reshape(-1, 3)
    return from_jerk(durations, pieces, velocity[0]), {"speed_mps": speed}


def survey(rng: Generator, duration_s: float) -> Drawn:
    """Lawn mower: parallel lanes with a stop at every corner and photo stops on the way."""
    speed, lane = log_uniform(rng, 0.5, 8), log_uniform(rng, 2, 15)
    length = speed * rng.uniform(4, 10)
    lanes = min(math.ceil(duration_s * speed / (length + lane)) + 2, 200)
    row = np.repeat(np.arange(lanes), 2)
    along = np.where((np.arange(2 * lanes) + 1) // 2 % 2, length, 0.0)
    one, two = plane(rng, 0.0)
    points = along[:, None] * one + lane * row[:, None] * two
    stops = rng.exponential(rng.uniform(0.1, 1.5), len(points) - 1)
    return legs(points, speed, stops, rng), {"speed_mps": speed, "lane_m": lane, "length_m": length}


def inspection(rng: Generator, duration_s: float) -> Drawn:
    """Slow flight in rooms and along walls: a smooth random velocity of 0.2 to 2 m/s, less of it upwards."""
    speed, count = log_uniform(rng, 0.2, 2.0), 24
    centre = rng.uniform(0.3, 1.5)
    rate = np.clip(rng.gamma(2.0, centre / 2, count), 0.05, 4 * centre)
    share = np.array([1, 1, rng.uniform(0.15, 0.7)]) / math.sqrt(1.5 * count)
    amplitude = rng.normal(size=(count, 3)) * speed * share / rate[:, None]
    drift = rng.normal(size=3) * [1, 1, 0.2] * 0.4 * speed
    # one phase per axis would need three times the waves; a wave per axis gives the same freedom
    axis = np.eye(3)[rng.integers(0, 3, count)]
    return Waves(1.7 * amplitude * axis, rate, rng.uniform(0, 2 * math.pi, count), drift), {
        "speed_mps": speed
    }


FAMILIES: dict[str, Callable[[Generator, float], Drawn]] = {
    "hover": hover,
    "line": line,
    "circle": circle,
    "ellipse": ellipse,
    "helix": helix,
    "lemniscate": lemniscate,
    "lissajous": lissajous,
    "waypoints": waypoints,
    "racing": racing,
    "evasive": evasive,
    "survey": survey,
    "inspection": inspection,
}
