"""Live prediction: samples of any number of tracks in, one JSON line per prediction out.

Rules (they are also what the counters of the summary count):
- a sample whose time is not after the newest of its track is skipped: equal time = duplicate, older = late;
- a time far behind or far ahead is held back, and a place that no mover gets to (a jump): the next says
  whether the clock was set anew or the track stands elsewhere (a restart: it begins again) or one sample was
  bad (a stray);
- the step of a track follows its samples; a gap (more than half a second and five steps, or `max_gap_s`)
  starts it anew: nothing is interpolated over it. Answers begin with the fourth position, "history" says how
  many there were;
- a track that was silent for `expire_s`, on the clock on the wall, is forgotten; one that stops says so once;
- a prediction whose anchor is older than two of its steps says so with `"stale": true`;
- beyond the model's horizon the answer is null;
- the ball follows each track's own misses (`conformal.LiveRadius`).

Two exact modes: `window` encodes the last positions again for every prediction, `stateful` carries the
encoder's state and pays one step per model step.
"""

import heapq
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from apps.trajectory.conformal import LiveRadius
from apps.trajectory.counters import MOST_TIMES, Counters
from apps.trajectory.dims import check_dims, fit_dims, fit_lines
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
MUTE = 20
"""Samples without an answer after which a stream says why."""
STALE_S = 1.0
"""A track is told to have stopped after so much silence (and five of its steps)."""
BACK_S, BACK_STEPS = 2.0, 20
"""A time further back than both is no late sample: the sender's clock was set anew."""
DIGITS = 4
"""Behind the point of a line on the wire: a tenth of a millimetre."""


class Engine(Protocol):
    """A model as the stream needs it."""

    dt: float
    history: int
    """Positions in a window."""
    shortest: int
    """Positions that it needs."""
    horizon: int
    follows: bool
    """Whether it answers windows of any step."""
    dims: int
    """Coordinates of a position."""

    def window(
        self, past: np.ndarray, step_s: float | None = None, through: np.ndarray | None = None
    ) -> Prediction:
        """past (T, D) metres, newest last, `step_s` apart; the stream sets the time of the answer."""
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
    max_gap_s: float | None = None
    """None: half a second and five steps of the track."""
    expire_s: float = 10.0
    between_m: float | None = None
    """Tell pairs of tracks that are predicted to come so close."""

    def __post_init__(self) -> None:
        if self.mode not in ("window", "stateful"):
            raise ConfigError(f"mode must be window or stateful, got {self.mode!r}.")
        if self.horizon_s is not None and not 0 < self.horizon_s <= 600:
            raise ConfigError(f"horizon must be in (0, 600] seconds, got {self.horizon_s}.")
        if self.every_s < 0 or (self.max_gap_s or 1) <= 0 or self.expire_s <= 0:
            raise ConfigError("every_s must not be negative; max_gap_s and expire_s must be positive.")


