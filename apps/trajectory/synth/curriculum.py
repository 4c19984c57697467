"""Flights to train on: the families of motion, their ranges, their shares, and how they are recorded.

Ranges follow the flights that the model is meant for: geometric set patterns with 1 cm of noise (lines,
circles, lemniscates), set patterns flown in simulation, racing laps, rooms and halls. Everything is sampled
at the recorder's instants, which are not always the ones it writes down: see `recorder`.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

from apps.trajectory import synth
from apps.trajectory.data import resample
from apps.trajectory.dense import through_all
from apps.trajectory.synth.motions import MOTIONS, SPANS_S, Motion, motion


def flights(count: int, length: int, dt: float, seed: int) -> dict[str, list[np.ndarray]]:
    """`count` flights of up to `length` samples, float32 (n, 3) each: `patterns` and `free` flight.

    Seven of ten are of the families below; three are of `synth`, half of them through its sensor.
    """
    outside = round(0.3 * count)
    made: dict[str, list[np.ndarray]] = {"patterns": [], "free": []}
    for index in range(count - outside):
        name, positions = flight(length, dt, np.random.default_rng([seed, index]))
        made["patterns" if name.startswith(("plain", "pattern")) else "free"].append(positions)
    for index, truth in enumerate(synth.generate(seed, outside, split="train", duration_s=length * dt)):
        track = synth.recorded(truth) if index % 2 else truth.track()
        made["free"].append(max(resample(track, dt), key=len).positions.astype(np.float32))
    order = np.random.default_rng([seed, count]).permutation(len(made["free"]))
    return {**made, "free": [made["free"][index] for index in order]}


WIDER = 1.2
"""Families are drawn wider than they are tested."""
REPORTS = {
    "pedestrian": (0.2, 0.5),
    "lane_change": (0.2, 0.6),
    "ship": (1.0, 30.0),
    "turn": (0.2, 0.5),
    "straight_noisy": (0.2, 2.0),
    "pauses": (0.2, 0.5),
    "vertical": (0.2, 1.0),
    "rest": (0.2, 2.0),
}
"""Families that slower recorders see too: least and greatest step in seconds."""


def motions(count: int, dims: int, dt: float, seed: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name and `count` tracks, float32 (n, dims) each, of every family of `motions` at its own pace (more of
    short ones) and of `REPORTS` at theirs, brought to steps of dt: lengths shrink with time, speeds stay."""
    paces = [(family, None) for family in MOTIONS if family != "noisy_100hz"] + list(REPORTS.items())
    for place, (family, pace) in enumerate(paces):
        rng = np.random.default_rng([seed, place, 29])
        tracks = []
        short = pace is None and family in SPANS_S  # half as many samples, a third of the windows
        for _ in range(3 * count if short else count):
            step = None if pace is None else log_uniform(rng, *pace)
            made = motion(family, rng, step_s=step, span_s=None if step is None else 120 * step, wider=WIDER)
            seen = np.zeros((len(made.time_s), dims), np.float32)
            known = min(dims, made.recorded.shape[1])
            seen[:, :known] = made.recorded[:, :known] * (dt / made.step_s)
            tracks.append(seen)
        yield f"{'motion' if pace is None else 'reports'} {family}", tracks


FAST = (2, 20)
"""Samples a step of recorders that are faster than the model: least and most."""


