"""Live prediction: samples of any number of tracks in, one JSON line per prediction out.

Rules (they are also what the counters of the summary count):
- a sample whose time is not after the newest of its track is skipped: equal time = duplicate, older = late;
- a time far behind or far ahead is held back: the next sample says whether the clock was set anew (a restart:
  the track begins again) or one stamp was bad (a stray);
- a step above `max_gap` starts the track anew: nothing is interpolated over a gap;
- a track that was silent for `expire_s` of stream time is forgotten;
- a prediction whose anchor is older than two model steps says so with `"stale": true`;
- beyond the model's horizon the answer is null.

Two exact modes: `window` encodes the last positions again for every prediction, `stateful` carries the
encoder's state and pays one step per model step.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from apps.trajectory.dims import check_dims
from apps.trajectory.geo import from_enu
from apps.trajectory.live import LiveTrack
from apps.trajectory.prediction import Prediction
from apps.trajectory.samples import MAX_LINE, Sample, parse_sample
from core.errors import ConfigError, DataError

__all__ = [
    "MAX_LINE",
    "Counters",
    "Engine",
    "LiveTrack",
    "Sample",
    "Stream",
    "StreamConfig",
    "parse_sample",
    "run",
]

MAX_TRACKS = 10_000
FAR_S = 3600.0
"""A new track so far ahead of all others does not make them old until a second sample says the same."""
BACK_S, BACK_STEPS = 2.0, 20
"""A time further back than both is no late sample: the sender's clock was set anew."""
DIGITS = 4
"""Behind the point of a line on the wire: a tenth of a millimetre."""


class Engine(Protocol):
    """A model as the stream needs it."""

    dt: float
    history: int
    """Positions in a window."""
    dims: int
    """Coordinates of a position."""

    def window(self, past: np.ndarray) -> Prediction:
        """past (history, D) metres, dt apart, newest last; the stream sets the time of the answer."""
        ...

    def begin(self, position: np.ndarray) -> Any:
        """State of a track that starts here."""
        ...

    def step(self, state: Any, position: np.ndarray) -> Any:
        """State after the next position, dt later."""
        ...

    def forecast(self, state: Any) -> Prediction | None:
        """Prediction from a carried state; None while it has seen too little."""
        ...


@dataclass(frozen=True)
class StreamConfig:
    """How a stream is read and answered."""

    mode: str = "window"
    horizon_s: float | None = None
    """None: the model's own horizon."""
    every_s: float = 0.0
    """Least time between two predictions of a track; 0 answers every sample."""
    max_gap_s: float = 0.5
    expire_s: float = 10.0

    def __post_init__(self) -> None:
        if self.mode not in ("window", "stateful"):
            raise ConfigError(f"mode must be window or stateful, got {self.mode!r}.")
        if self.horizon_s is not None and not 0 < self.horizon_s <= 600:
            raise ConfigError(f"horizon must be in (0, 600] seconds, got {self.horizon_s}.")
        if self.every_s < 0 or self.max_gap_s <= 0 or self.expire_s <= 0:
            raise ConfigError("every_s must not be negative; max_gap_s and expire_s must be positive.")