class Stream:
    """All tracks of a stream; `feed` takes a sample and returns a prediction line or None."""

    def __init__(self, engine: Engine, config: StreamConfig | None = None) -> None:
        self.engine = engine
        self.config = config or StreamConfig()
        self.tracks: dict[str | int, LiveTrack] = {}
        self.silence: list[tuple[float, int, str | int]] = []
        """Heap of arrivals, not newer than those of the tracks: the most silent one is found in O(log n)."""
        self.admitted = 0
        self.counters = Counters()
        self.remarks: list[str] = []
        self.units: set[str] = set()
        self.meetings: list[dict[str, Any]] = []
        self.pairs: Any = None
        if self.config.between_m is not None:
            from apps.trajectory.pairs import Pairs

            self.pairs = Pairs(self.config.between_m)

    def feed(self, sample: Sample, arrival: float | None = None) -> dict[str, Any] | None:
        """Take one sample; returns the prediction for its track when there is one to make.

        `arrival` is when the sample came in, on the clock of `time.perf_counter`.

        Raises:
            DataError: the sample has coordinates that its track or the model has not.
        """
        begin = time.perf_counter()
        arrival = (sample.arrival or begin) if arrival is None else arrival
        self.check(sample)
        self.counters.samples += 1
        track = self.tracks.get(sample.id)
        if track is None:
            track = self.admit(sample, arrival)
        elif len(sample.p) != track.dims:
            raise DataError(f"p has {len(sample.p)} coordinates; track {sample.id!r} has {track.dims}.")
        track.arrival, track.told_stale = arrival, False
        if sample.resets != track.resets and track.times:  # another place, not another way
            self.counters.restarts += 1
            track.restart()
        track.resets = sample.resets
        if track.times and not self.trusted(track, sample):
            return None
        track.add(sample)
        if track.radius is not None:
            track.radius.learn(sample.t, track.at)
        if self.config.mode == "stateful":
            self.advance(track)
        if sample.t - track.last_answer < self.config.every_s - 1e-9:
            return None
        answer = self.answer(sample.id, track, begin)
        if answer is not None:
            track.last_answer, track.unanswered = sample.t, 0
            return answer
        track.unanswered += 1
        if track.unanswered == MUTE:
            self.remarks.append(self.why(sample.id, track))
        return None

    def check(self, sample: Sample) -> None:
        """Coordinates against the model's; a mover in the plane has the height 0 for one of three."""
        dims = self.engine.dims
        for name, value in (("p", sample.p), ("v", sample.v)):
            flat = value is not None and (len(value), dims) == (2, 3) and self.config.mode == "window"
            if value is not None and not flat:
                check_dims(len(value), dims, name)
        if sample.v is not None and len(sample.v) != len(sample.p):
            raise DataError(f"v has {len(sample.v)} values and p {len(sample.p)}.")
        if sample.unit not in self.units:
            self.units.add(sample.unit)
            if sample.unit not in ("s", "date"):
                self.remarks.append(f"times are read as {sample.unit} since 1970, by their size.")

    def why(self, name: str | int, track: LiveTrack) -> str:
        """Why a track has had no answer for a while."""
        held = len(track.grid()) if track.times else 0
        return (
            f"{name!r}: no answer after {MUTE} samples; {held} of {self.engine.shortest} positions without a "
            f"gap above {track.longest_gap:.3g} s, at steps of {track.step:g} s; see --max-gap."
        )

    def trusted(self, track: LiveTrack, sample: Sample) -> bool:
        """Whether a sample is the next of its track; one far from it waits for the next to agree."""
        doubt, track.doubt = track.doubt, None
        step = sample.t - track.times[-1]
        steps = BACK_STEPS * track.step
        early, late = step < -max(BACK_S, steps), step > max(self.config.expire_s, BACK_S, steps)
        far = early or (late and len(track.times) > 1)
        if not far and step <= 0:
            self.counters.duplicate += step == 0
            self.counters.late += step < 0
            track.doubt = doubt
            return False
        gone = not far and step > track.longest_gap
        if not far and not gone and track.jumps(sample):
            far = True
        if not far:
            if doubt is not None:
                self.doubted(track, doubt)
            if gone:
                self.counters.gaps += 1
                track.restart()
            return True
        if doubt is not None and self.agree(track, doubt, sample):
            self.counters.restarts += 1
            track.restart()
            track.add(doubt)
            if self.config.mode == "stateful":
                self.advance(track)
            track.last_answer = -math.inf
            return True
        if doubt is not None:
            self.doubted(track, doubt)
        track.doubt = sample
        return False

    def doubted(self, track: LiveTrack, doubt: Sample) -> None:
        """Count a sample that stayed alone: its time or its place was bad."""
        step = doubt.t - track.times[-1]
        near = 0 < step <= max(self.config.expire_s, BACK_S, BACK_STEPS * track.step)
        self.counters.jumps += near
        self.counters.strays += not near

    def agree(self, track: LiveTrack, doubt: Sample, sample: Sample) -> bool:
        """Whether two samples that are far from their track are near each other."""
        step = sample.t - doubt.t
        if not 0 < step <= max(self.config.expire_s, BACK_S, BACK_STEPS * track.step):
            return False
        reach = max(track.speeds, default=0.0) * step
        return math.dist(sample.p, doubt.p) <= max(0.5 + 80 * step**2, 4 * reach)

    def admit(self, sample: Sample, arrival: float) -> LiveTrack:
        """A new track; silent ones leave first, and the most silent one when there are too many."""
        self.expire(arrival)
        while len(self.tracks) >= MAX_TRACKS:
            self.drop_most_silent()
        engine = self.engine
        follow = engine.follows and self.config.mode == "window"
        track = LiveTrack(len(sample.p), engine.dt, engine.history, self.config.max_gap_s, follow=follow)
        track.arrival = arrival
        self.tracks[sample.id] = track
        self.admitted += 1
        heapq.heappush(self.silence, (arrival, self.admitted, sample.id))
        return track

    def expire(self, now: float) -> None:
        """Forget the tracks that were silent for too long."""
        while self.silence and now - self.silence[0][0] > self.config.expire_s:
            if not self.renewed():
                self.drop_most_silent()

    def renewed(self) -> bool:
        """Whether the top of the heap was out of date; it then stands where its track belongs."""
        arrival, number, name = self.silence[0]
        newest = self.tracks[name].arrival
        if newest > arrival:
            heapq.heapreplace(self.silence, (newest, number, name))
            return True
        return False

    def drop_most_silent(self) -> None:
        while self.renewed():
            pass
        _, _, name = heapq.heappop(self.silence)
        del self.tracks[name]
        if self.pairs is not None:
            self.pairs.forget(name)
        self.counters.expired += 1

    def advance(self, track: LiveTrack) -> None:
        """Carry the encoder's state over all model steps that the newest sample completes."""
        dt = self.engine.dt
        if track.state is None:
            track.state = self.engine.begin(np.array(track.newest[-1]))
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
        engine, step = self.engine, track.step
        newest = anchor = track.times[-1]
        held = engine.history
        if self.config.mode == "stateful":
            anchor, step = track.state_time, engine.dt
            forecast = engine.forecast(track.state)
        else:
            grid = track.grid()
            held = len(grid)
            if held < engine.shortest:
                return None
            past, flat = fit_dims(track.at(grid), engine.dims, "a track")
            forecast = engine.window(past, step, fit_one(track.lines(), engine.dims))
            if flat:
                forecast = forecast.in_plane()
        if forecast is None:
            return None
        forecast = replace(forecast, time_s=anchor)
        if forecast.radius is not None:
            if track.radius is None:
                track.radius = LiveRadius(len(forecast.radius))
            radius = forecast.radius * track.radius.factor
            forecast = replace(forecast, radius=radius)
            track.radius.tell(anchor, step, forecast.mean, radius)
        now = time.perf_counter()
        age = newest - anchor + max(now - track.arrival, 0.0)
        self.counters.predictions += 1
        self.counters.latency_us.append((now - begin) * 1e6)
        if len(self.counters.latency_us) > MOST_TIMES:
            del self.counters.latency_us[: MOST_TIMES // 2]
        if self.config.horizon_s is not None:
            forecast = forecast.reaching(max(1, math.ceil(self.config.horizon_s / step - 1e-6)))
        if self.pairs is not None:
            self.meetings += self.pairs.meet(name, forecast, track.origin)
        line = {
            "id": name,
            **forecast.as_dict(DIGITS),
            "history": held,
            "age_s": round(age, 6),
            "latency_us": round((now - begin) * 1e6, 1),
        }
        if track.origin is not None and track.dims == 3:
            known = forecast.mean[np.isfinite(forecast.mean).all(1)]
            places = from_enu(np.concatenate([forecast.anchor[None], known]), track.origin)
            line["lat_lon_alt"] = np.round(places, 8).tolist()
        if age > 2 * step:
            line["stale"] = True
            self.counters.stale += 1
        return line

    def tick(self, *, answers: bool = True) -> Iterator[dict[str, Any]]:
        """What time alone brings: who has stopped, once; with `answers` predictions of all live tracks."""
        now = time.perf_counter()
        self.expire(now)
        for name, track in list(self.tracks.items()):
            if not track.times:
                continue
            line = self.answer(name, track, now) if answers else None
            if line is not None:
                yield line
                continue
            silent = now - track.arrival
            if not track.told_stale and silent > max(STALE_S, 5 * track.step):
                track.told_stale = True
                yield {
                    "id": name,
                    "t": track.times[-1],
                    "waiting": True,
                    "stale": True,
                    "age_s": round(silent, 3),
                }


def fit_one(lines: np.ndarray | None, dims: int) -> np.ndarray | None:
    """Lines (2, 2, D) of one track for a model of `dims` coordinates."""
    fitted = None if lines is None else fit_lines(lines[None], dims)
    return None if fitted is None else fitted[0]


def run(
    stream: Stream,
    source: Iterable[Sample | DataError | None],
    write: Callable[[str], None],
    complain: Callable[[str], None],
    *,
    answer_ticks: bool = True,
) -> Counters:
    """Feed a source until it ends; None from the source is a tick, a DataError a line that was no sample.

    Args:
        answer_ticks: a tick answers all live tracks; otherwise it only tells which have stopped.
    """
    for item in source:
        if item is None:
            for line in stream.tick(answers=answer_ticks):
                write(json.dumps(line, allow_nan=False))
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
            write(json.dumps(line, allow_nan=False))
            arrival = None if isinstance(item, DataError) else item.arrival
            if arrival is not None:
                kept = stream.counters.client_us
                kept.append((time.perf_counter() - arrival) * 1e6)
                if len(kept) > MOST_TIMES:
                    del kept[: MOST_TIMES // 2]
        for meeting in stream.meetings:
            write(json.dumps(meeting, allow_nan=False))
        stream.meetings.clear()
        for remark in stream.remarks[:5]:
            complain(remark)
        stream.remarks.clear()
    return stream.counters
