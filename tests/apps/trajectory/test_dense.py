"""Positions between samples: parabolas where a path bends more than its noise, and nothing from later on."""

from collections.abc import Callable

import numpy as np
import pytest

from apps.trajectory.dense import between


def clock(rng: np.random.Generator, step: float, count: int = 60) -> np.ndarray:
    """Stamps that jitter by three tenths of a step."""
    time_s = np.sort(step * (np.arange(count) + rng.uniform(-0.3, 0.3, count)))
    return time_s - time_s[0]


def circle(time_s: np.ndarray, speed: float = 12.0, radius: float = 20.0) -> np.ndarray:
    angle = speed / radius * time_s
    return radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)


def line(time_s: np.ndarray) -> np.ndarray:
    return time_s[:, None] * [5.0, -2.0, 0.5]


def off(
    time_s: np.ndarray, seen: np.ndarray, truth: Callable[[np.ndarray], np.ndarray], at: np.ndarray
) -> list[float]:
    """Root mean square distances from the truth: ours, and that of straight lines."""
    ours = between(time_s, seen, None, at)
    lines = np.stack([np.interp(at, time_s, axis) for axis in seen.T], 1)
    wanted = truth(at)
    return [float(np.sqrt(((path - wanted)[5:] ** 2).sum(1).mean())) for path in (ours, lines)]


@pytest.mark.parametrize(("noise", "share"), [(0.0, 0.25), (0.02, 0.5)])
def test_a_turn_seen_three_times_a_second_is_curved(noise: float, share: float) -> None:
    rng = np.random.default_rng(2)
    time_s = clock(rng, 1 / 3)
    seen = circle(time_s) + noise * rng.normal(size=(len(time_s), 3))
    ours, lines = off(time_s, seen, circle, np.arange(0, time_s[-1], 0.1))
    assert ours < share * lines


@pytest.mark.parametrize("noise", [0.0, 0.02, 1.0])
def test_noise_is_not_taken_for_a_bend(noise: float) -> None:
    rng = np.random.default_rng(3)
    time_s = clock(rng, 1 / 15, 200)
    seen = line(time_s) + noise * rng.normal(size=(len(time_s), 3))
    ours, lines = off(time_s, seen, line, np.arange(0, time_s[-1], 0.1))
    assert ours <= 1.03 * lines + 1e-9


def test_a_place_knows_no_sample_but_the_next() -> None:
    rng = np.random.default_rng(4)
    time_s = clock(rng, 1 / 3)
    seen = circle(time_s)
    at = (time_s[20] + time_s[21]) / 2 * np.ones(1)
    changed = seen.copy()
    changed[22:] += 100
    np.testing.assert_array_equal(between(time_s, seen, None, at), between(time_s, changed, None, at))
    np.testing.assert_array_equal(between(time_s[:22], seen[:22], None, at), between(time_s, seen, None, at))
    np.testing.assert_array_equal(between(time_s, seen, None, time_s), seen)
    np.testing.assert_array_equal(between(time_s[:1], seen[:1], None, at), seen[:1])
