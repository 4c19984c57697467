"""Ask a model: where will this track be, and how sure is that?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.config import WindowConfig
from apps.trajectory.data import Segment, Track, resample
from apps.trajectory.dims import check_dims
from apps.trajectory.model import DEFAULT, Model, load_model
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
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
PIECE = 512
"""Histories of one pass along a track: memory stays that of a pass, however long the track is."""


def predict(
    past: Track | Segment | np.ndarray,
    model: Model | str | Path = DEFAULT,
    *,
    horizon_s: float | None = None,
    at_s: float | None = None,
    coverage: float = 0.9,
) -> Prediction:
    """The next positions of one track.

    Args:
        past: a track in any rhythm (resampled to the model's), a segment, or positions (T, D), dt apart.
        horizon_s: seconds to predict; None: as far as the model goes. Later steps are NaN.
        at_s: predict from this time of a track on, knowing nothing later: seconds since its first sample or
            the file's own time; None: from its end.

    Raises:
        DataError: too few positions, or one that is not finite.
        ConfigError: a horizon or coverage outside its range.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_words(horizon_s, coverage)
    positions, time_s = newest(past, model, at_s)
    steps = steps_of(horizon_s, model)
    forecast = model.forecast(positions[None])
    return as_predictions(forecast, model, positions[-1:], np.array([time_s]), steps, coverage)[0]


def check_words(horizon_s: float | None, coverage: float) -> None:
    """Raise ConfigError for a horizon or a coverage outside its range."""
    if horizon_s is not None and not 0 < horizon_s <= 600:
        raise ConfigError(f"horizon must be in (0, 600] seconds, got {horizon_s}.")
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must lie between 0 and 1, got {coverage}.")


def steps_of(horizon_s: float | None, model: Model) -> int:
    """Steps of a horizon; None: as far as the model goes."""
    return model.horizon if horizon_s is None else max(1, round(horizon_s / model.dt))


def newest(past: Track | Segment | np.ndarray, model: Model, at_s: float | None) -> tuple[np.ndarray, float]:
    """The last unbroken positions (T, D) of a track at the model's rhythm, and the time of the newest."""
    if isinstance(past, np.ndarray):
        name, positions, time_s = "the history", np.asarray(past, dtype=np.float64), 0.0
    else:
        if isinstance(past, Track):
            past = last_segment(past, model, at_s)
        name, positions = past.track.name, past.positions
        time_s = past.t0 + past.dt * (len(positions) - 1)
    if positions.ndim != 2:
        raise DataError(f"{name}: expected positions (T, {model.dims}), got shape {positions.shape}.")
    if positions.shape[1] < model.dims:
        check_dims(positions.shape[1], model.dims, name)
    needed = SHORTEST if isinstance(model.network, Predictor) else model.history
    if len(positions) < needed:
        raise DataError(
            f"{name}: {len(positions)} positions at steps of {model.dt:g} s; the model needs {needed}."
        )
    positions = positions[-model.history :, : model.dims]
    if not np.isfinite(positions).all():
        raise DataError(f"{name}: a position is not finite.")
    return positions, time_s


def last_segment(track: Track, model: Model, at_s: float | None) -> Segment:
    """The stretch that ends a track, on a grid that meets its newest sample."""
    if at_s is not None:
        known = track.time_s <= track.seconds(at_s) + 1e-6
        track = replace(track, time_s=track.time_s[known], positions=track.positions[known], velocities=None)
    if not len(track):
        raise DataError(f"{track.name}: no sample up to {at_s} s.")
    window = WindowConfig()
    end = track.time_s[-1]
    backwards = replace(
        track, time_s=end - track.time_s[::-1], positions=track.positions[::-1], velocities=None
    )
    reversed_ = resample(backwards, model.dt, max(window.max_gap, 2 * model.dt))[0]
    count = len(reversed_)
    return Segment(track, float(end - model.dt * (count - 1)), model.dt, reversed_.positions[::-1])


def predict_along(
    track: Track | Segment,
    model: Model | str | Path = DEFAULT,
    *,
    stride: int = 5,
    coverage: float = 0.9,
    horizon_s: float | None = None,
    until_s: float | None = None,
) -> list[Prediction]:
    """Predictions from every `stride`-th sample that has a full history, as a replay needs them.

    Args:
        horizon_s: seconds to predict; None: as far as the model goes. Later steps are NaN.
        until_s: the last time of the track that is predicted from, as `at_s` of `predict`; None: its end.

    Raises:
        DataError: the track has fewer coordinates than the model.
        ConfigError: a horizon or coverage outside its range.
    """
    model = model if isinstance(model, Model) else load_model(model)
    check_words(horizon_s, coverage)
    steps = steps_of(horizon_s, model)
    if until_s is not None and isinstance(track, Track):
        until_s = track.seconds(until_s)
    pieces = [track] if isinstance(track, Segment) else resample(track, model.dt)
    found = []
    for piece in pieces:
        check_dims_of(piece, model)
        ends = np.arange(model.history, len(piece) + 1, stride)
        if until_s is not None:
            ends = ends[piece.t0 + piece.dt * (ends - 1) <= until_s + 1e-9]
        for start in range(0, len(ends), PIECE):
            chosen = ends[start : start + PIECE]
            past = np.stack([piece.positions[end - model.history : end, : model.dims] for end in chosen])
            times = piece.t0 + piece.dt * (chosen - 1)
            found += as_predictions(model.forecast(past), model, past[:, -1], times, steps, coverage)
    return found


def check_dims_of(piece: Segment, model: Model) -> None:
    """A track may have more coordinates than the model (which then predicts the first ones), never fewer."""
    if piece.positions.shape[1] < model.dims:
        check_dims(piece.positions.shape[1], model.dims, piece.track.name)


def as_predictions(
    forecast: Forecast, model: Model, anchors: np.ndarray, times_s: np.ndarray, steps: int, coverage: float
) -> list[Prediction]:
    """The rows of a forecast as predictions of `steps` steps; the batch is worked out once for all rows.

    Args:
        anchors: (N, D) newest positions.
        times_s: (N,) their times.
    """

    def cut(values: Any) -> Any:
        """(N, K, ...) -> float64 (N, steps, ...), NaN beyond the model; nothing N times without values."""
        if values is None:
            return [None] * len(anchors)
        known = np.asarray(values, dtype=np.float64)[:, :steps]
        padding = ((0, 0), (0, steps - known.shape[1]), *((0, 0),) * (known.ndim - 2))
        return np.pad(known, padding, constant_values=np.nan)

    factor = model.factor(coverage)
    mean, covariance, quantiles = map(cut, (forecast.mean, forecast.covariance(), forecast.quantiles))
    radius = cut(None if factor is None else factor * forecast.spread.numpy())
    axes = None if forecast.quantiles is None or forecast.axes is None else forecast.axes.numpy()
    return [
        Prediction(
            time_s=float(times_s[row]),
            ahead_s=model.dt * np.arange(1, steps + 1),
            anchor=anchors[row],
            mean=mean[row],
            covariance=covariance[row],
            quantiles=quantiles[row],
            axes=None if axes is None else axes[row],
            radius=radius[row],
            coverage=coverage,
        )
        for row in range(len(anchors))
    ]
