"""The generator: seeded, within limits, consistent derivatives, disjoint splits, honest recorder faults."""

import math

import numpy as np
import pytest

from apps.trajectory.data import flights
from apps.trajectory.synth import FAMILIES, HELD_OUT, RACING, Limits, Sensor, generate, recorded
from apps.trajectory.synth.paths import allocate, minimum_snap
from apps.trajectory.synth.sensor import record
from core.errors import ConfigError


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_keeps_the_limits_and_stays_above_ground(kind: str) -> None:
    keeps = RACING if kind == "racing" else Limits()
    for flight in generate(3, 12, split="test", families=[kind], dt=0.02, lag=False):
        v, a = flight.velocities, flight.accelerations
        assert flight.kind == kind
        assert flight.positions[:, 2].min() > 0
        assert np.linalg.norm(v, axis=1).max() <= keeps.speed_mps
        assert np.linalg.norm(a, axis=1).max() <= keeps.acceleration_mps2
        assert np.linalg.norm(a[:, :2], axis=1).max() <= 9.81 * math.tan(math.radians(55))
        assert v[:, 2].max() <= keeps.climb_mps
        assert v[:, 2].min() >= -keeps.sink_mps
        jerk = np.diff(a, axis=0) / 0.02
        assert np.linalg.norm(jerk, axis=1).max() <= keeps.jerk_mps3


@pytest.mark.parametrize("lag", [False, True])
def test_velocity_and_acceleration_are_derivatives_of_position(lag: bool) -> None:
    for flight in generate(5, 24, dt=0.01, duration_s=5, lag=lag):
        step = 2 * 0.01
        # central differences err by dt^2 / 6 times jerk, and by dt times a step of jerk at its corners
        assert (
            np.abs((flight.positions[2:] - flight.positions[:-2]) / step - flight.velocities[1:-1]).max()
            < 4e-3
        )
        assert (
            np.abs((flight.velocities[2:] - flight.velocities[:-2]) / step - flight.accelerations[1:-1]).max()
            < 0.4
        )


def test_a_flight_depends_on_seed_and_number_alone() -> None:
    many, few = generate(7, 9), generate(7, 4)
    for left, right in zip(many, few, strict=False):
        np.testing.assert_array_equal(left.positions, right.positions)
    assert not np.array_equal(generate(8, 1)[0].positions, many[0].positions)


def test_splits_share_no_flight_and_one_family_is_for_the_test_alone() -> None:
    parts = [generate(0, 150, split=split, duration_s=2) for split in ("train", "validation", "test")]
    names = [set(flights(flight.track() for flight in part)) for part in parts]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]
    kinds = [{flight.kind for flight in part} for part in parts]
    assert HELD_OUT not in kinds[0] | kinds[1]
    assert HELD_OUT in kinds[2]
    assert kinds[0] == set(FAMILIES) - {HELD_OUT}


def test_slow_and_racing_flight_have_the_speeds_of_their_kind() -> None:
    def median_speed(kind: str) -> float:
        made = generate(1, 30, families=[kind])
        return float(np.median([np.median(np.linalg.norm(flight.velocities, axis=1)) for flight in made]))

    assert 0.2 < median_speed("inspection") < 1.5
    assert 5 < median_speed("racing") < 15


def test_minimum_snap_passes_its_waypoints_and_is_smooth_to_the_sixth_derivative() -> None:
    points = np.random.default_rng(0).normal(size=(6, 3)) * 5
    times = allocate(points, 3.0, 4.0)
    path = minimum_snap(points, times)
    np.testing.assert_allclose(path(times), points, atol=1e-9)
    for order in range(1, 7):
        below, above = path(times[1:-1] - 1e-9, nu=order), path(times[1:-1] + 1e-9, nu=order)
        np.testing.assert_allclose(below, above, atol=1e-5 * (1 + np.abs(above).max()))
    for order in (1, 2, 3):
        np.testing.assert_allclose(path(times[[0, -1]], nu=order), 0, atol=1e-7)


def test_a_perfect_recorder_writes_the_truth() -> None:
    flight = generate(2, 1, dt=0.02)[0]
    track = recorded(flight, Sensor(rate_hz=50))
    np.testing.assert_allclose(track.time_s, flight.time_s, atol=1e-9)
    np.testing.assert_allclose(track.positions, flight.positions, atol=1e-9)


def test_recorder_faults_appear_in_their_shares() -> None:
    t = np.arange(0, 200, 0.1)
    still = np.zeros((len(t), 3))
    rng = np.random.default_rng(0)
    stamps, positions = record(
        t, still, still, Sensor(rate_hz=100, white_m=0.03, repeated=0.05, late=0.05), rng
    )
    assert np.std(positions) == pytest.approx(0.03, rel=0.05)
    assert (np.diff(np.sort(stamps)) == 0).mean() == pytest.approx(0.05, rel=0.3)
    assert (np.diff(stamps) < 0).mean() == pytest.approx(0.05, rel=0.3)
    slow = record(t, still, still, Sensor(rate_hz=10, slow_m=0.05, slow_s=1.0), rng)[1]
    assert np.std(slow) == pytest.approx(0.05, rel=0.25)
    assert np.corrcoef(slow[:-10, 0], slow[10:, 0])[0, 1] == pytest.approx(math.exp(-1), abs=0.2)
    gaps = record(t, still, still, Sensor(rate_hz=10, dropout=0.02, gap_s=0.5), rng)[0]
    assert np.diff(gaps).max() > 0.5
    rounded = record(t, still + 0.123456, still, Sensor(quantum_m=0.01), rng)[1]
    np.testing.assert_allclose(rounded, 0.12, atol=1e-9)


def test_a_recorded_flight_is_a_track_in_order() -> None:
    for flight in generate(4, 40, duration_s=4):
        assert (np.diff(recorded(flight).time_s) > 0).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"families": ["loop"]}, "no family 'loop'"),
        ({"count": 900_000}, "800000 flights; 900000"),
        ({"dt": 0.0}, "two steps of dt"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_a_wrong_wish_is_named(change: dict, words: str) -> None:
    wish = {"seed": 0, "count": 1} | change
    with pytest.raises(ConfigError, match=words):
        generate(wish.pop("seed"), wish.pop("count"), **wish)
