"""Ask a model: where will this track be, and how sure is that?"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.conformal import OwnRadius
from apps.trajectory.data import Segment, Track, resample, rhythm, stretches
from apps.trajectory.dense import between, is_dense, of_the_path, through_all
from apps.trajectory.dims import fit_dims, fit_lines
from apps.trajectory.measures import LONG
from apps.trajectory.model import DEFAULT, Model, load_model
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.prediction import Prediction
from apps.trajectory.questions import Approach, closest_approach, entry_probability, sample_futures
from core.errors import ConfigError, DataError

__all__ = [
    "DEFAULT",
    "Approach",
    "Model",
    "Prediction",
    "closest_approach",
    "entry_probability",
    "load_model",
    "predict",
    "predict_along",
    "sample_futures",
]

SHORTEST = 3
"""Positions without which nothing is predicted."""
RECENT = 61
"""Newest samples whose rhythm a prediction follows."""
LONGEST_S = 6000.0
"""Seconds that a horizon may reach."""
PIECE = 512
"""Histories of one pass along a track: memory stays that of a pass, however long the track is."""


def predict(
    past: Track | Segment | np.ndarray,
    model: Model | str | Path = DEFAULT,
    *,
    horizon_s: float | None = None,
    at_s: float | None = None,
    coverage: float = 0.9,
    max_gap: float | None = None,
) -> Prediction:
    """The next positions of one track.

    Args:
        past: a track in any rhythm (the step of the answer follows it), a segment, or positions (T, D) at the
            model's own step.
        horizon_s: seconds to predict; None: as many steps as the model goes. Later steps are NaN.
        at_s: predict from this time of a track on, knowing nothing later: seconds since its first sample or
            the file's own time; None: from its end.
        max_gap: seconds above which nothing is drawn across; None: half a second and five steps.

    Raises:
        DataError: too few positions, or one that is not finite.
        ConfigError: a horizon, coverage or gap outside its range.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_words(horizon_s, coverage, max_gap)
    positions, flat, time_s, step, lines = newest(past, model, at_s, max_gap)
    steps = steps_of(horizon_s, model, step)
    forecast = model.forecast(positions[None], step, lines)
    return as_predictions(
        forecast, model, positions[-1:], np.array([time_s]), steps, coverage, step=step, flat=flat
    )[0]


def check_words(horizon_s: float | None, coverage: float, max_gap: float | None = None) -> None:
    """Raise ConfigError for a horizon, a coverage or a gap outside its range."""
    if horizon_s is not None and not 0 < horizon_s <= LONGEST_S:
        raise ConfigError(f"horizon must be in (0, {LONGEST_S:g}] seconds, got {horizon_s}.")
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must lie between 0 and 1, got {coverage}.")
    if max_gap is not None and not 0 < max_gap <= 1e6:
        raise ConfigError(f"max-gap must be in (0, 1e6] seconds, got {max_gap}.")


def steps_of(horizon_s: float | None, model: Model, step: float | None = None) -> int:
    """Steps that reach a horizon; None: as far as the model goes."""
    if horizon_s is None:
        return model.horizon
    return max(1, math.ceil(horizon_s / (step or model.dt) - 1e-6))


