"""What may stand before the network where a recorder is faster than it: measured, so that one is chosen.

    thinned    every tenth sample of 100 Hz, the simple answers drawn through those
    lines      the same, the simple answers drawn through all samples (`dense`): what `predict` does
    smoother   places at every tenth sample from all of them by a smoother of constant acceleration over
               the window, with one noise (third differences) and the process noise that explains the
               samples best; the simple answers drawn through all samples

The smoother is the fixed-interval one of Rauch, Tung and Striebel (1965) over each window, so the newest
place is the filter's and nothing later is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from apps.trajectory.baselines import kalman
from apps.trajectory.dense import through_all
from apps.trajectory.dims import fit_dims, fit_lines
from apps.trajectory.model import Model
from apps.trajectory.motion_table import EVERY, HISTORY, HORIZONS_S, at
from apps.trajectory.synth.motions import MOTIONS, motion

RATE = 10
"""Samples in a step of the model: 100 Hz."""
CHANGES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
"""Noise of the acceleration in m/s^2 a step that is tried, beside a noise of one metre."""
FRONTS = ("thinned", "lines", "smoother")


@dataclass(frozen=True)
class FrontRow:
    """Errors of one family in metres, at 1 and 2 s, by front."""

    family: str
    windows: int
    errors: dict[str, tuple[float, float]]


def fronts(model: Model, *, tracks: int = 20, seed: int = 1) -> Iterator[FrontRow]:
    """A row for every family that a recorder of 100 Hz sees."""
    for place, family in enumerate(MOTIONS):
        if family in ("turn_1hz", "straight_exact"):
            continue
        found: dict[str, list[np.ndarray]] = {name: [] for name in FRONTS}
        for number in range(tracks):
            rng = np.random.default_rng([seed, place, number, 11])
            made = motion(family, rng, step_s=model.dt / RATE)
            count = len(made.time_s)
            ends = np.arange(RATE * (HISTORY - 1), count - RATE * model.horizon, RATE * EVERY)
            dense = made.recorded[ends[:, None] + np.arange(-RATE * (HISTORY - 1), 1)]
            lines = through_all(made.time_s, made.recorded, made.time_s[ends], model.dt)
            truth = at(made.time_s, made.truth, made.time_s[ends][:, None] + HORIZONS_S)
            thin = dense[:, ::RATE]
            smooth, moved = smoothed(dense, model.dt / RATE), lines.copy()
            moved[:, :, 0] += (thin[:, -1] - smooth[:, -1])[:, None]  # ends are counted from the newest place
            seen = {"thinned": (thin, None), "lines": (thin, lines), "smoother": (smooth, moved)}
            for name, (past, through) in seen.items():
                found[name].append(np.linalg.norm(answered(model, past, through) - truth, axis=-1))
        errors = {name: np.concatenate(part).mean(0) for name, part in found.items()}
        pairs = {name: (float(pair[0]), float(pair[1])) for name, pair in errors.items()}
        yield FrontRow(family, sum(map(len, found["lines"])), pairs)


def answered(model: Model, past: np.ndarray, through: np.ndarray | None) -> np.ndarray:
    """Predicted places (n, 2, D) at the horizons."""
    dims = past.shape[2]
    known, _ = fit_dims(past, model.dims, "a track")
    mean = model.forecast(known, None, fit_lines(through, model.dims)).mean.numpy()
    steps = [round(horizon / model.dt) - 1 for horizon in HORIZONS_S]
    return mean[:, steps, :dims]


def smoothed(dense: np.ndarray, step_s: float) -> np.ndarray:
    """Places (n, T, D) at every tenth of the samples (n, 10 (T - 1) + 1, D)."""
    change = np.diff(dense, 3, axis=1)
    noise = np.sqrt((change**2).mean((1, 2)) / 20) + 1e-6
    scaled = (dense - dense[:, -1:]) / noise[:, None, None]
    likely, found = [], []
    for q in CHANGES:
        kind = kalman.model(2, step_s, q, 1.0, dense.shape[2], (1e6, 1e6))
        likely.append(kalman.run(scaled, kind).loglik[:, 3:].sum(1))
        found.append(np.einsum("kt,ntd->nkd", smoother(dense.shape[1], step_s, q), scaled))
    best = np.argmax(likely, 0)
    return np.stack(found)[best, np.arange(len(dense))] * noise[:, None, None] + dense[:, -1:]


@cache
def smoother(count: int, step_s: float, q: float) -> np.ndarray:
    """(T, count): the smoother as a linear map of one axis, at every tenth sample."""
    kind = kalman.model(2, step_s, q, 1.0, 1, (1e6, 1e6))
    trace = kalman.run(np.eye(count)[:, :, None], kind)  # x (count, count - 1, 3)
    places = np.empty((count, count))
    later = trace.x[:, -1]
    places[-1] = later[:, 0]
    for t in range(count - 3, -1, -1):
        ahead = kind.F @ trace.P[t] @ kind.F.T + kind.Q
        gain = np.linalg.solve(ahead, kind.F @ trace.P[t]).T
        later = trace.x[:, t] + (later - trace.x[:, t] @ kind.F.T) @ gain.T
        places[t + 1] = later[:, 0]
    back = kalman.start(np.eye(count)[:, :1], kind)  # what the first sample says alone
    ahead = kind.F @ kind.start @ kind.F.T + kind.Q
    gain = np.linalg.solve(ahead, kind.F @ kind.start).T
    places[0] = (back + (later - back @ kind.F.T) @ gain.T)[:, 0]
    return places[::RATE]


def lines(rows: Sequence[FrontRow]) -> list[str]:
    """The table as Markdown; the best is bold."""
    told = [f"| family at 100 Hz | {' | '.join(FRONTS)} |", "| --- | --- | --- | --- |"]
    for row in rows:
        best = min(FRONTS, key=lambda name, row=row: sum(row.errors[name]))
        cells = ["{:.3f}/{:.3f}".format(*row.errors[name]) for name in FRONTS]
        cells = [f"**{cell}**" if name == best else cell for name, cell in zip(FRONTS, cells, strict=True)]
        told.append(f"| {row.family} | {' | '.join(cells)} |")
    worse = sum(sum(row.errors["smoother"]) > sum(row.errors["lines"]) for row in rows)
    return [*told, "", f"The smoother is worse than lines in {worse} of {len(rows)} families."]
