"""The conformal radius of any weights on one's own flights: in seconds, without training.

Scores |error| / spread of every window of the logs give new factors (`conformal`). How much they hold on a
flight that they have not seen is measured by leaving flights out, a group at a time.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.conformal import Calibration
from apps.trajectory.data import Track, flights, resample, windows
from apps.trajectory.dims import fit_dims, fit_lines
from apps.trajectory.model import Model
from core.errors import ConfigError, DataError
from core.weights import save

FEW = 20
"""Flights below which the coverage found is a rough one."""
GROUPS = 20
"""Groups of flights that are left out in turn, at most."""
CHUNK = 2048
HORIZONS_S = (0.5, 1.0, 2.0)


def calibrate(
    tracks: Sequence[Track], model: Model, *, stride: int = 5, coverage: float = 0.9
) -> tuple[Model, dict[str, Any]]:
    """The model with factors from these tracks, and what they hold: `{"flights", "before", "after", ..}`.

    `before` and `after` map a horizon in seconds to the share inside and the mean radius; `after` is found by
    leaving flights out.

    Raises:
        DataError: fewer than two flights with a window of history and horizon.
        ConfigError: published weights, which have no card to keep the factors in.
    """
    if model.card is None:
        raise ConfigError(f"{model.name}: published weights keep no calibration; train or take bundled ones.")
    scores, spreads, steps = [], [], []
    for members in flights(tracks).values():
        part = [scores_of(tracks[index], model, stride) for index in members]
        if any(len(score) for score, _, _ in part):
            scores.append(np.concatenate([score for score, _, _ in part]))
            spreads.append(np.concatenate([spread for _, spread, _ in part]))
            steps.append(np.concatenate([step for _, _, step in part]))
    if len(scores) < 2:
        raise DataError(
            f"{len(scores)} of {len(flights(tracks))} flights have a window of {model.history} + "
            f"{model.horizon} samples; calibration leaves flights out and needs two."
        )
    groups = np.arange(len(scores)) % min(len(scores), GROUPS)
    inside, radii = [], []
    for group in np.unique(groups):
        rest = np.concatenate([score for score, g in zip(scores, groups, strict=True) if g != group])
        factor = Calibration.fit(rest).factor(1 - coverage)
        for place in np.flatnonzero(groups == group):
            inside.append(scores[place] <= factor)
            radii.append(spreads[place] * factor)
    step_s = np.concatenate(steps)
    after = held(np.concatenate(inside), np.concatenate(radii), step_s)
    before = None
    old = model.factor(coverage)
    whole, spread = np.concatenate(scores), np.concatenate(spreads)
    if old is not None:
        before = held(whole <= old, spread * old, step_s)
    report = {
        "flights": len(scores),
        "windows": len(whole),
        "coverage": coverage,
        "before": before,
        "after": after,
        "left_out": len(np.unique(groups)),
    }
    return replace(model, calibration=Calibration.fit(whole)), report


def scores_of(track: Track, model: Model, stride: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n, K), spreads (n, K) and steps (n,) of the windows of one track."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for piece in resample(track, model.dt, follow=model.follows):
        positions, flat = fit_dims(piece.positions, model.dims, track.name)
        cut = windows([replace(piece, positions=positions)], model.history, model.horizon, stride)
        ends = cut.start + model.history - 1
        lines = None if piece.through is None else fit_lines(piece.through[ends], model.dims)
        for start in range(0, len(cut), CHUNK):
            part = slice(start, start + CHUNK)
            forecast = model.forecast(cut.past[part], piece.dt, None if lines is None else lines[part])
            gaps = forecast.mean.numpy() - cut.future[start : start + CHUNK]
            error = np.linalg.norm(gaps[..., : 2 if flat else model.dims], axis=-1)
            spread = forecast.spread.double().numpy()
            found.append((error / spread, spread, np.full(len(error), piece.dt)))
    empty = np.empty((0, model.horizon))
    if not found:
        return empty, empty, np.empty(0)
    return tuple(np.concatenate([part[index] for part in found]) for index in range(3))  # type: ignore[return-value]


def held(inside: np.ndarray, radius: np.ndarray, step_s: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Share inside and mean radius at each horizon, over the windows that have a step there."""
    found: dict[str, dict[str, float | None]] = {}
    for horizon in HORIZONS_S:
        step = np.round(horizon / step_s).astype(int)
        known = (step >= 1) & (step <= inside.shape[1]) & (np.abs(step * step_s - horizon) < 1e-3)
        rows = np.flatnonzero(known)
        if not len(rows):
            found[f"{horizon:g}"] = {"inside": None, "radius_m": None}
            continue
        share = float(inside[rows, step[rows] - 1].mean())
        size = float(radius[rows, step[rows] - 1].mean())
        found[f"{horizon:g}"] = {"inside": share, "radius_m": size if np.isfinite(size) else None}
    return found


def save_calibrated(model: Model, path: Path, report: dict[str, Any]) -> None:
    """Write the weights with their new factors."""
    assert model.card is not None
    assert model.calibration is not None
    about = f"{report['flights']} own flights, {report['windows']} windows"
    extra = {**model.card.extra, "calibration": model.calibration.as_dict(), "calibrated_on": about}
    save(path, model.network, replace(model.card, extra=extra))


def lines(report: dict[str, Any], path: Path) -> list[str]:
    """A report for people."""
    told = [f"{path}: calibrated on {report['flights']} flights, {report['windows']} windows"]
    head = f"{'horizon':>10}{'inside before':>16}{'radius':>10}{'inside after':>16}{'radius':>10}"
    told += ["", head]
    for horizon, after in report["after"].items():
        before = (report["before"] or {}).get(horizon, {})
        cells = [before.get("inside"), before.get("radius_m"), after["inside"], after["radius_m"]]
        texts = [
            "" if value is None else f"{100 * value:.0f} %" if k % 2 == 0 else f"{value:.2f} m"
            for k, value in enumerate(cells)
        ]
        told.append(f"{horizon + ' s':>10}{texts[0]:>16}{texts[1]:>10}{texts[2]:>16}{texts[3]:>10}")
    told += ["", f"after: found by leaving out a part of the flights in turn, {report['left_out']} parts"]
    return told
