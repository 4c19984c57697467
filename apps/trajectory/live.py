"""What is kept of one live track: its recent samples, read at any time between them."""

import math
from array import array
from bisect import bisect_right
from collections import deque
from typing import Any

import numpy as np

from apps.trajectory.conformal import LiveRadius
from apps.trajectory.data import gap, rhythm
from apps.trajectory.dense import REMEMBERED, between, is_dense, through_all
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
        self.times = array("d")
        self.points, self.velocities = array("d"), array("d")
        """Coordinates one after the other: numpy looks at them without a copy. NaN where none came."""
        self.unknown = (math.nan,) * dims
        self.newest: deque[tuple[float, ...]] = deque(maxlen=2)
        self.off: tuple[Sample | None, float] = None, 0.0
        """The last sample whose surprise was asked for, and that."""
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
        for kept in (self.times, self.points, self.velocities):
            del kept[:]
        for recent in (self.surprises, self.speeds, self.newest):
            recent.clear()
        self.step, self.until, self.state, self.off = self.dt, 0, None, (None, 0.0)
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
            self.speeds.append(math.dist(sample.p, self.newest[-1]) / (sample.t - self.times[-1]))
        self.times.append(sample.t)
        self.points.extend(sample.p)
        self.velocities.extend(self.unknown if sample.v is None else sample.v)
        self.newest.append(sample.p)
        self.until -= 1
        if self.follow and self.until < 0 and len(self.times) > 1:
            self.step = rhythm(np.array(self.times[-RECENT:]), self.dt)
            self.until = AGAIN if len(self.times) > RECENT else 0
        # drop in blocks: a list shortened at its head for each sample would cost more than the prediction
        if len(self.times) > 256:
            old = bisect_right(self.times, sample.t - self.history * self.step - self.longest_gap) - 1
            if old > 128:
                del self.times[:old]
                del self.points[: old * self.dims], self.velocities[: old * self.dims]

    def surprise(self, sample: Sample) -> float:
        """Metres between a sample and where the last two say that it would be."""
        if self.off[0] is sample:
            return self.off[1]
        found = 0.0
        if len(self.newest) > 1:
            share = (sample.t - self.times[-1]) / (self.times[-1] - self.times[-2])
            before, last = self.newest
            expected = [b + (b - a) * share for a, b in zip(before, last, strict=True)]
            found = math.dist(sample.p, expected)
        self.off = sample, found
        return found

    def jumps(self, sample: Sample) -> bool:
        """Whether no mover gets to a sample from where the track was: the gate of the readers.

        i > max(8 median i, 0.5 m + min(80 m/s^2 dt^2, 4 v dt)),  v the fastest of the recent speeds
        """
        if len(self.times) < 3:
            return False
        off = self.surprise(sample)
        if off <= JUMP_M:
            return False
        step = sample.t - self.times[-1]
        usual = sorted(self.surprises)[len(self.surprises) // 2]
        reach = JUMP_M + min(JUMP_MPS2 * step**2, JUMP_SPEEDS * max(self.speeds) * step)
        return off > max(JUMP_MEDIANS * usual, reach)

    def grid(self) -> np.ndarray:
        """Times of the newest positions a step apart, oldest first, as far as samples reach without a gap."""
        newest, first = self.times[-1], bisect_right(self.times, self.times[-1] - self.history * self.step)
        t = self.since(max(first - 1, 0))[0]
        cuts = np.flatnonzero(np.diff(t) > self.longest_gap)
        begin = t[cuts[-1] + 1] if len(cuts) else t[0]
        count = min(int((newest - begin) / self.step + 1e-6) + 1, self.history)
        return np.maximum(newest - self.step * np.arange(count - 1, -1, -1), begin)

    def lines(self) -> np.ndarray | None:
        """Lines (2, 2, D) through all samples where they are denser than the model's steps."""
        first = max(bisect_right(self.times, self.times[-1] - LONG * self.step) - 1, 0)
        t, points, _ = self.since(first)
        if len(t) < LONG or not self.follow or not is_dense(t, self.step):
            return None
        return through_all(t, points, t[-1:], self.step)[0]

    def since(self, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times (n,), positions and velocities (n, D) from a sample on: views, to be let go before `add`."""
        t, p, v = (np.frombuffer(kept, np.float64) for kept in (self.times, self.points, self.velocities))
        return t[first:], p.reshape(-1, self.dims)[first:], v.reshape(-1, self.dims)[first:]

    def at(self, times: np.ndarray) -> np.ndarray:
        """Positions (n, D) at times inside the samples."""
        first = max(bisect_right(self.times, float(times[0])) - REMEMBERED, 0)
        t, points, velocities = self.since(first)
        curved = velocities[-1, 0] == velocities[-1, 0] and not np.isnan(velocities).any()
        return between(t, points, velocities if curved else None, times)