def dense(count: int, dims: int, dt: float, seed: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name and `count` tracks, float32 (n, 5 dims) each, of every family as a faster recorder sees it.

    Behind each position, taken every dt, stand the lines through all samples (`dense.through_all`). A third
    of `count` tracks is made, and all of straight flight, which is the hardest to know by its noise.
    """
    for place, family in enumerate(MOTIONS):
        if family == "turn_1hz":
            continue
        rng = np.random.default_rng([seed, place, 31])
        tracks = []
        for _ in range(count if family == "noisy_100hz" else (count + 2) // 3):
            many = 10 if rng.random() < 0.3 else int(rng.integers(FAST[0], FAST[1] + 1))
            made = motion(family, rng, step_s=dt / many, wider=WIDER)
            tracks.append(with_lines(made, many, dt, dims).astype(np.float32))
        yield f"fast {family}", tracks


def with_lines(made: Motion, many: int, step: float, dims: int) -> np.ndarray:
    """(n, 5 dims): every so many places, `step` seconds apart, and behind each the lines through all."""
    known = min(dims, made.recorded.shape[1])
    grid = made.time_s[::many]
    lines = through_all(made.time_s, made.recorded[:, :known], grid, step)
    seen = np.zeros((len(grid), 5, dims))
    seen[:, 0, :known] = made.recorded[::many, :known]
    seen[:, 1:, :known] = lines.reshape(len(grid), 4, known)
    return seen.reshape(len(grid), 5 * dims)


QUIET = (1e-5, 1e-2)
"""Noise in metres that hardly shows: least and greatest."""
DIGITS = {1: 0.08, 2: 0.25, 3: 0.25, 4: 0.14, 5: 0.14, 6: 0.14}
"""Digits behind the point -> share of the records that are rounded so."""


def quiet(count: int, dims: int, dt: float, seed: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Name and `count` tracks of every family, as in `dense`, as they are written by recorders that are
    better than the family's own: hardly any noise, and places rounded to so many digits.

    A third are those of faster recorders. Elsewhere the lines stand through what is seen.
    """
    for place, family in enumerate(MOTIONS):
        rng = np.random.default_rng([seed, place, 37])
        tracks = []
        for _ in range(count):
            fast = family != "turn_1hz" and rng.random() < 1 / 3
            many = int(rng.integers(FAST[0], FAST[1] + 1)) if fast else 1
            noise = float(rng.choice([0, 1])) * log_uniform(rng, *QUIET)
            digits = int(rng.choice(list(DIGITS), p=list(DIGITS.values())))
            step = dt / many if family != "turn_1hz" else None
            made = motion(family, rng, step_s=step, wider=WIDER, noise=noise, digits=digits)
            shrink = dt / (made.step_s * many)
            tracks.append((with_lines(made, many, many * made.step_s, dims) * shrink).astype(np.float32))
        yield f"quiet {family}", tracks


def flight(length: int, dt: float, rng: Generator) -> tuple[str, np.ndarray]:
    """Family and positions (n, 3) of one flight as it is recorded; some end before `length`."""
    names = list(FAMILIES)
    shares = np.array([FAMILIES[name][1] for name in names])
    name = names[rng.choice(len(names), p=shares / shares.sum())]
    make, _ = FAMILIES[name]
    if name.startswith("plain"):
        clock, noise = "exact", 0.01
    elif name.startswith("pattern"):
        clock = rng.choice(["skipping", "exact", "jittering"], p=[0.75, 0.2, 0.05])
        noise = rng.choice([0.0, 0.003, 0.01, 0.02], p=[0.6, 0.2, 0.15, 0.05])
    else:
        clock = rng.choice(["exact", "jittering", "skipping"], p=[0.8, 0.1, 0.1])
        noise = rng.choice([0.0, 0.003, 0.01, 0.02], p=[0.6, 0.2, 0.15, 0.05])
    positions = make(recorder(clock, length, dt, rng), rng)
    return name, (positions + noise * rng.normal(size=positions.shape)).astype(np.float32)


def recorder(clock: str, length: int, dt: float, rng: Generator) -> np.ndarray:
    """True time of samples that are written down as dt apart.

    `skipping` is a recorder that stands still for about one sample every 1.1 s and runs fast in between, as
    the poses of a simulator do when they are taken by a timer of another rate; `jittering` is late at random.
    """
    stamps = dt * np.arange(length)
    if clock == "exact":
        return stamps
    if clock == "jittering":
        return np.maximum.accumulate(stamps + rng.normal(0, rng.uniform(0, 0.15 * dt), length))
    period = rng.uniform(9.5, 12.5) * dt if rng.random() < 0.3 else rng.normal(10.97, 0.1) * dt
    hold = rng.uniform(0.6, 1.1) * dt
    rate = 1.0 if rng.random() < 0.5 else period / (period - hold)
    shifted = stamps + rng.uniform(0, period)
    true = np.floor(shifted / period) * (period - hold) + np.minimum(shifted % period, period - hold)
    zigzag = (rng.random() < 0.8) * rng.uniform(0, 0.06 * dt) * (-1.0) ** np.arange(length)
    true = rate * true + zigzag + rng.normal(0, rng.uniform(0, 0.04 * dt), length)
    return true - true[0]


def rotation(rng: Generator, tilt: float | None = None) -> np.ndarray:
    """Random rotation (3, 3): of any direction, or a plane tilted by at most `tilt` radians."""
    if tilt is None:
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        return q * np.linalg.det(q)
    a, b, c = rng.uniform(0, 2 * math.pi), rng.uniform(0, tilt), rng.uniform(0, 2 * math.pi)
    lean = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return spin(a) @ lean @ spin(c)


def spin(angle: float) -> np.ndarray:
    """Rotation about z."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def circle(theta: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(theta), np.sin(theta), 0 * theta], -1)


def lemniscate(theta: np.ndarray) -> np.ndarray:
    """Bernoulli's."""
    return (
        np.stack([np.cos(theta), np.cos(theta) * np.sin(theta), 0 * theta], -1)
        / (1 + np.sin(theta) ** 2)[:, None]
    )


def figure_eight(theta: np.ndarray) -> np.ndarray:
    """Gerono's."""
    return np.stack([np.cos(theta), np.sin(2 * theta) / 2, 0 * theta], -1)


def log_uniform(rng: Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def phase(rng: Generator) -> float:
    return rng.uniform(0, 2 * math.pi)


def wavering(t: np.ndarray, amount: float, rng: Generator) -> np.ndarray:
    """Time whose pace changes slowly by up to the fraction `amount`."""
    waves = [(rng.uniform(0.1, 1.2), phase(rng)) for _ in range(2)]
    return t + amount / 2 * sum(np.sin(w * t + p) / w for w, p in waves)


def plain_circle(t: np.ndarray, rng: Generator) -> np.ndarray:
    return rng.uniform(1, 5) * circle(rng.uniform(0.1, 2) * t + phase(rng)) @ rotation(rng).T


def plain_lemniscate(t: np.ndarray, rng: Generator) -> np.ndarray:
    return rng.uniform(0.5, 2) * lemniscate(rng.uniform(0.1, 2) * t + phase(rng)) @ rotation(rng).T


def plain_line(t: np.ndarray, rng: Generator) -> np.ndarray:
    return t[:, None] * rng.uniform(-1, 1, 3)


def leaning(rng: Generator) -> np.ndarray:
    """The plane of a pattern: level, tilted, or standing."""
    return rotation(rng, float(rng.choice([0.02, 0.8, 1.5])))


def pattern_circle(t: np.ndarray, rng: Generator) -> np.ndarray:
    """Circle or ellipse at a speed that keeps the acceleration below 4 to 16 m/s^2."""
    radius = log_uniform(rng, 0.4, 7)
    speed = min(rng.uniform(0.8, 7), math.sqrt(rng.uniform(4, 16) * radius))
    theta = speed / radius * wavering(t, rng.choice([0, 0.15]), rng) + phase(rng)
    narrow = rng.choice([1, rng.uniform(0.4, 1)])
    return radius * circle(theta) * [1, narrow, 0] @ leaning(rng).T


def pattern_eight(t: np.ndarray, rng: Generator) -> np.ndarray:
    radius = log_uniform(rng, 0.6, 8)
    speed = min(rng.uniform(1.0, 8), math.sqrt(rng.uniform(3, 12) * radius))
    shape = lemniscate if rng.random() < 0.5 else figure_eight
    theta = speed / radius * wavering(t, rng.choice([0, 0.1]), rng) + phase(rng)
    return radius * shape(theta) @ leaning(rng).T


def pattern_lissajous(t: np.ndarray, rng: Generator) -> np.ndarray:
    """Small integer frequency ratios, often with a second harmonic on one axis."""
    size = rng.uniform(0.3, rng.choice([1.5, 4]), 3)
    ratio = rng.choice([1, 2, 3], 3, p=[0.6, 0.3, 0.1]) if rng.random() < 0.5 else np.ones(3)
    rate = min(rng.uniform(0.5, 4), math.sqrt(rng.uniform(4, 16) / (size * ratio**2).max()))
    positions = np.stack([size[i] * np.cos(ratio[i] * rate * t + phase(rng)) for i in range(3)], -1)
    if rng.random() < 0.7:
        extra = min(rng.uniform(0.1, 2), rng.uniform(4, 16) / (4 * rate**2))
        positions[:, rng.integers(3)] += extra * np.cos(2 * rate * t + phase(rng))
    return positions @ rotation(rng, float(rng.choice([0.05, 1.0]))).T


def racing(t: np.ndarray, rng: Generator) -> np.ndarray:
    """Laps through gates: a spline that varies lap by lap, as fast as its curvature allows, smoothed."""
    gates = int(rng.integers(4, 11))
    angle = 2 * math.pi * np.arange(gates) / gates + rng.normal(0, 0.25, gates)
    size = rng.uniform(3, 14) * np.array([1, rng.uniform(0.4, 1)])
    radius = rng.uniform(0.5, 1.15, gates)
    height = rng.normal(0, rng.uniform(0.05, 1.2), gates)
    loop = np.stack([size[0] * radius * np.cos(angle), size[1] * radius * np.sin(angle), height], -1)
    if rng.random() < 0.4:  # crossing
        loop[:, 1] *= np.sign(np.sin(np.arange(gates) * 4 * math.pi / gates + 0.3))
    laps = int(rng.integers(4, 12))
    points = np.concatenate([loop + rng.normal(0, 0.25, loop.shape) * [1, 1, 0.4] for _ in range(laps)])
    knots = np.linalg.norm(np.diff(points, axis=0), axis=1) ** rng.uniform(0.5, 1) + 0.05
    knots = np.concatenate([[0], np.cumsum(knots)])
    path = CubicSpline(knots, points)
    place = np.linspace(0, knots[-1], len(points) * 40)
    arrival = timing(path, place, rng.uniform(2, 14), rng.uniform(2, 13), rng.uniform(0.3, 0.8))
    step = 0.02
    fine = path(np.interp(np.arange(0, arrival[-1], step), arrival, place))
    width = rng.uniform(0.04, 0.22) / step
    fine = gaussian_filter1d(fine, width, axis=0)[int(3 * width) : -int(3 * width) - 1]
    return sampled(fine, step, t)


def timing(path: CubicSpline, place: np.ndarray, sideways: float, fastest: float, share: float) -> np.ndarray:
    """When the parameter `place` of a path is reached: limits on speed, sideways and forward acceleration."""
    first, second = path(place, 1), path(place, 2)
    pace = np.linalg.norm(first, axis=1)
    curvature = np.linalg.norm(np.cross(first, second), axis=1) / np.maximum(pace, 1e-3) ** 3
    speed = np.minimum(fastest, np.sqrt(sideways / np.maximum(curvature, 1e-3)))
    length = 0.5 * (pace[1:] + pace[:-1]) * np.diff(place)
    gain = 2 * share * sideways * length
    for i in range(len(length)):
        speed[i + 1] = min(speed[i + 1], math.sqrt(speed[i] ** 2 + gain[i]))
    for i in range(len(length) - 1, -1, -1):
        speed[i] = min(speed[i], math.sqrt(speed[i + 1] ** 2 + gain[i]))
    return np.concatenate([[0], np.cumsum(2 * length / np.maximum(speed[1:] + speed[:-1], 0.05))])


def sampled(fine: np.ndarray, step: float, t: np.ndarray) -> np.ndarray:
    """A finely sampled path at times t, as far as it goes."""
    there = np.arange(len(fine)) * step
    t = t[t <= there[-1]] if len(fine) else t[:0]
    return (
        np.stack([np.interp(t, there, fine[:, axis]) for axis in range(3)], -1)
        if len(t)
        else np.zeros((0, 3))
    )


def roaming(t: np.ndarray, rng: Generator) -> np.ndarray:
    """Gaussian velocity of a smooth random spectrum, less of it upwards; from slow rooms to fast fields."""
    waves, centre = 40, rng.uniform(0.25, 2.2)
    rates = np.minimum(np.abs(rng.standard_t(4, size=waves)) * 0.8 * centre + 0.02, 4 * centre)
    speed = log_uniform(rng, 0.25, 6)
    positions = np.zeros((len(t), 3))
    for axis, share in enumerate((1, 1, rng.uniform(0.1, 1))):
        rate = rates * (1 if axis < 2 else rng.uniform(1, 2))
        size = rng.normal(size=waves) * speed * share / math.sqrt(waves) / rate
        positions[:, axis] = np.sin(rate * t[:, None] + rng.uniform(0, 2 * math.pi, waves)) @ size
    drift = rng.normal(size=3) * speed * rng.choice([0, 1]) * [1, 1, 0.2]
    return positions + t[:, None] * drift


def wandering(t: np.ndarray, rng: Generator) -> np.ndarray:
    """White noise through attitude lag, manoeuvre time and drag: no surprise is ever far away."""
    step, settle = 0.02, 500
    velocity: Any = rng.normal(size=(settle + int(t[-1] / step) + 2, 3))
    for constant in (rng.uniform(0.06, 0.2), log_uniform(rng, 0.15, 1.5), log_uniform(rng, 0.5, 5)):
        keep = math.exp(-step / constant)
        velocity = np.asarray(lfilter([1 - keep], [1, -keep], velocity, axis=0))
    velocity = velocity[settle:] / velocity[settle:].std() * [1, 1, rng.uniform(0.1, 0.8)]
    drift = rng.normal(size=3) * rng.choice([0, 1]) * [1, 1, 0.2]
    fine = np.cumsum((velocity + drift) * log_uniform(rng, 0.25, 5) * step, 0)
    return sampled(fine, step, t)


def waypoints(t: np.ndarray, rng: Generator) -> np.ndarray:
    """From point to point with minimum jerk, with or without stops."""
    count = 40
    points = np.cumsum(rng.normal(size=(count, 3)) * rng.uniform(0.5, 6) * [1, 1, 0.35], 0)
    fastest, strongest = log_uniform(rng, 0.5, 8), rng.uniform(1, 5)
    distance = np.linalg.norm(np.diff(points, axis=0), axis=1)
    duration = np.maximum(1.9 * distance / fastest, np.sqrt(5.8 * distance / strongest)) + 0.1
    rest = rng.choice([0, 1]) * rng.exponential(1.0, count - 1)
    begin = np.concatenate([[0], np.cumsum(duration + rest)[:-1]])
    now = t + rng.uniform(0, begin[-1] / 2)
    positions = np.tile(points[0], (len(t), 1))
    for start, length, move in zip(begin, duration, np.diff(points, axis=0), strict=True):
        x = np.clip((now - start) / length, 0, 1)[:, None]
        positions = positions + move * (10 * x**3 - 15 * x**4 + 6 * x**5)
    sway = np.stack([np.sin(rng.uniform(0.3, 3) * t + phase(rng)) for _ in range(3)], -1)
    return positions + 0.03 * sway


def straight(t: np.ndarray, rng: Generator) -> np.ndarray:
    """A line whose speed changes slowly."""
    velocity = rng.normal(size=3) * log_uniform(rng, 0.3, 6) * [1, 1, 0.4]
    return wavering(t, rng.choice([0, 0.3, 0.6]), rng)[:, None] * velocity


FAMILIES: dict[str, tuple[Callable[[np.ndarray, Generator], np.ndarray], float]] = {
    "plain_circle": (plain_circle, 0.11),
    "plain_lemniscate": (plain_lemniscate, 0.08),
    "plain_line": (plain_line, 0.03),
    "pattern_circle": (pattern_circle, 0.11),
    "pattern_eight": (pattern_eight, 0.10),
    "pattern_lissajous": (pattern_lissajous, 0.15),
    "racing": (racing, 0.17),
    "roaming": (roaming, 0.10),
    "wandering": (wandering, 0.12),
    "waypoints": (waypoints, 0.05),
    "straight": (straight, 0.03),
}
"""Family -> (positions at times, share of the flights). No helix: it is the family that tests keep unseen."""
