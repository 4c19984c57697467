"""Load a model and ask it: where will this track be, how sure is that, and will it come near a place?"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from apps.trajectory.config import TrainConfig, WindowConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.data import Segment, Track, resample
from apps.trajectory.dims import check_dims, histories_of
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.models.vector import load_published
from core import config as settings
from core.bundled import find
from core.errors import ConfigError, DataError, WeightsError
from core.weights import Card, load, load_into

DEFAULT = "trajectory-gru"
"""The bundled weights that answer when none are named."""
SHORTEST = 3
"""Positions without which nothing is predicted."""
PIECE = 512
"""Histories of one pass along a track: memory stays that of a pass, however long the track is."""


@dataclass(frozen=True)
class Model:
    """A network that is ready to predict, with its calibration and the card of its weights."""

    network: nn.Module
    name: str
    dims: int
    dt: float
    history: int
    horizon: int
    calibration: Calibration | None = None
    card: Card | None = None

    @torch.no_grad()
    def forecast(self, past: np.ndarray) -> Forecast:
        """Histories (N, T, D), dt apart, newest last -> Forecast of `horizon` steps (float64 means).

        Raises:
            DataError: the histories have another number of coordinates than the model.
        """
        return self.network(torch.from_numpy(histories_of(past, self.dims)))

    def factor(self, coverage: float = 0.9) -> np.ndarray | None:
        """Conformal radius per unit of spread, (K,); None without calibration."""
        return None if self.calibration is None else self.calibration.factor(1 - coverage)


def load_model(
    weights: str | Path = DEFAULT,
    stats: str | Path | None = None,
    *,
    normalisation: Literal["max", "white"] | None = None,
    compat: bool = False,
) -> Model:
    """A bundled name, a weights file or a run folder; or published weights (.pth) with statistics (.npz).

    Args:
        normalisation: of published weights; None reads it from the file name.
        compat: published weights as the shipped node runs them, see `VectorPredictor`.

    Raises:
        WeightsError: nothing there, foreign, damaged, or published weights without `stats`.
    """
    if Path(weights).suffix in (".pth", ".pt"):
        if stats is None:
            raise WeightsError(f"{weights}: published weights need their statistics, a .npz file, as stats.")
        vector = load_published(weights, stats, normalisation=normalisation, compat=compat)
        dims = vector.network.fc.out_features
        return Model(vector, Path(weights).stem, dims, vector.dt, vector.history, vector.horizon)
    path = find(weights)
    return read_model(path, Path(weights).name, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def read_model(path: Path, name: str, changed_ns: int) -> Model:
    """A model from a file that `train` wrote; `changed_ns` makes the cache notice a new run."""
    tensors, card = load(path)
    if card.task != "trajectory":
        raise WeightsError(f"{path}: weights for {card.task}, not for trajectory.")
    network = rebuilt(path, card)
    load_into(network, tensors)
    stored = card.extra.get("calibration")
    calibration = None if stored is None else Calibration.from_dict(stored)
    return Model(
        network.eval(), name, network.dims, network.dt, network.history, network.horizon, calibration, card
    )


def rebuilt(path: Path, card: Card) -> Predictor:
    """The network that a card's settings describe, without its weights."""
    kept = {name: card.settings.get(name, {}) for name in ("model", "window")}
    try:
        config = settings.replace(TrainConfig(), kept)
    except ConfigError as error:
        raise WeightsError(f"{path}: its settings are not ours ({error})") from error
    return Predictor(config.model, config.window)


@dataclass(frozen=True)
class Prediction:
    """Where a track will be, step by step. Steps beyond the model's horizon are NaN (null in `as_dict`)."""

    time_s: float
    """Time of the newest position that was used, on the track's clock."""
    ahead_s: np.ndarray
    """(K,) seconds after it."""
    anchor: np.ndarray
    """(D,) that position."""
    mean: np.ndarray
    """(K, D) metres."""
    covariance: np.ndarray | None = None
    """(K, D, D) square metres."""
    quantiles: np.ndarray | None = None
    """(K, 3, D) offsets from the mean at 10, 50 and 90 %, along `axes`."""
    axes: np.ndarray | None = None
    """(D, D), rows are the directions of the quantiles in the world: ahead, left, up."""
    radius: np.ndarray | None = None
    """(K,) metres: the conformal ball."""
    coverage: float = 0.9
    """How often that ball holds the truth on flights like those it was calibrated on."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON: NaN and infinity become null."""
        fields = {
            "t": self.time_s,
            "ahead_s": self.ahead_s,
            "anchor": self.anchor,
            "mean": self.mean,
            "covariance": self.covariance,
            "quantiles": self.quantiles,
            "axes": self.axes,
            "radius": self.radius,
        }
        told = {name: plain(value) for name, value in fields.items() if value is not None}
        return {**told, "coverage": self.coverage} if self.radius is not None else told


