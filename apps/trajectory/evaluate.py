"""One evaluation for every model and baseline, by the protocol that all figures here share.

Tracks are resampled to the model's rhythm (10 Hz; slower ones keep their own) and cut at gaps above 0.5 s and
five steps; windows of 21 positions of history and 2 s of future start every 5 samples and are pooled. Errors
are Euclidean, in metres: FDE@h at horizon h, ADE@h the mean over the steps up to h. `n` counts windows. A
horizon that a model does not reach is null. `coverage90` is the share of windows whose truth lies in the
conformal 90 % ball.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apps.trajectory.baselines import BASELINES
from apps.trajectory.config import WindowConfig
from apps.trajectory.data import Segment, Track, gap, resample_many, windows
from apps.trajectory.dims import fit_dims, fit_lines
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
Answerer = Callable[[np.ndarray, float, np.ndarray | None], Answer]
"""Histories (n, T, D), their step in seconds, lines through finer samples (n, 2, 2, D) or None -> answer."""
Figures = dict[str, np.ndarray]
"""Name of a figure -> (n,) values, one a window; NaN at a horizon that is not reached."""


@dataclass(frozen=True)
class Scored:
    """Windows with how well everybody answered, window by window."""

    figures: dict[str, Figures]
    """Who -> figures; "model" is first."""
    flights: list[str]
    """(n,) physical flights: what an interval draws again."""
    places: list[dict[str, Any]]
    """(n,) file, track and time of the newest position that was known."""
    steps_s: frozenset[float] = frozenset()
    """Rhythms of the windows."""

    def __len__(self) -> int:
        return len(self.places)


def evaluate(
    model: Model | str,
    tracks: Sequence[Track],
    *,
    stride: int = 5,
    future_s: float = 2.0,
    baselines: Sequence[str] | None = None,
    failed: Mapping[str, str] | None = None,
    max_gap: float | None = None,
) -> Report:
    """Score a model, the name of weights, or the name of a baseline, beside the baselines.

    Args:
        tracks: of any number of files; the report has a group for each.
        stride: samples between windows.
        future_s: seconds of truth that a window must have.
        baselines: names to put beside it; None: all, the learned ones too.
        failed: files that could not be read, with the reason; they stand among the items.
        max_gap: seconds above which nothing is drawn across; None: half a second and five steps.

    Returns:
        `{"name", "n", "model": {"fde_1s", "fde_1s_low", "fde_1s_high", "ade_1s", "coverage90_1s", ..},
        "baselines": {name: {"fde_1s", ..}}, "groups": {file: {"n", "model", "baselines"}}, "items": [..],
        "protocol": {..}, "warnings": [..]}`; an interval draws whole flights again. `overall` and `files` say
        the same in the shape of 0.1, for one release.

    Raises:
        DataError: no window in any of the tracks, fewer coordinates than the model's, or an unknown baseline.
    """
    name, window, answerers, warnings = contestants(model, baselines, tracks)
    follows = isinstance(model, str) or model.follows
    steps = round(future_s / window.dt)
    window = replace(window, horizon=steps, stride=stride)
    by_file: dict[str, list[Track]] = {}
    for track in tracks:
        by_file.setdefault(track.source, []).append(track)
    parts: dict[str, Scored] = {}
    for source, group in by_file.items():
        segments = resample_many(group, window.dt, max_gap, follow=follows)
        parts[source], short = answered(segments, window, answerers, future_s)
        warnings += [*(warning for track in group for warning in track.warnings), *short]
    whole = together(list(parts.values()), answerers)
    if not len(whole):
        raise DataError(
            f"none of {len(tracks)} tracks has {window.history} + {steps} samples at {1 / window.dt:g} Hz."
        )
    slowest, reach = max(whole.steps_s), max(HORIZONS_S)
    if slowest > reach:
        warnings.append(f"samples are up to {slowest:g} s apart, so errors at {reach:g} s are unknown.")
    return {
        "name": name,
        **shape(whole, intervals=True),
        "groups": {source: shape(part) for source, part in parts.items()},
        "items": [*items(whole), *without(parts, failed or {}, window)],
        "protocol": {
            "dt": window.dt,
            "steps_s": sorted(whole.steps_s),
            "history": window.history,
            "future_s": future_s,
            "stride": stride,
            "max_gap_s": gap(window.dt, max_gap),
            "unit": "m",
            "interval": "95 %, flights drawn again",
        },
        "warnings": warnings,
        "overall": scores(whole),
        "files": [
            {"file": source, "tracks": len(by_file[source]), **scores(part)} for source, part in parts.items()
        ],
    }


def answered(
    segments: Sequence[Segment], window: WindowConfig, answerers: dict[str, Answerer], future_s: float
) -> tuple[Scored, tuple[str, ...]]:
    """Windows of the segments of one file with everybody's figures, and what was too short for one."""
    rhythms: dict[tuple[float, int, bool], list[Segment]] = {}
    for segment in segments:
        kind = (segment.dt, segment.positions.shape[1], segment.through is not None)
        rhythms.setdefault(kind, []).append(segment)
    parts, short = [], []
    for (step, _, _), group in rhythms.items():
        ahead = max(1, math.ceil(future_s / step - 1e-6))
        cut = windows(group, window.history, ahead, window.stride)
        short += cut.warnings
        if not len(cut):
            continue
        found, lines = {}, None
        if all(segment.through is not None for segment in group):
            ends = cut.start + window.history - 1
            pairs = zip(cut.segment.tolist(), ends.tolist(), strict=True)
            lines = np.stack([group[owner].through[end] for owner, end in pairs])  # type: ignore[index]
        for who, answer in answerers.items():
            mean, radius = in_pieces(answer, cut.past, step, lines)
            found[who] = by_window(cut.past[:, -1], cut.future, mean, radius, step)
        places, flights = [], []
        for owner, start in zip(cut.segment.tolist(), cut.start.tolist(), strict=True):
            segment = group[owner]
            time_s = segment.t0 + step * (start + window.history - 1)
            places.append({"file": segment.track.source, "track": segment.track.name, "t": round(time_s, 6)})
            flights.append(segment.track.flight)
        parts.append(Scored(found, flights, places, frozenset([step])))
    return together(parts, answerers), tuple(short)


