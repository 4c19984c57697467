"""What is kept of one live track: its recent samples, read at any time between them."""

import math
from bisect import bisect_right
from collections import deque
from typing import Any

import numpy as np

from apps.trajectory.conformal import LiveRadius
from apps.trajectory.data import gap, rhythm
from apps.trajectory.dense import between, is_dense, through_all
from apps.trajectory.geo import Origin
from apps.trajectory.measures import LONG
from apps.trajectory.samples import Sample

RECENT = 21
"""Newest samples that tell a track's rhythm, and what it usually does from one to the next."""
AGAIN = 16
"""Samples after which a settled rhythm is looked at again."""
JUMP_M, JUMP_MPS2, JUMP_SPEEDS, JUMP_MEDIANS = 0.5, 80.0, 4.0, 8.0
"""What a mover may do from sample to sample, see `LiveTrack.jumps`."""


class LiveTrack:
    """Recent samples of one track, read at any time by interpolation inside what was seen.

    Between two samples the path is a straight line, or a cubic Hermite curve where both carry a velocity.
    """

    def __init__(
        self, dims: int, dt: float, history: int, max_gap: float | None, *, follow: bool = True
    ) -> None:
        self.dims, self.dt, self.history, self.max_gap, self.follow = dims, dt, history, max_gap, follow
        self.times: list[float] = []
        self.points: list[tuple[float, ...]] = []
        self.velocities: list[tuple[float, ...] | None] = []
        self.surprises: deque[float] = deque(maxlen=RECENT)
        self.speeds: deque[float] = deque(maxlen=RECENT)
        self.step = dt
        """Seconds between its positions as the model sees them: follows the samples, see `data.rhythm`."""
        self.until = 0
        self.last_answer = -math.inf
        self.unanswered = 0
        self.arrival = 0.0
        self.told_stale = False
        self.state: Any = None
        self.state_time = 0.0
        self.origin: Origin | None = None
        self.resets: int | None = None
        self.doubt: Sample | None = None
        """A sample that is far from the others, held back until the next one agrees with it or not."""
        self.radius: LiveRadius | None = None

    def restart(self) -> None:
        """Forget where it was: the next sample begins a new track. What its balls have learned stays."""
        for kept in (self.times, self.points, self.velocities, self.surprises, self.speeds):
            kept.clear()
        self.step, self.until, self.state = self.dt, 0, None
        if self.radius is not None:
            self.radius.forget()

    @property
    def longest_gap(self) -> float:
        """Seconds above which nothing is drawn across; anything while two samples have not been seen."""
        unknown = self.follow and len(self.times) < 2
        return math.inf if unknown else gap(self.step, self.max_gap)

    def add(self, sample: Sample) -> None:
        self.origin = sample.origin
        if self.times:
            self.surprises.append(self.surprise(sample))
            self.speeds.append(math.dist(sample.p, self.points[-1]) / (sample.t - self.times[-1]))
        self.times.append(sample.t)
        self.points.append(sample.p)
        self.velocities.append(sample.v)
        self.until -= 1
        if self.follow and self.until < 0 and len(self.times) > 1:
            self.step = rhythm(np.asarray(self.times[-RECENT:]), self.dt)
            self.until = AGAIN if len(self.times) > RECENT else 0
        # drop in blocks: a list shortened at its head for each sample would cost more than the prediction
        if len(self.times) > 256:
            old = bisect_right(self.times, sample.t - self.history * self.step - self.longest_gap) - 1
            if old > 128:
                del self.times[:old], self.points[:old], self.velocities[:old]

    def surprise(self, sample: Sample) -> float:
        """Metres between a sample and where the last two say that it would be."""
        step = sample.t - self.times[-1]
        if len(self.times) < 2:
            return 0.0
        share = step / (self.times[-1] - self.times[-2])
        expected = [b + (b - a) * share for a, b in zip(self.points[-2], self.points[-1], strict=True)]
        return math.dist(sample.p, expected)

    def jumps(self, sample: Sample) -> bool:
        """Whether no mover gets to a sample from where the track was: the gate of the readers.

        i > max(8 median i, 0.5 m + min(80 m/s^2 dt^2, 4 v dt)),  v the fastest of the recent speeds
        """
        if len(self.times) < 3:
            return False
        step = sample.t - self.times[-1]
        usual = sorted(self.surprises)[len(self.surprises) // 2]
        reach = JUMP_M + min(JUMP_MPS2 * step**2, JUMP_SPEEDS * max(self.speeds) * step)
        return self.surprise(sample) > max(JUMP_MEDIANS * usual, reach)

    def grid(self) -> np.ndarray:
        """Times of the newest positions a step apart, oldest first, as far as samples reach without a gap."""
        newest, first = self.times[-1], bisect_right(self.times, self.times[-1] - self.history * self.step)
        t = np.asarray(self.times[max(first - 1, 0) :])
        cuts = np.flatnonzero(np.diff(t) > self.longest_gap)
        begin = t[cuts[-1] + 1] if len(cuts) else t[0]
        count = min(int((newest - begin) / self.step + 1e-6) + 1, self.history)
        return np.maximum(newest - self.step * np.arange(count - 1, -1, -1), begin)

    def lines(self) -> np.ndarray | None:
        """Lines (2, 2, D) through all samples where they are denser than the model's steps."""
        first = max(bisect_right(self.times, self.times[-1] - LONG * self.step) - 1, 0)
        t = np.asarray(self.times[first:])
        if len(t) < LONG or not self.follow or not is_dense(t, self.step):
            return None
        return through_all(t, np.asarray(self.points[first:]), t[-1:], self.step)[0]

    def at(self, times: np.ndarray) -> np.ndarray:
        """Positions (n, D) at times inside the samples."""
        first = max(bisect_right(self.times, float(times[0])) - 1, 0)
        t = np.asarray(self.times[first:])
        p = np.asarray(self.points[first:])
        velocities = self.velocities[first:]
        curved = velocities[-1] is not None and not any(v is None for v in velocities)
        return between(t, p, np.asarray(velocities, dtype=np.float64) if curved else None, times)