def plain(value: Any) -> Any:
    """Lists of finite numbers; a row without a single finite number becomes null."""
    if isinstance(value, np.ndarray):
        if value.ndim and value.size and not np.isfinite(value).any():
            return None if value.ndim == 1 else [plain(row) for row in value]
        return [plain(row) for row in value] if value.ndim else plain(value.item())
    return value if np.isfinite(value) else None


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
        at_s: predict from this time of a track's clock on, knowing nothing later; None: from its end.

    Raises:
        DataError: too few positions, or one that is not finite.
        ConfigError: a horizon or coverage outside its range.
    """
    model = model if isinstance(model, Model) else load_model(model)
    if horizon_s is not None and not 0 < horizon_s <= 600:
        raise ConfigError(f"horizon must be in (0, 600] seconds, got {horizon_s}.")
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must lie between 0 and 1, got {coverage}.")
    positions, time_s = newest(past, model, at_s)
    steps = model.horizon if horizon_s is None else max(1, round(horizon_s / model.dt))
    forecast = model.forecast(positions[None])
    return as_predictions(forecast, model, positions[-1:], np.array([time_s]), steps, coverage)[0]


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
        known = track.time_s <= at_s + 1e-9
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
    track: Track | Segment, model: Model | str | Path = DEFAULT, *, stride: int = 5, coverage: float = 0.9
) -> list[Prediction]:
    """Predictions from every `stride`-th sample that has a full history, as a replay needs them."""
    model = model if isinstance(model, Model) else load_model(model)
    pieces = [track] if isinstance(track, Segment) else resample(track, model.dt)
    found = []
    for piece in pieces:
        check_dims_of(piece, model)
        ends = np.arange(model.history, len(piece) + 1, stride)
        for start in range(0, len(ends), PIECE):
            chosen = ends[start : start + PIECE]
            past = np.stack([piece.positions[end - model.history : end, : model.dims] for end in chosen])
            times = piece.t0 + piece.dt * (chosen - 1)
            found += as_predictions(model.forecast(past), model, past[:, -1], times, model.horizon, coverage)
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


@dataclass(frozen=True)
class Approach:
    """The moment when the predicted path is nearest to a point."""

    ahead_s: float
    distance_m: float


def closest_approach(prediction: Prediction, point: np.ndarray) -> Approach:
    """Nearest moment of the predicted path, straight between steps and beginning at the anchor.

    Raises:
        DataError: the point has other coordinates than the prediction.
    """
    path = known_path(prediction, point)
    times = np.concatenate([[0.0], prediction.ahead_s])[: len(path)]
    legs, gap = np.diff(path, axis=0), np.asarray(point, dtype=np.float64) - path[:-1]
    length = np.maximum((legs**2).sum(1), 1e-12)
    along = np.clip((gap * legs).sum(1) / length, 0, 1)
    distance = np.linalg.norm(gap - along[:, None] * legs, axis=1)
    leg = int(np.argmin(distance))
    return Approach(float(times[leg] + along[leg] * (times[leg + 1] - times[leg])), float(distance[leg]))


def known_path(prediction: Prediction, point: np.ndarray) -> np.ndarray:
    """Anchor and predicted positions up to the model's horizon, (K+1, D)."""
    if np.shape(point) != prediction.anchor.shape:
        raise DataError(f"the point has shape {np.shape(point)}, positions have {prediction.anchor.shape}.")
    known = np.isfinite(prediction.mean).all(1)
    return np.concatenate([prediction.anchor[None], prediction.mean[known]])


def sample_futures(prediction: Prediction, count: int, seed: int = 0) -> np.ndarray:
    """`count` possible paths (count, K, D) from the covariance, or from the conformal radius without one.

    One normal vector per path moves all its steps, since a track that is ahead of its prediction stays ahead.

    Raises:
        DataError: the prediction has neither covariance nor radius.
    """
    D = len(prediction.anchor)
    if prediction.covariance is not None:
        covariance = prediction.covariance
    elif prediction.radius is not None:
        from scipy.stats import chi2

        deviation = prediction.radius / np.sqrt(chi2.ppf(prediction.coverage, D))
        covariance = deviation[:, None, None] ** 2 * np.eye(D)
    else:
        raise DataError(
            "the model gives neither a covariance nor a calibrated radius, so futures cannot be drawn."
        )
    known = np.isfinite(covariance).all((1, 2)) & np.isfinite(prediction.mean).all(1)
    factor = np.linalg.cholesky(covariance[known])
    normal = np.random.default_rng(seed).standard_normal((count, D))
    paths = np.full((count, *prediction.mean.shape), np.nan)
    paths[:, known] = prediction.mean[known] + np.einsum("kij,nj->nki", factor, normal)
    return paths


def entry_probability(
    prediction: Prediction, centre: np.ndarray, radius_m: float, *, samples: int = 2000, seed: int = 0
) -> float:
    """Chance that the track enters a sphere within the horizon: the share of drawn futures that do.

    Raises:
        DataError: the centre has other coordinates than the prediction, or no uncertainty is known.
        ConfigError: the radius is not positive.
    """
    if not radius_m > 0:
        raise ConfigError(f"the radius of a sphere must be positive, got {radius_m}.")
    known = np.isfinite(prediction.mean).all(1)
    path = known_path(prediction, centre)
    if np.linalg.norm(path[0] - centre) <= radius_m:
        return 1.0
    futures = sample_futures(prediction, samples, seed)[:, known]
    paths = np.concatenate([np.broadcast_to(path[:1], (samples, 1, path.shape[1])), futures], 1)
    legs, gap = np.diff(paths, axis=1), np.asarray(centre, dtype=np.float64) - paths[:, :-1]
    along = np.clip((gap * legs).sum(-1) / np.maximum((legs**2).sum(-1), 1e-12), 0, 1)
    distance = np.linalg.norm(gap - along[..., None] * legs, axis=-1)
    return float((distance <= radius_m).any(1).mean())


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
