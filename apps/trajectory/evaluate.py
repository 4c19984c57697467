"""One evaluation for every model and baseline, by the protocol that all figures here share.

Tracks are resampled to the model's rhythm (10 Hz) and cut at gaps above 0.5 s; windows of 21 positions of
history and 2 s of future start every 5 samples; windows of all tracks are pooled. Errors are Euclidean, in
metres: FDE@h at horizon h, ADE@h the mean over the steps up to h. `n` counts windows. A horizon that a model
does not reach is null. `coverage90` is the share of windows whose truth lies in the conformal 90 % ball.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apps.trajectory.baselines import BASELINES
from apps.trajectory.config import WindowConfig
from apps.trajectory.data import Track, resample_many, windows
from apps.trajectory.dims import check_dims
from apps.trajectory.metrics import summary
from apps.trajectory.model import Model, load_model
from core import report as text
from core.bundled import bundled
from core.errors import DataError
from core.metrics.bootstrap import mean_interval

HORIZONS_S = (0.5, 1.0, 2.0)
LEARNED = {"lstm": "trajectory-lstm", "transformer": "trajectory-transformer"}
"""Name in the report -> bundled weights, trained as ours but for the encoder."""
CHUNK = 2048

Report = dict[str, Any]
Answer = tuple[np.ndarray, np.ndarray | None]
"""Predicted positions (n, K, D) and 90 % radii (n, K) or None."""
Answerer = Callable[[np.ndarray], Answer]


@dataclass(frozen=True)
class Scored:
    """Windows with what everybody answered, window by window."""

    future: np.ndarray
    """(n, K, D) truth."""
    answers: dict[str, Answer]
    flights: list[str]
    """(n,) physical flights: what an interval draws again."""
    places: list[dict[str, Any]]
    """(n,) file, track and time of the newest position that was known."""

    def __len__(self) -> int:
        return len(self.future)


def evaluate(
    model: Model | str,
    tracks: Sequence[Track],
    *,
    stride: int = 5,
    future_s: float = 2.0,
    baselines: Sequence[str] | None = None,
    failed: Mapping[str, str] | None = None,
) -> Report:
    """Score a model, the name of weights, or the name of a baseline, beside the baselines.

    Args:
        tracks: of any number of files; the report has a group for each.
        stride: samples between windows.
        future_s: seconds of truth that a window must have.
        baselines: names to put beside it; None: all, the learned ones too.
        failed: files that could not be read, with the reason; they stand among the items.

    Returns:
        `{"name", "n", "model": {"fde_1s", "fde_1s_low", "fde_1s_high", "ade_1s", "coverage90_1s", ..},
        "baselines": {name: {"fde_1s", ..}}, "groups": {file: {"n", "model", "baselines"}}, "items": [..],
        "protocol": {..}, "warnings": [..]}`; an interval draws whole flights again. `overall` and `files` say
        the same in the shape of 0.1, for one release.

    Raises:
        DataError: no window in any of the tracks, fewer coordinates than the model's, or an unknown baseline.
    """
    name, window, answerers, warnings = contestants(model, baselines, tracks)
    steps = round(future_s / window.dt)
    window = replace(window, horizon=steps, stride=stride)
    by_file: dict[str, list[Track]] = {}
    for track in tracks:
        by_file.setdefault(track.source, []).append(track)
    parts: dict[str, Scored] = {}
    for source, group in by_file.items():
        parts[source], short = answered(group, window, answerers)
        warnings += [*(warning for track in group for warning in track.warnings), *short]
    if not any(map(len, parts.values())):
        raise DataError(
            f"none of {len(tracks)} tracks has {window.history} + {steps} samples at {1 / window.dt:g} Hz."
        )
    whole = together([part for part in parts.values() if len(part)], answerers)
    return {
        "name": name,
        **shape(whole, window, intervals=True),
        "groups": {source: shape(part, window) for source, part in parts.items()},
        "items": [*items(whole, window), *without(parts, failed or {}, window)],
        "protocol": {
            "dt": window.dt,
            "history": window.history,
            "future_s": future_s,
            "stride": stride,
            "max_gap_s": window.max_gap,
            "unit": "m",
            "interval": "95 %, flights drawn again",
        },
        "warnings": warnings,
        "overall": scores(whole.future, whole.answers, window),
        "files": [
            {"file": source, "tracks": len(by_file[source]), **scores(part.future, part.answers, window)}
            for source, part in parts.items()
        ],
    }


def answered(
    tracks: Sequence[Track], window: WindowConfig, answerers: dict[str, Answerer]
) -> tuple[Scored, tuple[str, ...]]:
    """Windows of the tracks of one file with everybody's answers, and what was too short for one."""
    segments = resample_many(tracks, window.dt, window.max_gap)
    cut = windows(segments, window.history, window.horizon, window.stride)
    answers = {who: in_pieces(answer, cut.past) for who, answer in answerers.items()} if len(cut) else {}
    places, flights = [], []
    for owner, start in zip(cut.segment.tolist(), cut.start.tolist(), strict=True):
        segment = segments[owner]
        time_s = segment.t0 + window.dt * (start + window.history - 1)
        places.append({"file": segment.track.source, "track": segment.track.name, "t": round(time_s, 6)})
        flights.append(segment.track.flight)
    return Scored(cut.future, answers, flights, places), cut.warnings