def newest(
    past: Track | Segment | np.ndarray, model: Model, at_s: float | None, max_gap: float | None = None
) -> tuple[np.ndarray, bool, float, float, np.ndarray | None]:
    """The last unbroken positions (T, dims), whether they lie in a plane, the newest one's time, the step,
    and the lines through finer samples (1, 2, 2, dims)."""
    lines = None
    if isinstance(past, np.ndarray):
        name, positions, time_s, step = "the history", np.asarray(past, dtype=np.float64), 0.0, model.dt
    else:
        if isinstance(past, Track):
            past = last_segment(past, model, at_s, max_gap)
        name, positions, step = past.track.name, past.positions, past.dt
        lines = None if past.through is None else past.through[-1:]
        time_s = past.t0 + past.dt * (len(positions) - 1)
    if positions.ndim != 2:
        raise DataError(f"{name}: expected positions (T, {model.dims}), got shape {positions.shape}.")
    positions, flat = fit_dims(positions, model.dims, name)
    needed = SHORTEST if model.follows else model.history
    if len(positions) < needed:
        raise DataError(
            f"{name}: {len(positions)} positions at steps of {step:g} s without a gap; the model needs "
            f"{needed}. --max-gap lets longer steps pass."
        )
    positions = positions[-model.history :]
    if not np.isfinite(positions).all():
        raise DataError(f"{name}: a position is not finite.")
    return positions, flat, time_s, step, fit_lines(lines, model.dims)


def last_segment(track: Track, model: Model, at_s: float | None, max_gap: float | None = None) -> Segment:
    """The stretch that ends a track, on a grid that meets its newest sample."""
    if at_s is not None:
        known = track.time_s <= track.seconds(at_s) + 1e-6
        rates = None if track.velocities is None else track.velocities[known]
        track = replace(track, time_s=track.time_s[known], positions=track.positions[known], velocities=rates)
    if not len(track):
        raise DataError(f"{track.name}: no sample up to {at_s} s.")
    last = stretches(track, max_gap)[-1]
    end = last.time_s[-1]
    step = rhythm(last.time_s[-RECENT:], model.dt) if model.follows else model.dt
    if step < model.dt * (1 + 1e-9) and is_dense(last.time_s, step) and model.follows:
        recent = last.time_s > end - LONG * step
        t, p = last.time_s[recent], last.positions[recent]
        lines = through_all(t, p, end + np.zeros(1), step)
    else:
        lines = None
    count = math.floor((end - last.time_s[0]) / step + 1e-6) + 1
    grid = np.maximum(end - step * np.arange(count - 1, -1, -1), last.time_s[0])
    curved = of_the_path(last.time_s, last.positions, last.velocities) if model.follows else None
    even = between(last.time_s, last.positions, curved, grid)
    return Segment(track, float(grid[0]), step, even, lines)


def predict_along(
    track: Track | Segment,
    model: Model | str | Path = DEFAULT,
    *,
    stride: int = 5,
    coverage: float = 0.9,
    horizon_s: float | None = None,
    until_s: float | None = None,
    max_gap: float | None = None,
) -> list[Prediction]:
    """Predictions from every `stride`-th sample that has a full history, as a replay needs them.

    The balls follow the track's own misses, as far as they are known at each answer (`conformal.OwnRadius`).

    Args:
        horizon_s: seconds to predict; None: as many steps as the model goes. Later steps are NaN.
        until_s: the last time of the track that is predicted from, as `at_s` of `predict`; None: its end.
        max_gap: seconds above which nothing is drawn across; None: half a second and five steps.

    Raises:
        DataError: the track has fewer coordinates than the model.
        ConfigError: a horizon, coverage or gap outside its range.
    """
    model = model if isinstance(model, Model) else load_model(model)
    passes = along(
        track, model, stride=stride, coverage=coverage, horizon_s=horizon_s, until_s=until_s, max_gap=max_gap
    )
    return [answer for found in passes for answer in found]


