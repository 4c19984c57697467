"""Five-fold figures: every user is scored by weights that never saw them, every user model at equal CPU time.

    network   ours (models/interest.py)              filter    the particle filter, started from the network
    pair      both asked together
    flat      ours without groups                    gru, linear, lingru, markov   the paper's, in stages
    joint     the paper's gru without stages         <unit>    ours with another unit of core

Each part of the work is a run folder of its own, so an interrupted protocol goes on where it was, and several
processes may share the folds.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import registry
from core.config import replace as changed
from core.errors import ConfigError
from core.files import write_text
from core.metrics.bootstrap import mean_interval, ratio_interval
from core.training.run import WEIGHTS
from recsys.config import FilterRun, PaperRun, SlateConfig
from recsys.data import folds
from recsys.evaluation import evaluate
from recsys.model import load_model
from recsys.slates import Slates
from recsys.train_pair import joined

MODELS = ("network", "filter", "pair", "flat", "linear", "gru", "lingru", "markov", "joint")
FOLDS = 5


def protocol(
    slates: Slates,
    out: str | Path,
    models: Sequence[str] = ("network", "filter", "flat", "linear", "gru"),
    *,
    parts: Sequence[int] = tuple(range(FOLDS)),
    quick: float = 1.0,
    seconds: float | None = None,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Train and score the models on these folds into `out`; figures over all folds that are there.

    Args:
        quick: share of the passes of a full training, for rehearsals.
        seconds: CPU seconds that every model learns for, in place of its passes; the filter's network has as
            many before it.
        settings: of `SlateConfig`, for the models that are ours and no filter.
        device: where all but the filter learn.

    Raises:
        ConfigError: an unknown model.
    """
    for name in models:
        if name not in MODELS:
            try:
                registry.find(name)
            except ConfigError as error:
                raise ConfigError(f"no model {name!r}: {', '.join(MODELS)}, or a unit. {error}") from error
    out = Path(out)
    dealt = folds(len(slates), FOLDS, seed)
    for name in models:
        for part in parts:
            learned = np.concatenate([fold for number, fold in enumerate(dealt) if number != part])
            figures = out / f"{name}-{part}.json"
            if not figures.is_file():
                run = out / f"{name}-{part}"
                begin = out / f"network-{part}"
                train_one(name, slates, np.sort(learned), run, begin, quick, seconds, settings, device)
                report = evaluate(load_model(str(run)), [slates.rows(np.sort(dealt[part]))])
                write_text(figures, json.dumps(report))
            if progress is not None:
                report = json.loads(figures.read_text(encoding="utf-8"))
                row = report["model"]
                progress(f"{name}, fold {part}: {row['loglik']:.4f} / {row['hits@20']:.3f}")
    return gathered(out)


def train_one(
    name: str,
    slates: Slates,
    users: np.ndarray,
    run: Path,
    start: Path,
    quick: float,
    seconds: float | None = None,
    settings: dict[str, Any] | None = None,
    device: torch.device | None = None,
) -> None:
    """One model on one fold's users."""
    from recsys.train import train

    resume = (run / "last").is_dir()
    if run.exists() and not resume:
        shutil.rmtree(run)

    def shorter(config: Any) -> Any:
        passes = max(1, round(config.loop.epochs * quick))
        return replace(config, loop=replace(config.loop, epochs=passes), seconds=seconds)

    if name == "filter":
        if not (start / "card.md").is_file():
            train_one("network", slates, users, start, start, quick, seconds, settings, device)
        train(slates, run, shorter(FilterRun()), start=start, users=users, resume=resume, quiet=True)
        return
    if name == "pair":
        other = start.with_name(start.name.replace("network", "filter"))
        if not (other / "card.md").is_file():
            train_one("filter", slates, users, other, start, quick, seconds, settings, device)
        run.mkdir(parents=True, exist_ok=True)
        joined(start, other, run / WEIGHTS)
        return
    ours = changed(SlateConfig(), settings or {})
    if name in ("network", "flat"):
        config: Any = changed(ours, {"model": {"groups": name != "flat"}})
    elif name in ("linear", "gru", "lingru", "markov", "joint"):
        user = "gru" if name == "joint" else name
        config = changed(PaperRun(), {"model": {"user": user}, "staged": name != "joint"})
    else:
        config = changed(ours, {"model": {"unit": name}})
    train(slates, run, shorter(config), users=users, device=device, resume=resume, quiet=True)