def together(parts: Sequence[Scored], who: Iterable[str]) -> Scored:
    """The windows of several parts as one."""
    parts = [part for part in parts if len(part)]
    figures: dict[str, Figures] = {one: {} for one in who}
    for one, joined in figures.items():
        for name in parts[0].figures[one] if parts else ():
            joined[name] = np.concatenate([part.figures[one][name] for part in parts])
    return Scored(
        figures,
        [flight for part in parts for flight in part.flights],
        [place for part in parts for place in part.places],
        frozenset(step for part in parts for step in part.steps_s),
    )


def key(what: str, horizon_s: float) -> str:
    """Name of a figure: `fde_0.5s`, `fde_1s`."""
    return f"{what}_{horizon_s:g}s"


def shape(part: Scored, *, intervals: bool = False) -> Report:
    """`{"n", "model": {figure: ..}, "baselines": {name: {figure: ..}}}`; unknown is null."""
    rows = {who: means(part, who, intervals) for who in part.figures}
    return {"n": len(part), "model": rows.pop("model", {}), "baselines": rows}


def means(part: Scored, who: str, intervals: bool) -> dict[str, float | None]:
    """Everything about one method, a number or null each."""
    found: dict[str, float | None] = {}
    for name, values in part.figures[who].items():
        known = ~np.isnan(values)
        if not known.any():
            found[name] = None
        elif intervals and name.startswith(("fde", "coverage90")):
            flights = [flight for flight, is_known in zip(part.flights, known, strict=True) if is_known]
            found |= mean_interval(values[known], flights).as_dict(name)
        else:
            found[name] = finite(float(values[known].mean()))
    return found


