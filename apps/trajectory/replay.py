"""One flight looked back on: what was predicted along it, how far off that was, and what the ball held."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from apps.trajectory.baselines import BASELINES
from apps.trajectory.data import Segment, Track, resample
from apps.trajectory.dims import fit_dims, fit_lines
from apps.trajectory.model import Model
from apps.trajectory.predict import PIECE
from core.errors import ConfigError, DataError

BESIDE = ("constant_velocity", "constant_acceleration", "kalman_cv", "ctrv")
"""Simple methods that a flight is compared with."""


@dataclass(frozen=True)
class Replay:
    """Errors at one horizon from every moment of a flight that has a history and an outcome."""

    segment: Segment
    """The stretch of the flight that was looked at, at the model's rhythm."""
    horizon_s: float
    ends: np.ndarray
    """(n,) samples of the segment that were predicted from."""
    error: dict[str, np.ndarray]
    """"model" and the simple methods -> (n,) metres; the model first, the others best first."""
    radius: np.ndarray | None
    """(n,) metres: the 90 % ball; None for a model without calibration."""

    @property
    def time_s(self) -> np.ndarray:
        """(n,) times of the moments on the track's clock."""
        return self.segment.t0 + self.segment.dt * self.ends

    @property
    def mean(self) -> dict[str, float]:
        """Mean error of everybody, metres."""
        return {name: float(error.mean()) for name, error in self.error.items()}

    @property
    def held(self) -> float | None:
        """Share of outcomes inside the ball."""
        return None if self.radius is None else float((self.error["model"] <= self.radius).mean())

    def up_to(self, moment: float) -> Segment:
        """What was known at a moment, from 0 (the first that was predicted from) to 1 (the last)."""
        index = round(float(np.clip(moment, 0, 1)) * (self.ends[-1] - self.ends[0]) + self.ends[0])
        return replace(self.segment, positions=self.segment.positions[: index + 1])


def replay(
    track: Track | Segment,
    model: Model,
    horizon_s: float = 1.0,
    *,
    beside: Sequence[str] = BESIDE,
    most: int = 1200,
) -> Replay:
    """Predict from the samples of the longest stretch of a track and compare with what happened.

    Args:
        horizon_s: how far ahead errors are measured; beyond the model's horizon it is the model's.
        most: moments; of a longer flight every second, third, ... sample is predicted from.

    Raises:
        DataError: no stretch holds a history and an outcome, or it has fewer coordinates than the model.
        ConfigError: a horizon that is not positive.
    """
    if not horizon_s > 0:
        raise ConfigError(f"horizon must be positive, got {horizon_s}.")
    segment = track if isinstance(track, Segment) else longest(track, model)
    steps = min(max(1, round(horizon_s / segment.dt)), model.horizon)
    positions, flat = fit_dims(segment.positions, model.dims, segment.track.name)
    last = len(positions) - steps - 1
    if last < model.history - 1:
        raise DataError(
            f"{segment.track.name}: the longest stretch has {len(positions)} samples at "
            f"{1 / segment.dt:g} Hz; a prediction with its outcome needs {model.history + steps}."
        )
    stride = max(1, -(-(last - model.history + 2) // most))
    ends = np.arange(model.history - 1, last + 1, stride)
    past = np.lib.stride_tricks.sliding_window_view(positions, model.history, axis=0).transpose(0, 2, 1)
    past = past[ends - model.history + 1]
    truth = positions[ends + steps]
    lines = None if segment.through is None else fit_lines(segment.through[ends], model.dims)
    factor = model.factor(0.9)
    means, radii = [], []
    for start in range(0, len(past), PIECE):
        piece = slice(start, start + PIECE)
        forecast = model.forecast(past[piece], segment.dt, None if lines is None else lines[piece])
        means.append(forecast.mean[:, steps - 1].double().numpy())
        if factor is not None:
            radii.append(factor[steps - 1] * forecast.spread[:, steps - 1].double().numpy())
    dims = 2 if flat else model.dims
    gaps = np.concatenate(means) - truth
    ours = np.linalg.norm(gaps[:, :dims], axis=1)
    others = {
        name: np.linalg.norm(BASELINES[name](past, segment.dt, steps)[:, -1] - truth, axis=1)
        for name in beside
    }
    order = sorted(others, key=lambda name: float(others[name].mean()))
    errors = {"model": ours, **{name: others[name] for name in order}}
    return Replay(segment, steps * segment.dt, ends, errors, np.concatenate(radii) if radii else None)


def longest(track: Track, model: Model) -> Segment:
    """The longest unbroken stretch of a track at the model's rhythm.

    Raises:
        DataError: the track has no sample.
    """
    pieces = resample(track, model.dt, follow=model.follows)
    if not pieces:
        raise DataError(f"{track.name}: there is no sample.")
    return max(pieces, key=len)