def gathered(out: str | Path) -> dict[str, Any]:
    """Figures over all folds in a folder: per model, and paired with the first one."""
    reports: dict[str, dict[int, Any]] = {}
    for path in sorted(Path(out).glob("*-[0-9].json")):
        name, _, part = path.stem.rpartition("-")
        reports.setdefault(name, {})[int(part)] = json.loads(path.read_text(encoding="utf-8"))
    if not reports:
        raise ConfigError(f"{out}: no finished fold in it.")
    rows: dict[str, Any] = {}
    order = sorted(reports, key=lambda name: MODELS.index(name) if name in MODELS else len(MODELS))
    for name in order:
        rows[name] = row_of(reports[name])
    first = order[0]
    for name in order[1:]:
        shared = sorted(set(reports[name]) & set(reports[first]))
        if shared:
            rows[name] |= paired(reports[first], reports[name], shared)
    baselines: dict[str, Any] = {}
    for name in reports[first][min(reports[first])]["baselines"]:
        values = [(report["n"], report["baselines"][name]) for report in reports[first].values()]
        total = sum(number for number, _ in values)
        keys = [key for key, value in values[0][1].items() if value is not None]
        baselines[name] = {key: sum(n * row[key] for n, row in values) / total for key in keys}
    return {
        "n": sum(report["n"] for report in reports[first].values()),
        "folds": sorted(reports[first]),
        "models": rows,
        "baselines": baselines,
        "protocol": next(iter(reports[first].values()))["protocol"],
    }


def columns(report: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of log likelihoods, steps and hits of every user."""
    items = report["items"]
    steps = np.array([row["steps"] for row in items], float)
    total = np.array([(row["loglik"] or 0.0) * row["steps"] for row in items])
    return total, steps, np.array([row["hits@20"] for row in items], float)


def row_of(reports: dict[int, Any]) -> dict[str, Any]:
    """Figures of one model with intervals over users."""
    total, steps, hits = (
        np.concatenate(parts) for parts in zip(*map(columns, reports.values()), strict=True)
    )
    ece = [report["model"]["calibration"]["no_click"]["ece"] for report in reports.values()]
    return {
        **ratio_interval(total, steps).as_dict("loglik"),
        **mean_interval(hits).as_dict("hits@20"),
        "ece_no_click": float(np.mean(ece)),
        "n": len(hits),
        "folds": len(reports),
    }


def paired(base: dict[int, Any], other: dict[int, Any], shared: list[int]) -> dict[str, Any]:
    """Differences to the first model on the users that both have scored."""
    gaps, steps, hits = [], [], []
    for part in shared:
        ours, theirs = columns(base[part]), columns(other[part])
        gaps.append(theirs[0] - ours[0])
        steps.append(ours[1])
        hits.append(theirs[2] - ours[2])
    loglik = ratio_interval(np.concatenate(gaps), np.concatenate(steps))
    return {**loglik.as_dict("loglik_gap"), **mean_interval(np.concatenate(hits)).as_dict("hits_gap")}


def lines(answer: dict[str, Any]) -> list[str]:
    """The table for people."""
    out = [f"{answer['n']} users in folds {answer['folds']}, each scored by weights that never saw them"]
    out.append(f"{'':<14} {'log likelihood':>26}  {'hits@20':>22}  ECE    gap to the first row")
    for name, row in answer["models"].items():
        words = [
            f"{row['loglik']:.4f} [{row['loglik_low']:.4f}, {row['loglik_high']:.4f}]",
            f"{row['hits@20']:.4f} [{row['hits@20_low']:.3f}, {row['hits@20_high']:.3f}]",
        ]
        gap = ""
        if "loglik_gap" in row:
            gap = (
                f"{row['loglik_gap']:+.4f} [{row['loglik_gap_low']:+.4f}, {row['loglik_gap_high']:+.4f}], "
                f"hits {row['hits_gap']:+.3f} [{row['hits_gap_low']:+.3f}, {row['hits_gap_high']:+.3f}]"
            )
        part = "" if row["folds"] == len(answer["folds"]) else f" ({row['folds']} folds)"
        out.append(f"{name + part:<14} {words[0]:>26}  {words[1]:>22}  {row['ece_no_click']:.3f}  {gap}")
    for name, row in answer["baselines"].items():
        cells = [f"{row[key]:.4f}" if key in row else "-" for key in ("loglik", "hits@20")]
        out.append(f"{name:<14} {cells[0]:>26}  {cells[1]:>22}")
    return out
