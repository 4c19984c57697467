"""Letters from the IMU of a pen (accelerometer and gyroscope, 10 ms): tables, training, reading.

A table has columns t, ax, ay, az, gx, gy, gz, label, writer; a new sequence begins where t falls or the
label or writer changes. The paper trains with RMSprop and cross entropy; so does this.
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError, DataError
from core.files import read_bytes
from core.training import Outcome
from core.training import train as run_loop
from core.training.batches import ShuffledBatches
from core.training.options import LoopOptions
from core.weights import Card
from vision.ocr.pen.model import LetterNetwork
from vision.ocr.pen.strokes import LIMIT
from vision.ocr.pen.train import letter_step

CHANNELS = ("ax", "ay", "az", "gx", "gy", "gz")


@dataclass(frozen=True)
class Motion:
    """One letter: values (T, 6), which letter, and whose."""

    values: np.ndarray
    label: str
    writer: str = ""


@dataclass(frozen=True)
class LetterConfig:
    """Settings of a letter classifier."""

    seed: int = 0
    unit: str = "lstm"
    hidden: int = 64
    layers: int = 2
    batch: int = 32
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=12, lr=2e-3, optimizer="rmsprop", weight_decay=0.0, warmup=0.05
        )
    )


def read_motions(path: str | Path) -> list[Motion]:
    """Sequences of a table.

    Raises:
        DataError: missing, not a table, a column is missing, or a value is no number.
    """
    path = Path(path)
    try:
        text = read_bytes(path, LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start}).") from error
    rows = csv.DictReader(text.splitlines())
    missing = [name for name in ("t", *CHANNELS, "label") if name not in (rows.fieldnames or [])]
    if missing:
        raise DataError(f"{path}: no column {' and '.join(missing)}.")
    found: list[Motion] = []
    values: list[list[float]] = []
    last: tuple[float, str, str] | None = None
    for number, row in enumerate(rows, 2):
        try:
            now = float(row["t"])
            value = [float(row[name]) for name in CHANNELS]
        except (TypeError, ValueError):
            raise DataError(f"{path} line {number}: expected numbers in t, {', '.join(CHANNELS)}.") from None
        if not np.isfinite([now, *value]).all():
            raise DataError(f"{path} line {number}: numbers must be finite.")
        owner = (row.get("label") or "", row.get("writer") or "")
        if last is not None and (now <= last[0] or owner != last[1:]):
            found.append(Motion(np.array(values), *last[1:]))
            values = []
        values.append(value)
        last = (now, *owner)
    if last is None:
        raise DataError(f"{path}: the table has no rows.")
    return [*found, Motion(np.array(values), *last[1:])]


class MakeMotions:
    """Rows -> (B, T, 6), lengths, labels."""

    def __init__(self, motions: Sequence[Motion], letters: Sequence[str]) -> None:
        self.values = [torch.from_numpy(motion.values).float() for motion in motions]
        self.labels = torch.tensor([list(letters).index(motion.label) for motion in motions])

    def __call__(self, rows: Any, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = [int(row) for row in rows]
        parts = [self.values[i] for i in chosen]
        lengths = torch.tensor([len(part) for part in parts])
        return nn.utils.rnn.pad_sequence(parts, batch_first=True), lengths, self.labels[chosen]


def train_letters(
    config: LetterConfig,
    out: str | Path,
    motions: Sequence[Motion],
    checked: Sequence[Motion],
    *,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train a classifier of letters into `out`; `checked` come from other writers, or are held back.

    Raises:
        ConfigError: fewer than two letters, or one in `checked` that training lacks.
    """
    letters = sorted({motion.label for motion in motions})
    if len(letters) < 2 or not {motion.label for motion in checked} <= set(letters):
        raise ConfigError("letters: two or more to learn, and none in validation that is not among them.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = LetterNetwork(len(letters), config.unit, config.hidden, config.layers)
    make = MakeMotions(motions, letters)
    model.fit(make.values)
    check = MakeMotions(checked, letters)

    @torch.no_grad()
    def validate(network: nn.Module) -> dict[str, float]:
        x, lengths, labels = check(range(len(checked)), torch.Generator())
        return {"wrong": float((network(x, lengths).argmax(1) != labels).float().mean())}

    return run_loop(
        model,
        letter_step,
        ShuffledBatches(len(motions), config.batch, make, config.seed),
        config.loop,
        out,
        validate=validate,
        score="wrong",
        settings=asdict(config),
        seed=config.seed,
        card=Card("ocr letters", config.unit, f"{len(motions)} motions", "none", extra={"letters": letters}),
        resume=resume,
        quiet=quiet,
    )


def build_letters(card: Card) -> nn.Module:
    """The network of a card."""
    config = card.settings
    return LetterNetwork(len(card.extra["letters"]), config["unit"], config["hidden"], config["layers"])
