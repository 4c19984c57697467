"""`recurra ocr study`: the same short training with one thing changed, and what came of it, in a table.

units: the recurrent unit. shares: how much of the training lines the generator writes; 100 trains on them
alone. Every row has as many steps, the same seed, lines and validation.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.config import replace
from core.errors import ConfigError
from core.report import number, percent, table
from core.training.folder import STATE
from core.training.log import METRICS, read_rows
from core.training.run import WEIGHTS
from core.weights import UNFINISHED, load
from vision.ocr.config import TrainConfig, defaults
from vision.ocr.data import read_samples
from vision.ocr.reader import load_reader
from vision.ocr.training import split, train

UNITS = ("lstm", "gru", "min_gru", "hgrn", "mamba2", "gated_delta_net", "rwkv7", "plstm")
SHARES = (0, 25, 50, 100)
TIMED = 24
"""Lines that are read for the speed."""


@dataclass(frozen=True)
class StudyRow:
    """One training of a study."""

    name: str
    cer: float
    seconds_a_step: float
    lines_a_second: float

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


def study(
    what: str,
    data: Sequence[str | Path],
    out: Path,
    *,
    names: Sequence[str] = (),
    steps: int = 1500,
    config: TrainConfig | None = None,
    device: Any = "cpu",
    quiet: bool = False,
) -> list[StudyRow]:
    """Train every variant into a folder of its own below `out`; one that is done is not trained again.

    Raises:
        ConfigError: no such study, or no validation lines.
    """
    if what not in ("units", "shares"):
        raise ConfigError(f"no study {what!r}; there are units, shares.")
    base = replace(defaults("lines") if config is None else config, {"loop": {"max_steps": steps}})
    learned, checked = split(read_samples(data), base)
    if not checked:
        raise ConfigError("there are no lines to validate on.")
    rows = []
    for name in names or (UNITS if what == "units" else tuple(str(share) for share in SHARES)):
        own = with_unit(base, name) if what == "units" else with_share(base, name, len(learned))
        run = out / f"{what}-{name}"
        if not done(run):
            train(own, run, data, device=device, quiet=quiet, resume=(run / STATE).is_file())
        card = load(run / WEIGHTS)[1]
        rows.append(StudyRow(name, card.score["cer"], seconds_a_step(run), speed(run, checked)))
    return rows


def seconds_a_step(run: Path) -> float:
    """Of a run's epochs the median, validation included; NaN where there was one epoch."""
    told = [(float(row["seconds"]), float(row["step"])) for row in read_rows(run / METRICS)]
    took = [(b - a) / (m - n) for (a, n), (b, m) in pairwise(told) if m > n]
    return float(np.median(took)) if took else float("nan")


def done(run: Path) -> bool:
    """Whether a run has weights that are not those of a run that goes on."""
    weights = run / WEIGHTS
    return weights.is_file() and UNFINISHED not in load(weights)[1].extra


def with_unit(config: TrainConfig, name: str) -> TrainConfig:
    """The settings with another unit."""
    return replace(config, {"model": {"unit": name}, "loop": {"epochs": 1000}})


def with_share(config: TrainConfig, name: str, real: int) -> TrainConfig:
    """The settings with so many percent generated lines.

    Raises:
        ConfigError: no share.
    """
    try:
        share = int(name) / 100
    except ValueError:
        raise ConfigError(f"shares are percents such as 0, 25 or 100; got {name!r}.") from None
    if not 0 <= share <= 1:
        raise ConfigError(f"shares are percents in 0..100, got {name}.")
    made = real if share == 1 else round(real * share / (1 - share))
    about = {"generated": made, "real_share": 0.0 if share == 1 else 0.5}
    return replace(config, {"data": about, "loop": {"epochs": 1000}})


def speed(run: Path, samples: Sequence[Any]) -> float:
    """Lines a second of the network, one by one, on one thread."""
    reader = load_reader(run, "lines", lm=False)
    greys = [sample.grey() for sample in samples[:TIMED]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        reader.log_probabilities(greys[:2])
        began = time.perf_counter()
        for grey in greys:
            reader.log_probabilities([grey])
        return len(greys) / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)


def shown(what: str, rows: Sequence[StudyRow]) -> list[str]:
    """The table for people."""
    head = ["unit" if what == "units" else "generated %", "validation CER", "s a step", "lines a s"]
    cells = [
        [row.name, percent(row.cer), number(row.seconds_a_step, 3), number(row.lines_a_second, 1)]
        for row in rows
    ]
    return table(head, cells, left=1)
