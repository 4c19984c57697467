"""Latitude, longitude and altitude on the WGS-84 ellipsoid, and local east, north, up in metres.

    N(phi) = a / sqrt(1 - e^2 sin^2 phi)
    X = (N + h) cos phi cos lam,  Y = (N + h) cos phi sin lam,  Z = (N (1 - e^2) + h) sin phi

East, north, up are the coordinates of X - X0 in the tangent plane at the origin (NIMA TR8350.2, section 4).
"""

import numpy as np

A = 6_378_137.0
"""Equatorial radius, metres."""
F = 1 / 298.257223563
"""Flattening."""
E2 = F * (2 - F)
B = A * (1 - F)

Origin = tuple[float, float, float]
"""Latitude and longitude in degrees, altitude above the ellipsoid in metres."""


def to_ecef(geodetic: np.ndarray) -> np.ndarray:
    """(..., 3) latitude deg, longitude deg, altitude m -> (..., 3) earth-centred metres."""
    geodetic = np.asarray(geodetic, dtype=np.float64)
    phi, lam, h = np.radians(geodetic[..., 0]), np.radians(geodetic[..., 1]), geodetic[..., 2]
    normal = A / np.sqrt(1 - E2 * np.sin(phi) ** 2)
    across = (normal + h) * np.cos(phi)
    return np.stack([across * np.cos(lam), across * np.sin(lam), (normal * (1 - E2) + h) * np.sin(phi)], -1)


def from_ecef(xyz: np.ndarray) -> np.ndarray:
    """The inverse of `to_ecef`, by Bowring's iteration on the reduced latitude."""
    xyz = np.asarray(xyz, dtype=np.float64)
    x, y, z = xyz[..., 0], xyz[..., 1], xyz[..., 2]
    across = np.hypot(x, y)
    beta = np.arctan2(A * z, B * across)
    for _ in range(3):
        phi = np.arctan2(z + E2 / (1 - E2) * B * np.sin(beta) ** 3, across - E2 * A * np.cos(beta) ** 3)
        beta = np.arctan2(B * np.sin(phi), A * np.cos(phi))
    root = np.sqrt(1 - E2 * np.sin(phi) ** 2)
    # this form of the height is as good at the poles as at the equator
    h = across * np.cos(phi) + z * np.sin(phi) - A * root
    return np.stack([np.degrees(phi), np.degrees(np.arctan2(y, x)), h], -1)


def axes(origin: Origin) -> np.ndarray:
    """(3, 3) rows east, north, up at the origin, in earth-centred coordinates."""
    phi, lam = np.radians(origin[0]), np.radians(origin[1])
    sp, cp, sl, cl = np.sin(phi), np.cos(phi), np.sin(lam), np.cos(lam)
    return np.array([[-sl, cl, 0], [-sp * cl, -sp * sl, cp], [cp * cl, cp * sl, sp]])


def to_enu(geodetic: np.ndarray, origin: Origin) -> np.ndarray:
    """(..., 3) latitude deg, longitude deg, altitude m -> (..., 3) east, north, up in metres."""
    return (to_ecef(geodetic) - to_ecef(np.asarray(origin))) @ axes(origin).T


def from_enu(enu: np.ndarray, origin: Origin) -> np.ndarray:
    """The inverse of `to_enu`."""
    return from_ecef(np.asarray(enu, dtype=np.float64) @ axes(origin) + to_ecef(np.asarray(origin)))
