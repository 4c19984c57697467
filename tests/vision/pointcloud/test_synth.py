"""Generated scans: the same bytes for a seed, labels that fit the points, numbers of real recordings."""

import numpy as np
import pytest

from core.errors import ConfigError
from vision.pointcloud.boxes import count_inside
from vision.pointcloud.ground import estimate_ground
from vision.pointcloud.synth.chance import dice, draw, normal
from vision.pointcloud.synth.scan import Scan, rays_towards, simulate


@pytest.fixture(scope="module")
def scans() -> list[Scan]:
    return [simulate(seed, "hdl64") for seed in range(40, 48)]


def test_a_seed_gives_the_same_bytes_and_another_one_others() -> None:
    one, same, other = simulate(3, "vlp16"), simulate(3, "vlp16"), simulate(4, "vlp16")
    assert one.points.tobytes() == same.points.tobytes()
    assert one.boxes.tobytes() == same.boxes.tobytes()
    assert one.points.tobytes() != other.points.tobytes()


def test_random_numbers_have_the_moments_of_their_distributions() -> None:
    state = dice(5)
    even = np.array([draw(state) for _ in range(20_000)])
    bell = np.array([normal(state, 2.0, 3.0) for _ in range(20_000)])
    assert even.min() >= 0
    assert even.max() < 1
    assert even.mean() == pytest.approx(0.5, abs=0.01)
    assert bell.mean() == pytest.approx(2, abs=0.1)
    assert bell.std() == pytest.approx(3, abs=0.1)


def test_counts_are_the_points_inside_the_labels(scans: list[Scan]) -> None:
    for scan in scans[:2]:
        np.testing.assert_array_equal(scan.counts, count_inside(scan.points, scan.boxes))
        assert (scan.visible >= 0).all()
        assert (scan.visible <= 1).all()


def test_unoccluded_cars_are_filled_like_recorded_ones(scans: list[Scan]) -> None:
    """Points in the box over rays towards the car: recorded .67 at 15 to 30 m, .31 beyond."""
    near, far = [], []
    for scan in scans:
        distance = np.hypot(scan.boxes[:, 0], scan.boxes[:, 1])
        good = (scan.kinds == 0) & (scan.visible > 0.85) & (scan.met > 20)
        share = scan.counts / np.maximum(rays_towards(scan.boxes.astype(np.float64), scan.sensor), 1)
        near += list(share[good & (distance > 10) & (distance < 30)])
        far += list(share[good & (distance > 30) & (distance < 60)])
    assert 0.5 < np.median(near) < 0.78
    assert 0.2 < np.median(far) < 0.65


def test_most_firings_return(scans: list[Scan]) -> None:
    shares = [len(scan.points) / scan.fired for scan in scans]
    assert 0.75 < np.median(shares) < 0.99


@pytest.mark.parametrize("name", ["hdl32", "av2", "rings128", "random"])
def test_every_sensor_gives_its_rings(name: str) -> None:
    scan = simulate(11, name)
    rings = len(scan.sensor.elevations)
    assert scan.ring.max() < rings
    assert len(np.unique(scan.ring)) > 0.6 * rings
    assert np.isfinite(scan.points).all()


def test_an_unknown_sensor_is_named() -> None:
    with pytest.raises(ConfigError, match="no sensor 'hdl65'; there are hdl64"):
        simulate(0, "hdl65")


def test_the_ground_is_found_with_its_tilt(scans: list[Scan]) -> None:
    for scan in scans:
        plane = estimate_ground(scan.points)
        assert plane.support > 0.1
        near = (np.hypot(scan.boxes[:, 0], scan.boxes[:, 1]) < 20) & (scan.kinds == 0)
        bottoms = scan.boxes[:, 2] - scan.boxes[:, 5] / 2 - plane.height(scan.boxes)
        if near.sum() > 3:
            assert abs(np.median(bottoms[near])) < 0.4


def test_a_plane_is_found_exactly() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(-25, 25, (6000, 2))
    points = np.column_stack([xy, 0.03 * xy[:, 0] - 0.02 * xy[:, 1] - 1.7])
    plane = estimate_ground(points)
    assert plane.c == pytest.approx(-1.7, abs=0.03)
    assert plane.tilt_deg[0] == pytest.approx(1.72, abs=0.15)
    assert plane.tilt_deg[1] == pytest.approx(-1.15, abs=0.15)


def test_no_points_give_no_support() -> None:
    assert estimate_ground(np.zeros((0, 3))).support == 0
