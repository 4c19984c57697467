"""What is kept of one live track: its recent samples, read at any time between them."""

import math
from bisect import bisect_right
from typing import Any

import numpy as np

from apps.trajectory.geo import Origin
from apps.trajectory.samples import Sample


class LiveTrack:
    """Recent samples of one track, read at any time by interpolation inside what was seen.

    Between two samples the path is a straight line, or a cubic Hermite curve where both carry a velocity.
    """

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self.times: list[float] = []
        self.points: list[tuple[float, ...]] = []
        self.velocities: list[tuple[float, ...] | None] = []
        self.last_answer = -math.inf
        self.arrival = 0.0
        self.state: Any = None
        self.state_time = 0.0
        self.origin: Origin | None = None
        self.doubt: Sample | None = None
        """A sample whose time is far from the others, held back until the next one agrees with it or not."""

    def restart(self) -> None:
        """Forget everything: the next sample begins a new track."""
        self.times.clear()
        self.points.clear()
        self.velocities.clear()
        self.state = None

    def add(self, sample: Sample) -> None:
        self.origin = sample.origin
        self.times.append(sample.t)
        self.points.append(sample.p)
        self.velocities.append(sample.v)
        # drop in blocks: a list shortened at its head for each sample would cost more than the prediction
        old = bisect_right(self.times, sample.t - self.span_s) - 1
        if old > 256:
            del self.times[:old], self.points[:old], self.velocities[:old]

    def at(self, times: np.ndarray) -> np.ndarray:
        """Positions (n, D) at times inside the samples."""
        first = max(bisect_right(self.times, float(times[0])) - 1, 0)
        t = np.asarray(self.times[first:])
        p = np.asarray(self.points[first:])
        if len(t) == 1:
            return np.repeat(p, len(times), 0)
        right = np.clip(np.searchsorted(t, times, side="right"), 1, len(t) - 1)
        left = right - 1
        width = t[right] - t[left]
        s = ((times - t[left]) / width)[:, None]
        line = p[left] + s * (p[right] - p[left])
        velocities = self.velocities[first:]
        if velocities[-1] is None or any(v is None for v in velocities):
            return line
        v = np.asarray(velocities, dtype=np.float64)
        h = width[:, None]
        return (
            (1 + 2 * s) * (1 - s) ** 2 * p[left]
            + s * (1 - s) ** 2 * h * v[left]
            + s**2 * (3 - 2 * s) * p[right]
            + s**2 * (s - 1) * h * v[right]
        )
