"""A 3-D scene fitted to what it is about: axes end around the subject, which fills the picture."""

import math
from typing import Any

import numpy as np

FLATTEST = 0.25
"""Least extent of an axis beside the longest: a flight at one height is still a body in space."""
FIELD = math.pi / 4
"""Angle of view from bottom to top, as plotly has it."""
FILLED = 0.8
"""Part of the picture that the subject takes, where it takes more; the rest is for labels."""
HEIGHT_PX = 430
WIDE_PX = 1280
"""Width of a window that nobody told."""
NARROW_PX = 760
"""Below it the columns of a page stand one above the other."""
ROUNDS = 24
WIDTH = "(...values) => [...values.slice(0, -1), window.innerWidth]"
"""`js` of an event whose last input is the width of the reader's window."""


def aspect(window_px: float | None) -> float:
    """Width of a scene by its height in a window so wide: beside the left column, or below it on a phone."""
    window = min(window_px or WIDE_PX, 1240)
    return max(window - (390 if window > NARROW_PX else 60), 200) / HEIGHT_PX


def fitted(
    subject: np.ndarray,
    ahead: np.ndarray | None = None,
    margin: float = 0.08,
    *,
    window_px: float | None = None,
    steep: float = 0.5,
) -> dict[str, Any]:
    """Layout of a plotly `scene` whose box holds the subject, all axes to one scale, and whose camera stands
    where the subject lies in the middle and fills the picture.

    Args:
        subject: (n, 3) points that must be seen; what lies outside of their box is cut off.
        ahead: (2,) or (3,) horizontal direction that runs from left to right; None: the longer side.
        margin: free space around, in lengths of the longest axis.
        window_px: width of the reader's window; None: a desk's.
        steep: angle of the view below the horizon, rad.
    """
    points = np.asarray(subject, dtype=np.float64)
    points = points[np.isfinite(points).all(1)]
    points = points if len(points) else np.array([[0.0, 0, 0], [1, 1, 1]])
    low, high = points.min(0), points.max(0)
    longest = max(float((high - low).max()), 1e-3)
    middle, size = (low + high) / 2, np.maximum(high - low, FLATTEST * longest) + 2 * margin * longest
    if ahead is None or np.hypot(*np.asarray(ahead)[:2]) < 1e-6:
        ahead = np.array([1.0, 0.0]) if size[0] >= size[1] else np.array([0.0, 1.0])
    way = math.atan2(float(ahead[1]), float(ahead[0]))
    narrow = aspect(window_px) < 1  # there the way is seen more from behind, which makes it shorter
    side = way - math.pi / 2 - (0.8 if narrow else 0.35)  # from its right, a little behind
    towards = np.array([math.cos(steep) * math.cos(side), math.cos(steep) * math.sin(side), math.sin(steep)])
    eye, centre = stand((points - middle) / size.max(), towards, aspect(window_px))
    return {
        "aspectmode": "manual",
        "aspectratio": dict(zip("xyz", (size / size.max()).tolist(), strict=True)),
        **{
            f"{axis}axis": {"range": [middle[i] - size[i] / 2, middle[i] + size[i] / 2]}
            for i, axis in enumerate("xyz")
        },
        "camera": {
            "eye": dict(zip("xyz", eye.tolist(), strict=True)),
            "center": dict(zip("xyz", centre.tolist(), strict=True)),
        },
    }


def stand(points: np.ndarray, towards: np.ndarray, wide: float) -> tuple[np.ndarray, np.ndarray]:
    """Eye and the point that it looks at, from which points (n, 3) fill the middle of a picture.

    Args:
        towards: (3,) unit vector from the points to the eye.
        wide: width of the picture by its height.
    """
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    up = np.cross(towards, right)
    half = math.tan(FIELD / 2)
    centre, distance = np.zeros(3), 3.0
    for _ in range(ROUNDS):
        from_centre = points - centre
        depth = np.maximum(distance - from_centre @ towards, 0.1)
        x, y = from_centre @ right / depth / (half * wide), from_centre @ up / depth / half  # -1..1 is seen
        centre = centre + distance * half * (
            wide * (x.min() + x.max()) / 2 * right + (y.min() + y.max()) / 2 * up
        )
        distance *= max(np.ptp(x), np.ptp(y), 0.02) / (2 * FILLED)
        distance = float(np.clip(distance, 0.3, 8.0))
    return centre + distance * towards, centre