def by_window(
    anchor: np.ndarray, future: np.ndarray, mean: np.ndarray, radius: np.ndarray | None, step: float
) -> Figures:
    """Figures of one method for windows of one rhythm; between steps everything goes straight on.

    Args:
        anchor: (n, D) newest positions.
        future, mean: (n, K, D) truth and answer; radius (n, K) or None.
    """
    known = min(mean.shape[1], future.shape[1])
    dims = mean.shape[2]
    gaps = mean[:, :known] - future[:, :known, :dims]
    errors = np.linalg.norm(gaps, axis=-1)
    found: Figures = {}
    for horizon in HORIZONS_S:
        place = horizon / step
        last = math.floor(place + 1e-6)
        reached = last >= 1 and place <= known + 1e-6
        none = np.full(len(future), np.nan)
        share = min(max(place - last, 0.0), 1.0) if last < known else 0.0

        def at(values: np.ndarray, last: int = last, share: float = share) -> np.ndarray:
            return (
                values[:, last - 1]
                if share < 1e-6
                else ((1 - share) * values[:, last - 1] + share * values[:, last])
            )

        error = np.linalg.norm(at(gaps), axis=-1) if reached else none
        found[key("fde", horizon)] = error
        found[key("ade", horizon)] = errors[:, :last].mean(1) if reached else none
        if radius is not None:
            ball = at(radius) if reached else none
            found[key("coverage90", horizon)] = (error <= ball).astype(np.float64) if reached else none
            found[key("radius90", horizon)] = ball
    return found


def items(part: Scored) -> list[dict[str, Any]]:
    """Every scored window with the model's figures, so that anybody can recompute."""
    columns = {
        name: [finite(value) for value in values.round(5).tolist()]
        for name, values in part.figures["model"].items()
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
        name, chosen = model, baseline(model)
    else:
        model = model if isinstance(model, Model) else load_model(model)
        if flattest is not None:
            fit_dims(flattest.positions[:0], model.dims, flattest.name)
        window = replace(window, dt=model.dt, history=model.history)
        name, chosen = model.name, network(model)
    learned = {
        who: weights for who, weights in LEARNED.items() if weights in {row["name"] for row in bundled()}
    }
    wanted = [*BASELINES, *learned] if baselines is None else list(baselines)
    answerers = {"model": chosen}
    for who in wanted:
        if who in BASELINES:
            answerers[who] = baseline(who)
        elif who in learned:
            peer = load_model(learned[who])
            if dims < peer.dims and (dims, peer.dims) != (2, 3):
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

    def answer(past: np.ndarray, step: float, lines: np.ndarray | None) -> Answer:
        seen, flat = fit_dims(past, model.dims, "a track")
        forecast = model.forecast(seen, step, fit_lines(lines, model.dims))
        radius = None if factor is None else factor * forecast.spread.double().numpy()
        return forecast.mean.double().numpy()[..., : 2 if flat else model.dims], radius

    return answer


def baseline(name: str) -> Answerer:
    """A baseline as an answerer; it reaches any horizon."""

    def answer(past: np.ndarray, step: float, lines: np.ndarray | None) -> Answer:
        return BASELINES[name](past, step, max(1, math.ceil(max(HORIZONS_S) / step - 1e-6))), None

    return answer


def in_pieces(answer: Answerer, past: np.ndarray, step: float, lines: np.ndarray | None) -> Answer:
    """All windows, so many at a time that memory stays small."""
    found = []
    for start in range(0, len(past), CHUNK):
        piece = slice(start, start + CHUNK)
        found.append(answer(past[piece], step, None if lines is None else lines[piece]))
    radii = [radius for _, radius in found if radius is not None]
    return np.concatenate([mean for mean, _ in found]), np.concatenate(radii) if radii else None


def scores(part: Scored) -> Report:
    """`{"n": .., <who>: {"fde": .., "ade": ..}}`; who has radii also gets coverage and mean radius."""
    found: Report = {"n": len(part)}
    for who in part.figures:
        row = means(part, who, intervals=False)
        kinds = ("ade", "fde", "coverage90", "radius90")
        found[who] = {
            kind: {str(horizon): row[key(kind, horizon)] for horizon in HORIZONS_S}
            for kind in kinds
            if key(kind, HORIZONS_S[0]) in row
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