def together(parts: Sequence[Scored], who: Iterable[str]) -> Scored:
    """The windows of several files as one."""
    return Scored(
        np.concatenate([part.future for part in parts]),
        {name: joined([part.answers[name] for part in parts]) for name in who},
        [flight for part in parts for flight in part.flights],
        [place for part in parts for place in part.places],
    )


def key(what: str, horizon_s: float) -> str:
    """Name of a figure: `fde_0.5s`, `fde_1s`."""
    return f"{what}_{horizon_s:g}s"


def shape(part: Scored, window: WindowConfig, *, intervals: bool = False) -> Report:
    """`{"n", "model": {figure: ..}, "baselines": {name: {figure: ..}}}`; unknown is null."""
    rows = {who: figures(part, who, window, intervals) for who in part.answers}
    return {"n": len(part), "model": rows.pop("model", {}), "baselines": rows}


def figures(part: Scored, who: str, window: WindowConfig, intervals: bool) -> dict[str, float | None]:
    """Everything about one method, a number or null each."""
    found: dict[str, float | None] = {}
    for name, values in by_window(part, who, window).items():
        if values is None:
            found[name] = None
        elif intervals and name.startswith(("fde", "coverage90")):
            found |= mean_interval(values, part.flights).as_dict(name)
        else:
            found[name] = finite(float(values.mean()))
    return found


def by_window(part: Scored, who: str, window: WindowConfig) -> dict[str, np.ndarray | None]:
    """Figure -> (n,) values, one a window; None at a horizon that the method does not reach."""
    mean, radius = part.answers[who]
    known = min(mean.shape[1], part.future.shape[1])
    errors = np.linalg.norm(mean[:, :known] - part.future[:, :known, : mean.shape[2]], axis=-1)
    found: dict[str, np.ndarray | None] = {}
    for horizon in HORIZONS_S:
        step = round(horizon / window.dt)
        reached = 1 <= step <= known
        found[key("fde", horizon)] = errors[:, step - 1] if reached else None
        found[key("ade", horizon)] = errors[:, :step].mean(1) if reached else None
        if radius is not None:
            inside = errors[:, step - 1] <= radius[:, step - 1] if reached else None
            found[key("coverage90", horizon)] = None if inside is None else inside.astype(np.float64)
            found[key("radius90", horizon)] = radius[:, step - 1] if reached else None
    return found


def items(part: Scored, window: WindowConfig) -> list[dict[str, Any]]:
    """Every scored window with the model's figures, so that anybody can recompute."""
    columns = {
        name: [None] * len(part) if values is None else [finite(value) for value in values.round(5).tolist()]
        for name, values in by_window(part, "model", window).items()
    }
    return [
        {**place, **{name: column[row] for name, column in columns.items()}}
        for row, place in enumerate(part.places)
    ]


def without(
    parts: Mapping[str, Scored], failed: Mapping[str, str], window: WindowConfig
) -> list[dict[str, Any]]:
    """The files that gave no window, and why."""
    needed = f"no stretch of {window.history} + {window.horizon} samples at {1 / window.dt:g} Hz"
    short = [{"file": source, "error": needed} for source, part in parts.items() if not len(part)]
    return [*short, *({"file": file, "error": error} for file, error in failed.items())]


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
    head = ["FDE, m", *(f"{horizon:g} s" for horizon in HORIZONS_S), "1 s, 95 %", "ADE 1 s", "in 90 % ball"]
    rows = [row(who, figures) for who, figures in [("model", report["model"]), *report["baselines"].items()]]
    lines = [f"{report['name']}: {report['n']} windows", "", *text.table(head, rows, indent=0)]
    if len(report["groups"]) > 1:
        head = ["FDE 1 s, m", "n", "model", "constant velocity", "in 90 % ball"]
        rows = []
        for file, group in report["groups"].items():
            mine, cv = group["model"], group["baselines"].get("constant_velocity", {})
            errors = [text.number(one.get("fde_1s"), 3) for one in (mine, cv)]
            rows.append(
                [file[-39:], text.whole(group["n"]), *errors, text.percent(mine.get("coverage90_1s"))]
            )
        lines += ["", *text.table(head, rows, indent=0)]
    return lines


def row(who: str, figures: Mapping[str, Any]) -> list[str]:
    """One method: its errors, the interval at 1 s, the mean over 1 s, and what its ball held."""
    low, high = figures.get("fde_1s_low"), figures.get("fde_1s_high")
    span = "" if low is None or high is None else f"{text.number(low, 3)} to {text.number(high, 3)}"
    inside = figures.get("coverage90_1s")
    return [
        who,
        *(text.number(figures.get(key("fde", horizon)), 3) for horizon in HORIZONS_S),
        span,
        text.number(figures.get("ade_1s"), 3),
        "" if inside is None else text.percent(inside),
    ]
