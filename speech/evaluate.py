"""Score a model on pairs: one code path for the command, tests and the page.

    report = evaluate("enhance", "pairs.csv")       # columns noisy,clean
    report = evaluate("separate", "mixes.csv")      # columns mix,s1,s2

Every item is scored as the files that `enhance` and `separate` write would be. Figures are means over the
items that can be scored; the others are counted.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError, RecurraError
from core.metrics.bootstrap import mean_interval
from core.tables import IndexRow, read_index
from core.terminal import watched
from speech import metrics
from speech.audio import read_sound
from speech.baselines import RATE, ideal_mask, wiener
from speech.model import Model, load_model
from speech.peers import peers
from speech.predict import enhance, separate

COLUMNS = {"enhance": ("noisy", "clean"), "separate": ("mix", "s1", "s2")}
GROUPS = {"enhance": "kind", "separate": "genders"}
"""Column by which figures are also given apart, where the index has it."""
FIGURES = {"enhance": ("si_sdr", "pesq_wb", "stoi"), "separate": ("si_sdr", "si_sdri", "pesq_wb", "stoi")}
Scores = dict[str, float]


def evaluate(
    task: str,
    index: str | Path,
    weights: str | Path | Model | None = None,
    *,
    device: str = "cpu",
    with_peers: bool = False,
    keep_clean: bool = False,
    voices: bool = False,
    group: str | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> dict[str, Any]:
    """The report of `evaluate --json`.

    Args:
        with_peers: also published and installed methods (GTCRN, RNNoise) as baselines.
        keep_clean: also `kept`: what the model does to the clean files themselves, each once.
        voices: the column `voice` names a clip of the wanted talker, which the network is turned by.
        group: column to report apart; `kind` or `genders` where there is one.
        seed: of the drawing of talkers or clips for the intervals.

    Raises:
        ConfigError: no such task. DataError: the index cannot be read, or nothing in it can be scored.
    """
    if task not in COLUMNS:
        raise ConfigError(f"a task is one of {', '.join(COLUMNS)}; got {task!r}.")
    if voices and task != "enhance":
        raise ConfigError("a voice is kept by enhancement; separation hears all talkers.")
    needed = [*COLUMNS[task], *(["voice"] if voices else []), *([group] if group else [])]
    rows = read_index(index, needed, optional=("speaker", GROUPS[task]))
    kind = "voice" if voices else task
    model = weights if isinstance(weights, Model) else load_model(weights, kind, device)
    others = peers(device) if with_peers and task == "enhance" else {}
    score = Enhancement(model, device, others, voices) if task == "enhance" else Separation(model, device)
    items: list[dict[str, Any]] = []
    began = time.monotonic()
    for row in watched(rows, "clips", quiet=quiet):
        item: dict[str, Any] = {name: row.values[name] for name in row.values if len(row.values[name]) < 200}
        try:
            item["scores"] = score(row)
        except RecurraError as error:
            item["error"] = str(error)
        items.append(item)
    if not any("scores" in item for item in items):
        raise DataError(f"{index}: nothing in it could be scored; {items[0]['error']}")
    column = group or GROUPS[task]
    report = summary(items, FIGURES[task], seed)
    kinds = dict.fromkeys(pair_kind(task, item.get(column, "")) for item in items)
    if len(kinds) > 1 and any(kinds):
        report["groups"] = {
            kind: summary(
                [i for i in items if pair_kind(task, i.get(column, "")) == kind], FIGURES[task], seed
            )
            for kind in kinds
        }
    if keep_clean and task == "enhance":
        report["kept"] = kept_clean(rows, model, device, voices)
    report["items"] = [flattened(item) for item in items]
    report["protocol"] = {
        "task": task,
        "index": str(index),
        "weights": model.name,
        "trained_on": device_of(model),
        "figures": "SI-SDR in dB with means removed; PESQ-wb at 16 kHz; STOI; means over scored items",
        "seconds": round(time.monotonic() - began, 1),
    }
    return report


def kept_clean(rows: Sequence[IndexRow], model: Model, device: str, voices: bool = False) -> dict[str, Any]:
    """Means over the different clean files of an index, each through the model: do no harm."""
    scores, seen = [], set()
    for row in rows:
        path = row.file("clean")
        if path in seen:
            continue
        seen.add(path)
        try:
            wave, rate = mono(row, "clean")
        except RecurraError:
            continue
        voice = row.file("voice") if voices else None
        estimate = enhance(wave, rate, weights=model, voice=voice, device=device)
        scores.append(metrics.every(estimate, wave, rate))
    return {"n": len(scores), **metrics.mean(scores)}


def pair_kind(task: str, text: str) -> str:
    """What a group is called; the order of two talkers says nothing."""
    return "".join(sorted(text)) if task == "separate" and len(text) <= 4 else text


def device_of(model: Model) -> str:
    """Where a model was trained, as its card says."""
    return str(model.card.extra.get("about", {}).get("trained_on", "unknown"))


class Enhancement:
    """Scores of one pair: the model, the input, the Wiener filter, and peers."""

    def __init__(
        self,
        model: Model,
        device: str,
        others: Mapping[str, Callable[..., np.ndarray]],
        voices: bool = False,
    ) -> None:
        self.model, self.device, self.others, self.voices = model, device, others, voices

    def __call__(self, row: IndexRow) -> dict[str, Scores]:
        (noisy, rate), (clean, other) = (mono(row, name) for name in ("noisy", "clean"))
        if rate != other or len(noisy) != len(clean):
            raise row.wrong("clean", f"{len(clean)} samples at {other} Hz beside {len(noisy)} at {rate} Hz.")
        voice = row.file("voice") if self.voices else None
        estimate = enhance(noisy, rate, weights=self.model, voice=voice, device=self.device)
        found = {
            "model": metrics.every(estimate, clean, rate),
            "unprocessed": metrics.every(noisy, clean, rate),
        }
        for name, alpha in (("wiener", 0.98), ("wiener_092", 0.92)):
            filtered = at_rate(lambda wave, alpha=alpha: wiener(wave, alpha), noisy, rate)
            found[name] = metrics.every(filtered, clean, rate)
        for name, peer in self.others.items():
            found[name] = metrics.every(peer(noisy, rate), clean, rate)
        return found


class Separation:
    """Scores of one mixture: the model, the mixture itself, and the ideal mask."""

    def __init__(self, model: Model, device: str) -> None:
        self.model, self.device = model, device

    def __call__(self, row: IndexRow) -> dict[str, Scores]:
        names = [name for name in row.values if name[0] == "s" and name[1:].isdigit() and row.values[name]]
        mixture, rate = mono(row, "mix")
        sources = []
        for name in names:
            wave, other = mono(row, name)
            if other != rate or len(wave) != len(mixture):
                raise row.wrong(name, f"{len(wave)} samples at {other} Hz, the mixture has {len(mixture)}.")
            sources.append(wave)
        tracks = separate(mixture, rate, weights=self.model, device=self.device)
        ideal = ideal_mask(mixture, sources)
        return {
            "model": metrics.separated(tracks, sources, mixture, rate),
            "unprocessed": metrics.separated([mixture] * len(sources), sources, mixture, rate),
            "ideal_mask": metrics.separated(ideal, sources, mixture, rate),
        }


def mono(row: IndexRow, column: str) -> tuple[np.ndarray, int]:
    """A recording named in a row, its channels averaged."""
    wave, rate = read_sound(row.file(column))
    return wave.mean(1), rate


def at_rate(method: Callable[[np.ndarray], np.ndarray], wave: np.ndarray, rate: int) -> np.ndarray:
    """A method for 16 kHz on a wave of any rate."""
    if rate == RATE:
        return method(wave)
    low = metrics.resampled(np.asarray(wave, np.float64), rate, RATE)
    back = metrics.resampled(method(low), RATE, rate)
    return np.pad(back, (0, max(0, len(wave) - len(back))))[: len(wave)]


def summary(items: Sequence[Mapping[str, Any]], figures: Sequence[str], seed: int) -> dict[str, Any]:
    """n, means with intervals of the model, means of the baselines, over items that have scores."""
    scored = [item["scores"] for item in items if "scores" in item]
    methods = list(dict.fromkeys(name for scores in scored for name in scores))
    means = {name: metrics.mean([scores[name] for scores in scored]) for name in methods}
    speakers = [item.get("speaker") or item.get("s1_speaker") for item in items if "scores" in item]
    groups = speakers if all(speakers) and len(set(speakers)) > 1 else None
    ours = means.pop("model", {})
    for figure in figures:
        values = [scores["model"][figure] for scores in scored]
        if len(values) > 1 and sum(math.isfinite(value) for value in values) > 1:
            interval = mean_interval(values, groups, seed=seed).as_dict(figure)
            ours |= {key: value for key, value in interval.items() if key != figure}
    return {"n": len(items), "scored": len(scored), "model": ours, "baselines": means}


def flattened(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item for the report: its row, the model's figures, those of the baselines."""
    scores = dict(item.get("scores", {}))
    rest = {key: value for key, value in item.items() if key != "scores"}
    return {**rest, **scores.pop("model", {}), **({"baselines": scores} if scores else {})}
