"""How a model does on each motion of `synth.motions`, beside what a ruler does.

Tracks of 12 s (turn_1hz 60 s), windows of 21 positions every 5 steps, horizons 1 and 2 s. The error is the
mean distance to the true path, `inside` the share of windows whose recorded position lies in the 90 % ball,
`radius` its mean. The aim: at 1 and at 2 s an error of at most 1.15 times that of the best simple method or
below 3 cm, and 86 to 94 % inside (more while the ball is smaller than 10 cm).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.trajectory.baselines import constant_velocity, constant_velocity_ls, ctrv
from apps.trajectory.model import Model
from apps.trajectory.predict import predict_along
from apps.trajectory.synth.motions import MOTIONS, Motion, motion
from apps.trajectory.track import Track
from core.errors import DataError

HORIZONS_S = (1.0, 2.0)
HISTORY = 21
EVERY = 5
RATIO, NEAR_M = 1.15, 0.03
HOLDS, SMALL_M = (0.86, 0.94), 0.1
MARKS = ("<!-- motions -->", "<!-- /motions -->")
"""Lines of a README between which the table stands."""


@dataclass(frozen=True)
class Row:
    """One family; every pair is at 1 and 2 s."""

    family: str
    windows: int
    errors: dict[str, tuple[float, float]]
    """cv, ls5, ls21, ctrv, model -> metres."""
    inside: tuple[float, float]
    radius: tuple[float, float]

    @property
    def best(self) -> tuple[float, float]:
        """Errors of the best simple method at each horizon."""
        simple = np.array([pair for who, pair in self.errors.items() if who != "model"])
        return float(simple[:, 0].min()), float(simple[:, 1].min())

    @property
    def near(self) -> bool:
        """Whether the error holds the aim."""
        pairs = zip(self.errors["model"], self.best, strict=True)
        return all(mine <= max(RATIO * best, NEAR_M) for mine, best in pairs)

    @property
    def held(self) -> bool:
        """Whether the ball holds the aim."""
        pairs = zip(self.inside, self.radius, strict=True)
        return all(HOLDS[0] <= share and (share <= HOLDS[1] or radius < SMALL_M) for share, radius in pairs)


def table(
    model: Model,
    *,
    tracks: int = 60,
    seed: int = 1,
    families: Sequence[str] | None = None,
    scale: float = 1.0,
) -> Iterator[Row]:
    """A row for every family.

    Args:
        scale: multiplies speeds, accelerations and sizes of the motions: how the model does off the ranges.
    """
    for family in families or MOTIONS:
        if family not in MOTIONS:
            raise DataError(f"no motion {family!r}; there are {', '.join(MOTIONS)}.")
        place = list(MOTIONS).index(family)
        drawn = [
            motion(family, np.random.default_rng([seed, place, number, 7]), scale=scale)
            for number in range(tracks)
        ]
        yield row(family, drawn, model)


def row(family: str, drawn: Sequence[Motion], model: Model) -> Row:
    """Score the tracks of one family."""
    errors: dict[str, list[np.ndarray]] = {}
    inside, radius = [], []
    for one in drawn:
        track = Track(family, family, one.time_s, None, one.recorded)
        answers = predict_along(track, model, stride=EVERY)
        ends = np.array([answer.time_s for answer in answers])
        ahead = ends[:, None] + HORIZONS_S
        kept = ahead[:, -1] <= one.time_s[-1] + 1e-6
        if not kept.any():
            continue
        ends, ahead = ends[kept], ahead[kept]
        truth, record = (at(one.time_s, values, ahead) for values in (one.truth, one.recorded))
        known = [answer for answer, is_kept in zip(answers, kept, strict=True) if is_kept]
        mine = np.stack([along(answer.ahead_s, answer.anchor, answer.mean) for answer in known])
        balls = np.stack(
            [
                np.interp(HORIZONS_S, answer.ahead_s, answer.radius)
                for answer in known
                if answer.radius is not None
            ]
        )
        found = {**simple(one, ends), "model": mine}
        for who, places in found.items():
            errors.setdefault(who, []).append(np.linalg.norm(places - truth, axis=-1))
        inside.append(np.linalg.norm(mine - record, axis=-1) <= balls)
        radius.append(balls)
    pair = {who: mean(values) for who, values in errors.items()}
    return Row(family, sum(map(len, inside)), pair, mean(inside), mean(radius))


def mean(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean over the windows, at 1 and 2 s."""
    found = np.concatenate(values).mean(0)
    return float(found[0]), float(found[1])