def along(
    track: Track | Segment,
    model: Model,
    *,
    stride: int = 5,
    coverage: float = 0.9,
    horizon_s: float | None = None,
    until_s: float | None = None,
    max_gap: float | None = None,
) -> Iterator[list[Prediction]]:
    """`predict_along` pass by pass, so that a track of any length can be written as it is answered."""
    check_words(horizon_s, coverage, max_gap)
    if until_s is not None and isinstance(track, Track):
        until_s = track.seconds(until_s)
    if isinstance(track, Segment):
        pieces = [track]
    else:
        pieces = resample(track, model.dt, max_gap, follow=model.follows)
    own: OwnRadius | None = None
    base = model.factor(coverage)
    for piece in pieces:
        positions, flat = fit_dims(piece.positions, model.dims, piece.track.name)
        if base is not None and np.isfinite(base).all():
            own = own or OwnRadius(model.horizon, stride * piece.dt, 1 - coverage)
            own.forget()
        steps = steps_of(horizon_s, model, piece.dt)
        ends = np.arange(model.history, len(piece) + 1, stride)
        if until_s is not None:
            ends = ends[piece.t0 + piece.dt * (ends - 1) <= until_s + 1e-9]
        for start in range(0, len(ends), PIECE):
            chosen = ends[start : start + PIECE]
            past = np.stack([positions[end - model.history : end] for end in chosen])
            times = piece.t0 + piece.dt * (chosen - 1)
            lines = None if piece.through is None else fit_lines(piece.through[chosen - 1], model.dims)
            forecast = model.forecast(past, piece.dt, lines)
            widened = None
            if own is not None and base is not None:
                errors = missed_by(forecast.mean.numpy(), positions, chosen, 2 if flat else model.dims)
                widened = own.factors(chosen, errors, base * forecast.spread.double().numpy())
            yield as_predictions(
                forecast, model, past[:, -1], times, steps, coverage, step=piece.dt, flat=flat, own=widened
            )


def missed_by(mean: np.ndarray, positions: np.ndarray, ends: np.ndarray, dims: int) -> np.ndarray:
    """Errors (n, K) of means (n, K, D) told after `ends` samples of positions (T, D); NaN beyond them."""
    place = ends[:, None] + np.arange(mean.shape[1])
    truth = positions[np.minimum(place, len(positions) - 1)]
    errors = np.linalg.norm((mean - truth)[..., :dims], axis=-1)
    return np.where(place < len(positions), errors, np.nan)


def as_predictions(
    forecast: Forecast,
    model: Model,
    anchors: np.ndarray,
    times_s: np.ndarray,
    steps: int,
    coverage: float,
    *,
    step: float | None = None,
    flat: bool = False,
    own: np.ndarray | None = None,
) -> list[Prediction]:
    """The rows of a forecast as predictions of `steps` steps; the batch is worked out once for all rows.

    Args:
        anchors: (N, D) newest positions.
        times_s: (N,) their times.
        step: seconds between the steps; None: the model's dt.
        flat: the mover lies in a plane, and the answer loses its height.
        own: (N, K) what the radii are multiplied with; None: as they are.
    """
    dims = 2 if flat else anchors.shape[1]

    def cut(values: Any, axes: int = 0) -> Any:
        """(N, K, ...) -> float64 (N, steps, ...), NaN beyond the model; nothing N times without values."""
        if values is None:
            return [None] * len(anchors)
        known = np.asarray(values, dtype=np.float64)[:, :steps]
        for axis in range(axes):
            known = np.take(known, range(dims), axis=known.ndim - 1 - axis)
        padding = ((0, 0), (0, steps - known.shape[1]), *((0, 0),) * (known.ndim - 2))
        return np.pad(known, padding, constant_values=np.nan)

    factor = model.factor(coverage)
    mean, covariance = cut(forecast.mean, 1), cut(forecast.covariance(), 2)
    quantiles = cut(forecast.quantiles, 1)
    radius = cut(None if factor is None else factor * forecast.spread.numpy() * (1.0 if own is None else own))
    axes = None if forecast.quantiles is None or forecast.axes is None else forecast.axes.numpy()
    ahead = (step or model.dt) * np.arange(1, steps + 1)
    return [
        Prediction(
            time_s=float(times_s[row]),
            ahead_s=ahead,
            anchor=anchors[row, :dims],
            mean=mean[row],
            covariance=covariance[row],
            quantiles=quantiles[row],
            axes=None if axes is None else axes[row, :dims, :dims],
            radius=radius[row],
            coverage=coverage,
        )
        for row in range(len(anchors))
    ]
