"""Has the world moved? Log likelihood per step of a log, period by period, against its own running interval.

The first periods say what is usual: mean and spread over them with forgetting. A period that falls below the
interval raises the alarm, is not learned from, and names the groups whose steps lost most.
"""

from typing import Any

import numpy as np
import torch

from recsys.features import steps_of
from recsys.metrics import taken
from recsys.model import SlateModel
from recsys.slates import FIRST, Slates

DAY_S = 86_400.0
FIRST_PERIODS = 3
"""Periods that say what is usual before anything can be unusual."""
DEVIATIONS = 4.0
MEMORY = 0.9
"""Weight of the past in the running mean and spread."""
PERIODS = 20
"""Of a log without times: equal parts in the order of its users."""
PIECE = 1000


def drift(model: SlateModel, slates: Slates, deviations: float = DEVIATIONS) -> dict[str, Any]:
    """Periods of a log with their log likelihood, the interval they were expected in, and the alarms."""
    each, weight, period, group = [], [], [], []
    names = periods_of(slates)
    known = torch.from_numpy(model.catalogue.group)
    with torch.inference_mode():
        for start in range(0, len(slates), PIECE):
            part = slice(start, start + PIECE)
            steps = steps_of(slates, part)
            each.append(taken(model.judge(steps), steps).numpy())
            weight.append(steps.counted.numpy())
            period.append(names[part])
            shown = steps.slate[..., 1] if steps.slate.shape[-1] > 1 else steps.slate[..., 0]
            first = torch.where(steps.click >= FIRST, steps.click, shown)
            group.append(known[first].numpy())
    value, counted, when, of = (np.concatenate(parts) for parts in (each, weight, period, group))
    value, when, of = value[counted], when[counted], of[counted]
    labels = sorted(set(when.tolist()))
    rows: list[dict[str, Any]] = []
    mean = spread = None
    seen: list[float] = []
    usual = np.zeros(0, bool)
    for label in labels:
        here = when == label
        figure = float(value[here].mean())
        noise = float(value[here].std() / max(here.sum(), 1) ** 0.5)
        row: dict[str, Any] = {"period": label, "steps": int(here.sum()), "loglik": figure, "alarm": False}
        if mean is not None and spread is not None and len(seen) >= FIRST_PERIODS:
            width = deviations * max(spread, noise)
            row |= {"low": mean - width, "high": mean + width, "alarm": bool(figure < mean - width)}
            if row["alarm"]:
                row["groups"] = fallen(value, of, here, usual)
        if not row["alarm"]:
            usual = here if not len(usual) else usual | here
            seen.append(figure)
            before = figure if mean is None else mean
            mean = figure if mean is None else MEMORY * mean + (1 - MEMORY) * figure
            gap = abs(figure - before)
            spread = noise if spread is None else (MEMORY * spread**2 + (1 - MEMORY) * gap**2) ** 0.5
        rows.append(row)
    alarms = [row["period"] for row in rows if row["alarm"]]
    return {"periods": rows, "alarms": alarms}


def periods_of(slates: Slates) -> np.ndarray:
    """(U, T) text: the day of every step, or a part of the users where the log has no times."""
    shape = slates.slate.shape[:2]
    if slates.time is None:
        part = np.arange(len(slates)) * PERIODS // max(len(slates), 1)
        return np.repeat(np.char.add("part ", np.char.zfill(part.astype(str), 2))[:, None], shape[1], 1)
    seconds = np.asarray(slates.time, np.float64)
    days = np.floor(np.nan_to_num(seconds) / DAY_S).astype("datetime64[D]")
    return days.astype(str)


def fallen(
    value: np.ndarray, of: np.ndarray, here: np.ndarray, usual: np.ndarray, most: int = 3
) -> list[Any]:
    """Groups whose steps lost most against the usual periods, by what they cost the mean."""
    costs = []
    for group in np.unique(of[here]):
        now, then = value[here & (of == group)], value[usual & (of == group)]
        base = then.mean() if len(then) else value[usual].mean()
        costs.append((float((now - base).sum() / here.sum()), int(group)))
    return [{"group": group, "loss": cost} for cost, group in sorted(costs)[:most]]


def lines(answer: dict[str, Any]) -> list[str]:
    """For people."""
    out = []
    for row in answer["periods"]:
        if row["alarm"]:
            where = ", ".join(f"{one['group']} ({one['loss']:+.3f})" for one in row["groups"])
            out.append(
                f"drift: {row['period']}: {row['loglik']:.3f} per step, expected {row['low']:.3f} or more; "
                f"groups {where}"
            )
    return out or [f"no drift in {len(answer['periods'])} periods"]
