"""A 3-D scene fitted to what it is about: axes end around the subject, the eye stands beside its way."""

import math
from typing import Any

import numpy as np

FLATTEST = 0.25
"""Least extent of an axis beside the longest: a flight at one height is still a body in space."""
EYE = 1.4
"""Distance of the eye, in lengths of the longest axis."""


def fitted(subject: np.ndarray, ahead: np.ndarray | None = None, margin: float = 0.08) -> dict[str, Any]:
    """Layout of a plotly `scene` whose box holds the subject, all axes to one scale.

    Args:
        subject: (n, 3) points that must be seen; what lies outside of their box is cut off.
        ahead: (2,) or (3,) horizontal direction that runs from left to right; None: the longer side.
        margin: free space around, in lengths of the longest axis.
    """
    points = np.asarray(subject, dtype=np.float64)
    points = points[np.isfinite(points).all(1)]
    low, high = (points.min(0), points.max(0)) if len(points) else (np.zeros(3), np.ones(3))
    longest = max(float((high - low).max()), 1e-3)
    middle, size = (low + high) / 2, np.maximum(high - low, FLATTEST * longest) + 2 * margin * longest
    ratio = size / size.max()
    if ahead is None or np.hypot(*np.asarray(ahead)[:2]) < 1e-6:
        ahead = np.array([1.0, 0.0]) if size[0] >= size[1] else np.array([0.0, 1.0])
    way = math.atan2(float(ahead[1]), float(ahead[0]))
    side = way - math.pi / 2 - 0.35  # from its right, a little behind
    flat, up = EYE * math.cos(0.5), EYE * math.sin(0.5)
    return {
        "aspectmode": "manual",
        "aspectratio": dict(zip("xyz", ratio.tolist(), strict=True)),
        **{
            f"{axis}axis": {"range": [middle[i] - size[i] / 2, middle[i] + size[i] / 2]}
            for i, axis in enumerate("xyz")
        },
        "camera": {
            "eye": {"x": flat * math.cos(side), "y": flat * math.sin(side), "z": up},
            "center": {"x": 0, "y": 0, "z": -0.05},
        },
    }
