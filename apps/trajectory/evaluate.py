"""One evaluation for every model and baseline, by the protocol that all figures here share.

Tracks are resampled to the model's rhythm (10 Hz) and cut at gaps above 0.5 s; windows of 21 positions of
history and 2 s of future start every 5 samples; windows of all tracks are pooled. Errors are Euclidean, in
metres: FDE@h at horizon h, ADE@h the mean over the steps up to h. `n` counts windows. A horizon that a model
does not reach is null. `coverage90` is the share of windows whose truth lies in the conformal 90 % ball.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from apps.trajectory.baselines import BASELINES
from apps.trajectory.config import WindowConfig
from apps.trajectory.data import Track, Windows, resample_many, windows
from apps.trajectory.dims import check_dims
from apps.trajectory.metrics import summary
from apps.trajectory.model import Model, load_model
from core.bundled import bundled
from core.errors import DataError

HORIZONS_S = (0.5, 1.0, 2.0)
LEARNED = {"lstm": "trajectory-lstm", "transformer": "trajectory-transformer"}
"""Name in the report -> bundled weights, trained as ours but for the encoder."""
CHUNK = 2048

Report = dict[str, Any]
Answer = tuple[np.ndarray, np.ndarray | None]
"""Predicted positions (n, K, D) and 90 % radii (n, K) or None."""
Answerer = Callable[[np.ndarray], Answer]


def evaluate(
    model: Model | str,
    tracks: Sequence[Track],
    *,
    stride: int = 5,
    future_s: float = 2.0,
    baselines: Sequence[str] | None = None,
) -> Report:
    """Score a model, the name of weights, or the name of a baseline, beside the baselines.

    Args:
        tracks: of any number of files; the report has a row for each.
        stride: samples between windows.
        future_s: seconds of truth that a window must have.
        baselines: names to put beside it; None: all, the learned ones too.

    Returns:
        `{"overall": {"n", "model": {"fde", "ade", "coverage90", "radius90"}, <baseline>: {"fde", "ade"}},
        "files": [{"file", "tracks", "n", "model", ..}], "protocol": {..}, "warnings": [..]}`

    Raises:
        DataError: no window in any of the tracks, fewer coordinates than the model's, or an unknown baseline.
    """
    name, window, answerers, warnings = contestants(model, baselines, tracks)
    steps = round(future_s / window.dt)
    window = replace(window, horizon=steps, stride=stride)
    by_file: dict[str, list[Track]] = {}
    for track in tracks:
        by_file.setdefault(track.source, []).append(track)
    pooled: list[tuple[np.ndarray, dict[str, Answer]]] = []
    files = []
    for source, group in by_file.items():
        cut = cut_windows(group, window)
        warnings += [*(warning for track in group for warning in track.warnings), *cut.warnings]
        answers = {who: in_pieces(answer, cut.past) for who, answer in answerers.items()} if len(cut) else {}
        files.append({"file": source, "tracks": len(group), **scores(cut.future, answers, window)})
        if len(cut):
            pooled.append((cut.future, answers))
    if not pooled:
        raise DataError(
            f"none of {len(tracks)} tracks has {window.history} + {steps} samples at {1 / window.dt:g} Hz."
        )
    future = np.concatenate([truth for truth, _ in pooled])
    together = {who: joined([answers[who] for _, answers in pooled]) for who in answerers}
    return {
        "name": name,
        "overall": scores(future, together, window),
        "files": files,
        "protocol": {
            "dt": window.dt,
            "history": window.history,
            "future_s": future_s,
            "stride": stride,
            "max_gap_s": window.max_gap,
            "unit": "m",
        },
        "warnings": warnings,
    }


def contestants(
    model: Model | str, baselines: Sequence[str] | None, tracks: Sequence[Track]
) -> tuple[str, WindowConfig, dict[str, Answerer], list[str]]:
    """Name and rhythm of what is scored, everybody who answers ("model" first), and who cannot."""
    window, warnings = WindowConfig(), []
    flattest = min(tracks, key=lambda track: track.positions.shape[1], default=None)
    dims = 0 if flattest is None else flattest.positions.shape[1]
    if isinstance(model, str) and model in BASELINES:
        name, chosen = model, baseline(model, window)
    else:
        model = model if isinstance(model, Model) else load_model(model)
        if flattest is not None and dims < model.dims:
            check_dims(dims, model.dims, flattest.name)
        window = replace(window, dt=model.dt, history=model.history)
        name, chosen = model.name, network(model)
    learned = {
        who: weights for who, weights in LEARNED.items() if weights in {row["name"] for row in bundled()}
    }
    wanted = [*BASELINES, *learned] if baselines is None else list(baselines)
    answerers = {"model": chosen}
    for who in wanted:
        if who in BASELINES:
            answerers[who] = baseline(who, window)
        elif who in learned:
            peer = load_model(learned[who])
            if dims < peer.dims:
                warnings.append(
                    f"{who} is left out: it predicts {peer.dims} coordinates, the tracks have {dims}."
                )
            elif (peer.dt, peer.history) == (window.dt, window.history):
                answerers[who] = network(peer)
        else:
            raise DataError(f"no baseline {who!r}; there are {', '.join([*BASELINES, *learned])}.")
    return name, window, answerers, warnings


def network(model: Model) -> Answerer:
    """A model as an answerer of its own coordinates."""
    factor = model.factor(0.9)

    def answer(past: np.ndarray) -> Answer:
        forecast = model.forecast(past[..., : model.dims])
        radius = None if factor is None else factor * forecast.spread.double().numpy()
        return forecast.mean.double().numpy(), radius

    return answer


def baseline(name: str, window: WindowConfig) -> Answerer:
    """A baseline as an answerer; it reaches any horizon."""
    steps = round(max(HORIZONS_S) / window.dt)
    return lambda past: (BASELINES[name](past, window.dt, steps), None)


def cut_windows(tracks: Sequence[Track], window: WindowConfig) -> Windows:
    """Windows of the tracks of one file."""
    segments = resample_many(tracks, window.dt, window.max_gap)
    return windows(segments, window.history, window.horizon, window.stride)


def in_pieces(answer: Answerer, past: np.ndarray) -> Answer:
    """All windows, so many at a time that memory stays small."""
    return joined([answer(past[start : start + CHUNK]) for start in range(0, len(past), CHUNK)])


def joined(answers: Sequence[Answer]) -> Answer:
    """Answers of several groups of windows as one."""
    radii = [radius for _, radius in answers if radius is not None]
    return np.concatenate([mean for mean, _ in answers]), np.concatenate(radii) if radii else None


def scores(future: np.ndarray, answers: dict[str, Answer], window: WindowConfig) -> Report:
    """`{"n": .., <who>: {"fde": .., "ade": ..}}`; who has radii also gets coverage and mean radius."""
    found: Report = {"n": len(future)}
    for who, (mean, radius) in answers.items():
        known = min(mean.shape[1], future.shape[1])
        truth = future[:, :known, : mean.shape[2]]
        found[who] = summary(mean[:, :known], truth, window.dt, HORIZONS_S)
        if radius is None:
            continue
        inside = np.linalg.norm(mean[:, :known] - truth, axis=-1) <= radius[:, :known]
        steps = {str(horizon): round(horizon / window.dt) for horizon in HORIZONS_S}
        found[who]["coverage90"] = {
            key: float(inside[:, step - 1].mean()) if step <= known else None for key, step in steps.items()
        }
        found[who]["radius90"] = {
            key: finite(float(radius[:, step - 1].mean())) if step <= known else None
            for key, step in steps.items()
        }
    return found


def finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def table(report: Report) -> list[str]:
    """A report for people: everybody over all files, then the model beside constant velocity file by file."""
    overall = report["overall"]
    head = f"{'FDE, m':<24}" + "".join(f"{key + ' s':>9}" for key in map(str, HORIZONS_S))
    lines = [f"{report['name']}: {overall['n']} windows", "", head + f"{'ADE 1.0 s':>11}{'in 90 % ball':>14}"]
    for who, row in overall.items():
        if who == "n":
            continue
        inside = row.get("coverage90", {}).get("1.0")
        lines.append(
            f"{who:<24}"
            + "".join(f"{number(row['fde'][str(key)]):>9}" for key in HORIZONS_S)
            + f"{number(row['ade']['1.0']):>11}"
            + (f"{100 * inside:>12.1f} %" if inside is not None else "")
        )
    if len(report["files"]) > 1:
        lines += ["", f"{'FDE 1.0 s, m':<40}{'n':>7}{'model':>9}{'CV':>9}{'in 90 % ball':>14}"]
    for row in report["files"] if len(report["files"]) > 1 else []:
        mine, cv = row.get("model", {}), row.get("constant_velocity", {})
        inside = mine.get("coverage90", {}).get("1.0")
        lines.append(
            f"{row['file'][-39:]:<40}{row['n']:>7}"
            + "".join(f"{number(one.get('fde', {}).get('1.0')):>9}" for one in (mine, cv))
            + (f"{100 * inside:>12.1f} %" if inside is not None else "")
        )
    return lines


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