@dataclass
class Counters:
    """What happened to the samples."""

    samples: int = 0
    malformed: int = 0
    duplicate: int = 0
    late: int = 0
    gaps: int = 0
    restarts: int = 0
    strays: int = 0
    expired: int = 0
    predictions: int = 0
    stale: int = 0
    latency_us: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Counts, and median and 99th percentile of the step latency in microseconds."""
        counts = {name: value for name, value in vars(self).items() if name != "latency_us"}
        if self.latency_us:
            counts["latency_p50_us"] = round(float(np.percentile(self.latency_us, 50)), 1)
            counts["latency_p99_us"] = round(float(np.percentile(self.latency_us, 99)), 1)
        return counts


class Stream:
    """All tracks of a stream; `feed` takes a sample and returns a prediction line or None."""

    def __init__(self, engine: Engine, config: StreamConfig | None = None) -> None:
        self.engine = engine
        self.config = config or StreamConfig()
        self.tracks: dict[str | int, LiveTrack] = {}
        self.counters = Counters()
        self.newest = -math.inf

    def feed(self, sample: Sample, arrival: float | None = None) -> dict[str, Any] | None:
        """Take one sample; returns the prediction for its track when there is one to make.

        `arrival` is when the sample came in, on the clock of `time.perf_counter`.

        Raises:
            DataError: the sample has another number of coordinates than the model.
        """
        begin = time.perf_counter()
        arrival = begin if arrival is None else arrival
        check_dims(len(sample.p), self.engine.dims, "p")
        if sample.v is not None:
            check_dims(len(sample.v), self.engine.dims, "v")
        self.counters.samples += 1
        track = self.tracks.get(sample.id)
        if track is None:
            if sample.t - self.newest < FAR_S or self.newest == -math.inf:
                self.newest = max(self.newest, sample.t)
            track = self.admit(sample.id)
        if track.times and not self.trusted(track, sample):
            return None
        if track.times:
            self.newest = max(self.newest, sample.t)
            step = sample.t - track.times[-1]
            if step <= 0:
                self.counters.duplicate += step == 0
                self.counters.late += step < 0
                return None
            if step > self.config.max_gap_s:
                self.counters.gaps += 1
                track.restart()
        track.add(sample)
        track.arrival = arrival
        if self.config.mode == "stateful":
            self.advance(track)
        if sample.t - track.last_answer < self.config.every_s - 1e-9:
            return None
        answer = self.answer(sample.id, track, begin)
        if answer is not None:
            track.last_answer = sample.t
        return answer

    def trusted(self, track: LiveTrack, sample: Sample) -> bool:
        """Whether a sample's time can be believed; one far from its track's clock waits for the next."""
        doubt, track.doubt = track.doubt, None
        least = max(BACK_S, BACK_STEPS * self.engine.dt)
        step = sample.t - track.times[-1]
        if -least <= step <= max(self.config.expire_s, least):
            self.counters.strays += doubt is not None
            return True
        if doubt is not None and 0 < sample.t - doubt.t <= self.config.expire_s:
            self.counters.restarts += 1
            track.restart()
            track.add(doubt)
            if self.config.mode == "stateful":
                self.advance(track)
            track.last_answer = -math.inf
            self.newest = sample.t
            return True
        self.counters.strays += doubt is not None
        track.doubt = sample
        return False

    def admit(self, name: str | int) -> LiveTrack:
        """A new track; silent ones leave first, and the most silent one when there are too many."""
        for old in [key for key, known in self.tracks.items() if self.silent(known)]:
            del self.tracks[old]
            self.counters.expired += 1
        if len(self.tracks) >= MAX_TRACKS:
            oldest = min(self.tracks, key=lambda key: self.tracks[key].times[-1])
            del self.tracks[oldest]
            self.counters.expired += 1
        span = (self.engine.history - 1) * self.engine.dt + self.config.max_gap_s
        track = self.tracks[name] = LiveTrack(span)
        return track

    def silent(self, track: LiveTrack) -> bool:
        return not track.times or self.newest - track.times[-1] > self.config.expire_s

    def advance(self, track: LiveTrack) -> None:
        """Carry the encoder's state over all model steps that the newest sample completes."""
        dt = self.engine.dt
        if track.state is None:
            track.state = self.engine.begin(np.asarray(track.points[-1]))
            track.state_time = track.times[-1]
            return
        steps = int((track.times[-1] - track.state_time) / dt + 1e-6)
        if steps <= 0:
            return
        grid = np.minimum(track.state_time + dt * np.arange(1, steps + 1), track.times[-1])
        for position in track.at(grid):
            track.state = self.engine.step(track.state, position)
        track.state_time = float(track.state_time + dt * steps)

    def answer(self, name: str | int, track: LiveTrack, begin: float) -> dict[str, Any] | None:
        """A prediction from what the track holds, or None while it is too short."""
        engine = self.engine
        newest = track.times[-1]
        if self.config.mode == "stateful":
            anchor = track.state_time
            forecast = engine.forecast(track.state)
        else:
            anchor = newest
            start = newest - (engine.history - 1) * engine.dt
            if track.times[0] > start + 1e-6:
                return None
            grid = np.maximum(newest - engine.dt * np.arange(engine.history - 1, -1, -1), track.times[0])
            forecast = engine.window(track.at(grid))
        if forecast is None:
            return None
        now = time.perf_counter()
        age = newest - anchor + now - track.arrival
        self.counters.predictions += 1
        self.counters.latency_us.append((now - begin) * 1e6)
        if len(self.counters.latency_us) > 100_000:
            del self.counters.latency_us[:50_000]
        if self.config.horizon_s is not None:
            forecast = forecast.reaching(max(1, math.floor(self.config.horizon_s / engine.dt + 1e-9)))
        line = {
            "id": name,
            **replace(forecast, time_s=anchor).as_dict(DIGITS),
            "age_s": round(age, 6),
            "latency_us": round((now - begin) * 1e6, 1),
        }
        if track.origin is not None:
            known = forecast.mean[np.isfinite(forecast.mean).all(1)]
            places = from_enu(np.concatenate([forecast.anchor[None], known]), track.origin)
            line["lat_lon_alt"] = np.round(places, 8).tolist()
        if age > 2 * engine.dt:
            line["stale"] = True
            self.counters.stale += 1
        return line

    def tick(self) -> Iterator[dict[str, Any]]:
        """Predictions of all live tracks now, whether or not a sample came in: their age tells."""
        for name, track in list(self.tracks.items()):
            if track.times and not self.silent(track):
                line = self.answer(name, track, time.perf_counter())
                if line is not None:
                    yield line


def run(
    stream: Stream,
    source: Iterable[Sample | DataError | None],
    write: Callable[[str], None],
    complain: Callable[[str], None],
) -> Counters:
    """Feed a source until it ends; None from the source is a tick, a DataError a line that was no sample."""
    for item in source:
        if item is None:
            for line in stream.tick():
                write(json.dumps(line))
            continue
        problem: DataError | None = item if isinstance(item, DataError) else None
        line = None
        if not isinstance(item, DataError):
            try:
                line = stream.feed(item)
            except DataError as error:
                problem = error
        if problem is not None:
            stream.counters.malformed += 1
            if stream.counters.malformed <= 5:  # a broken sender must not flood the terminal
                complain(f"skipped: {problem}")
        elif line is not None:
            write(json.dumps(line))
    return stream.counters
