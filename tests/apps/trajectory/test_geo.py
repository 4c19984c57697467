"""Geodetic coordinates and local metres."""

import numpy as np
import pytest

from apps.trajectory.geo import from_ecef, from_enu, to_ecef, to_enu

PLACES = np.array(
    [
        [0.0, 0.0, 0.0],
        [47.5, 8.5, 400.0],
        [-33.9, 151.2, -20.0],
        [89.999, 10.0, 3000.0],
        [-90.0, 0.0, 0.0],
        [12, -179.9, 9e5],
    ]
)


def test_known_points_of_the_ellipsoid() -> None:
    found = to_ecef(np.array([[0.0, 0.0, 0.0], [0.0, 90.0, 0.0], [90.0, 0.0, 0.0]]))
    semi_minor = 6_356_752.314245
    expected = [[6_378_137, 0, 0], [0, 6_378_137, 0], [0, 0, semi_minor]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_ecef_and_back_is_the_same_place() -> None:
    back = from_ecef(to_ecef(PLACES))
    np.testing.assert_allclose(back[:, [0, 2]], PLACES[:, [0, 2]], atol=2e-8)
    inner = np.abs(PLACES[:, 0]) < 89
    np.testing.assert_allclose(back[inner, 1], PLACES[inner, 1], atol=1e-12)


@pytest.mark.parametrize("origin", [(47.5, 8.5, 400.0), (-33.9, 179.999, 0.0), (89.9, 0.0, 10.0)])
def test_local_metres_and_back(origin: tuple[float, float, float]) -> None:
    enu = np.random.default_rng(0).uniform(-5000, 5000, (100, 3))
    np.testing.assert_allclose(to_enu(from_enu(enu, origin), origin), enu, atol=1e-6)


def test_axes_point_east_north_and_up() -> None:
    origin = (47.5, 8.5, 400.0)
    steps = np.array([[0, 1e-5, 0], [1e-5, 0, 0], [0, 0, 1.0]]) + origin
    enu = to_enu(steps, origin)
    # one degree of latitude here is 111.18 km, one of longitude 75.34 km
    np.testing.assert_allclose(np.diag(enu), [0.7534, 1.1118, 1.0], rtol=1e-3)
    np.testing.assert_allclose(enu - np.diag(np.diag(enu)), 0, atol=1e-6)