def at(time_s: np.ndarray, values: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Values (N, D) at moments (...): (..., D), straight between samples."""
    return np.stack([np.interp(moments, time_s, axis) for axis in values.T], -1)


def along(ahead_s: np.ndarray, anchor: np.ndarray, path: np.ndarray) -> np.ndarray:
    """The predicted positions at the horizons, (2, D)."""
    return at(np.concatenate([[0.0], ahead_s]), np.vstack([anchor, path]), np.array(HORIZONS_S))


def simple(one: Motion, ends: np.ndarray) -> dict[str, np.ndarray]:
    """What the simple methods say at times `ends`, (n, 2, D) each.

    Above 10 Hz the lines take all samples of 0.4 and 2 s, the others every 0.1 s; below, all what is there.
    """
    step = max(0.1, one.step_s)
    thin = round(step / one.step_s)
    last = np.round((ends - one.time_s[0]) / one.step_s).astype(int)
    past = one.recorded[last[:, None] + thin * np.arange(1 - HISTORY, 1)]
    steps = [round(horizon / step) for horizon in HORIZONS_S]
    found = {
        "cv": constant_velocity(past, step, max(steps))[:, np.array(steps) - 1],
        "ls5": constant_velocity_ls(past, step, max(steps))[:, np.array(steps) - 1],
        "ctrv": ctrv(past, step, max(steps))[:, np.array(steps) - 1],
    }
    for name, span in (("ls5", 4), ("ls21", HISTORY - 1)):
        if name in found and thin == 1:
            continue
        dense = one.recorded[last[:, None] + np.arange(-span * thin, 1)]
        k = one.step_s * np.arange(-span * thin, 1)
        slope = np.einsum("t,ntd->nd", k - k.mean(), dense) / ((k - k.mean()) ** 2).sum()
        end = dense.mean(1) - slope * k.mean()
        found[name] = end[:, None] + slope[:, None] * np.array(HORIZONS_S)[:, None]
    return found


def lines(rows: Sequence[Row]) -> list[str]:
    """The table as Markdown; the best simple method is bold."""
    told = [
        "| family | cv | ls5 | ls21 | ctrv | model | in 90 % ball, % | radius |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        best = min(("cv", "ls5", "ls21", "ctrv"), key=lambda who, row=row: sum(row.errors[who]))
        cells = [
            f"**{text(row.errors[who])}**" if who == best else text(row.errors[who])
            for who in ("cv", "ls5", "ls21", "ctrv", "model")
        ]
        shares = "/".join(f"{100 * share:.0f}" for share in row.inside)
        told.append(f"| {row.family} | {' | '.join(cells)} | {shares} | {text(row.radius)} |")
    near, held = sum(row.near for row in rows), sum(row.held for row in rows)
    return [*told, "", f"{near} of {len(rows)} families hold the aim by error, {held} by coverage."]


def text(pair: tuple[float, float]) -> str:
    return "/".join(f"{value:.2f}" if value < 99.5 else f"{value:.0f}" for value in pair)


def write_into(path: Path, told: Sequence[str]) -> None:
    """Put the table between its marks in a README.

    Raises:
        DataError: the file has no such marks.
    """
    before = path.read_text(encoding="utf-8")
    pattern = re.compile(f"(?s){MARKS[0]}.*?{MARKS[1]}")
    if not pattern.search(before):
        raise DataError(f"{path}: no lines {MARKS[0]} and {MARKS[1]} to put the table between.")
    body = "\n".join([MARKS[0], "", *told, "", MARKS[1]])
    path.write_text(pattern.sub(lambda _: body, before), encoding="utf-8")
