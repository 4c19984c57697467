"""`recurra ocr train pen` and its letters: on stroke files, on IMU tables, or on the generator."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import replace
from core.ctc.greedy import greedy
from core.ctc.loss import ctc_loss, frames_needed
from core.errors import ConfigError, DataError
from core.metrics.edit_distance import error_rates
from core.training import Outcome
from core.training import train as run_loop
from core.training.buckets import BucketedBatches
from core.training.options import LoopOptions
from core.weights import Card
from vision.ocr.codec import Codec, clean
from vision.ocr.pen.model import PenNetwork
from vision.ocr.pen.strokes import Ink, read_ink, steps_of
from vision.ocr.pen.synth import inks
from vision.ocr.synth.alphabet import glyphs

VALIDATED = 100


@dataclass(frozen=True)
class PenConfig:
    """Settings of a pen's training."""

    seed: int = 0
    unit: str = "lstm"
    hidden: int = 160
    layers: int = 2
    generated: int = 4000
    longest: int = 20  # characters of a generated ink, about
    budget: int = 6000  # steps of a batch
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(epochs=12, lr=3e-3, weight_decay=1e-4, warmup=0.1, clip=1.0)
    )

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1 or self.budget < 100 or self.generated < 0:
            raise ConfigError("hidden, layers must be positive, budget 100 or more, generated not negative.")


class MakeInks:
    """Rows -> padded steps (B, T, F), targets (B, L), lengths of both."""

    def __init__(self, steps: list[np.ndarray], labels: list[list[int]]) -> None:
        self.steps, self.labels = steps, labels

    def __call__(self, rows: Any, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen = [int(row) for row in rows]
        lengths = torch.tensor([len(self.steps[i]) for i in chosen])
        counts = torch.tensor([len(self.labels[i]) for i in chosen])
        x = torch.zeros(len(chosen), int(lengths.max()), self.steps[0].shape[1])
        targets = torch.zeros(len(chosen), max(1, int(counts.max())), dtype=torch.long)
        for row, i in enumerate(chosen):
            x[row, : lengths[row]] = torch.from_numpy(self.steps[i])
            targets[row, : counts[row]] = torch.tensor(self.labels[i])
        return x, targets, lengths, counts


def step(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """CTC per character."""
    x, targets, lengths, counts = batch
    logits = network(x)[0].transpose(0, 1)
    found = ctc_loss(logits, targets, lengths.cpu(), counts.cpu())
    return {"loss": found.loss.sum() / counts.sum().clamp(min=1), "impossible": found.impossible}


class PenValidation:
    """Error rates of the greedy reading of inks."""

    def __init__(self, steps: list[np.ndarray], texts: list[str], codec: Codec) -> None:
        self.steps, self.texts, self.codec = steps, texts, codec

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        answers = []
        for part in self.steps:
            logits = model(torch.from_numpy(part)[None].to(device))[0][0]
            labels = greedy(logits.log_softmax(-1).cpu().numpy()).labels.tolist()
            answers.append(clean(self.codec.decode(labels)))
        rates = error_rates(self.texts, answers)
        return {"cer": rates.cer, "wrong": 1 - rates.string_accuracy}


def build_from(card: Card) -> nn.Module:
    """The network of a card."""
    config = replace(PenConfig(), card.settings)
    return PenNetwork(Codec.from_dict(card.extra["codec"]).size, config.unit, config.hidden, config.layers)


def read_inks(data: Sequence[str | Path]) -> list[Ink]:
    """Inks with their texts, of files and folders; a CSV has its text in a .txt of the same stem.

    Raises:
        DataError: nothing there, or a file is damaged.
    """
    found: list[Ink] = []
    for source in data:
        path = Path(source)
        files = sorted(p for p in path.rglob("*.csv")) if path.is_dir() else [path]
        found += [ink for file in files for ink in read_ink(file) if ink.text]
    if not found:
        raise DataError("there is no ink with a text beside it in these files.")
    return found


def train_pen(
    config: PenConfig,
    out: str | Path,
    data: Sequence[str | Path] = (),
    *,
    device: Any = "cpu",
    minutes: float | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out`; generated inks are added to those of files.

    Raises:
        ConfigError: there is nothing to train on.
        DataError: a file cannot be read.
    """
    began = time.monotonic()
    given = read_inks(data) if data else []
    made = given + inks(config.generated, config.seed * 2 + 1, config.longest)
    if not made:
        raise ConfigError("there is nothing to train on: give data, or set generated.")
    codec = Codec.of([" ".join(glyphs()), *(ink.text or "" for ink in given)])
    check = inks(VALIDATED, config.seed * 2 + 2, config.longest)
    steps = [steps_of(ink.points) for ink in made]
    labels = [codec.encode(ink.text or "") for ink in made]
    kept = [i for i in range(len(made)) if len(steps[i]) >= frames_needed(labels[i])]
    if len(kept) < len(made) and not quiet:
        from core.terminal import say

        say(f"{len(made) - len(kept)} inks have more characters than steps and are left out.")
    steps, labels = [steps[i] for i in kept], [labels[i] for i in kept]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PenNetwork(codec.size, config.unit, config.hidden, config.layers)
    model.to(device)
    source = BucketedBatches([len(s) for s in steps], config.budget, MakeInks(steps, labels), config.seed)
    loop = config.loop if minutes is None else replace(config.loop, {"max_minutes": minutes})
    validate = PenValidation(
        [steps_of(ink.points) for ink in check], [clean(ink.text or "") for ink in check], codec
    )
    parts = [f"{len(given)} inks of files"] if given else []
    return run_loop(
        model,
        step,
        source,
        loop,
        out,
        validate=validate,
        score="cer",
        settings=asdict(config),
        seed=config.seed,
        card=Card(
            "ocr pen",
            config.unit,
            "; ".join([*parts, f"{config.generated} generated inks"]),
            "generated data: none" if not given else "generated data: none; files: their own terms",
            extra={"codec": codec.as_dict()},
        ),
        resume=resume,
        quiet=quiet,
        began=began,
    )


def letter_step(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """Cross entropy of letters."""
    x, lengths, labels = batch
    return {"loss": F.cross_entropy(network(x, lengths), labels)}
