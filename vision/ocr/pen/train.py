"""`recurra ocr train pen` and its letters: on stroke files, on IMU tables, or on the generator."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import read_toml, replace
from core.ctc.greedy import greedy
from core.ctc.loss import ctc_loss, frames_needed
from core.errors import ConfigError, DataError
from core.metrics.edit_distance import error_rates
from core.training import Outcome, check_folder
from core.training import train as run_loop
from core.training.options import LoopOptions
from core.weights import Card, find, load
from vision.ocr.codec import Codec, clean
from vision.ocr.pen.growing import GrowingBatches
from vision.ocr.pen.model import PenNetwork
from vision.ocr.pen.strokes import FARTHEST, FEATURES, PIECES, Ink, read_ink, steps_of
from vision.ocr.pen.synth import inks, lessons
from vision.ocr.synth.alphabet import glyphs
from vision.ocr.training import planned

VALIDATED = 300
PORTION = 1000
"""Inks that one process makes at a time."""


@dataclass(frozen=True)
class PenConfig:
    """Settings of a pen's training."""

    seed: int = 0
    unit: str = "lstm"
    hidden: int = 128
    layers: int = 2
    generated: int = 8000
    longest: int = 20  # characters of a generated ink, about
    budget: int = 4000  # steps of a batch, padding included
    steps: int = 60  # of an epoch
    makers: int = 1  # processes that make the generated inks
    change: float = 1.0  # how much inks are slanted, widened and turned by chance; 0: as they are
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=72, lr=4e-3, weight_decay=1e-4, warmup=0.05, clip=1.0, ema=0.998
        )
    )

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.steps, self.makers) < 1 or self.budget < 100:
            raise ConfigError("hidden, layers, steps, makers must be positive, budget 100 or more.")
        if self.generated < 0 or self.change < 0:
            raise ConfigError("generated and change must not be negative.")


InkBatch = tuple[Tensor, Tensor, tuple[int, ...], tuple[int, ...]]
"""Steps (B, T, FEATURES), targets (B, L), and how long each of both is."""


class MakeInks:
    """Rows -> padded steps (B, T, F), targets (B, L), lengths of both."""

    def __init__(self, steps: list[np.ndarray], labels: list[list[int]], change: float = 0.0) -> None:
        self.steps, self.labels, self.change = steps, labels, change

    def __call__(self, rows: Any, generator: torch.Generator) -> InkBatch:
        chosen = [int(row) for row in rows]
        lengths = tuple(len(self.steps[i]) for i in chosen)
        counts = tuple(len(self.labels[i]) for i in chosen)
        x = torch.zeros(len(chosen), max(lengths), FEATURES)
        targets = torch.zeros(len(chosen), max(1, *counts), dtype=torch.long)
        for row, i in enumerate(chosen):
            x[row, : lengths[row]] = torch.from_numpy(self.steps[i])
            targets[row, : counts[row]] = torch.tensor(self.labels[i])
        return changed(x, self.change, generator), targets, lengths, counts


def changed(x: Tensor, change: float, generator: torch.Generator) -> Tensor:
    """Steps (B, T, FEATURES) of the same inks in hands that slant, widen and turn a little otherwise."""
    if not change:
        return x
    draw = change * torch.randn(len(x), 5, generator=generator)
    wide, high, slant, turn, off = (draw * torch.tensor([0.12, 0.1, 0.2, 0.05, 0.1])).T[..., None]
    wide, high = wide.exp(), high.exp()
    dx, dy = x[..., 0 : 2 * PIECES : 2], x[..., 1 : 2 * PIECES : 2]  # (B, T, PIECES)
    dx, dy = wide[..., None] * dx - slant[..., None] * dy, high[..., None] * dy + turn[..., None] * dx
    above, behind, down, first = x[..., 2 * PIECES :].unbind(-1)
    length = (dx**2 + dy**2).sqrt().clamp(min=1e-6)
    length = torch.where(down[..., None] > 0.5, length, 1.0)  # a direction stays one
    inside = (x.abs().sum(-1) > 0).float()  # padding stays zero
    pieces = torch.stack([dx / length, dy / length], -1).flatten(2)
    rest = torch.stack([(high * above + off) * inside, wide * behind], -1)
    told = torch.cat([pieces, rest], -1).clamp(-FARTHEST, FARTHEST)
    return torch.cat([told, down[..., None], first[..., None]], -1)


def step(network: nn.Module, batch: InkBatch) -> dict[str, Tensor]:
    """CTC per character."""
    x, targets, lengths, counts = batch
    logits = network(x)[0].transpose(0, 1)
    found = ctc_loss(logits, targets, lengths, counts)
    return {"loss": found.loss.sum() / max(sum(counts), 1), "impossible": found.impossible}


class PenValidation:
    """Error rates of the greedy reading of inks."""

    def __init__(self, steps: list[np.ndarray], texts: list[str], codec: Codec) -> None:
        self.steps, self.texts, self.codec = steps, texts, codec

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        device = next(model.parameters()).device
        make = MakeInks(self.steps, [[] for _ in self.steps])
        answers = []
        for first in range(0, len(self.steps), 100):
            rows = range(first, min(first + 100, len(self.steps)))
            x, _, lengths, _ = make(rows, torch.Generator())
            found = model(x.to(device))[0].float().log_softmax(-1).cpu().numpy()
            for part, length in zip(found, lengths, strict=True):
                answers.append(clean(self.codec.decode(greedy(part[:length]).labels.tolist())))
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


def generate(config: PenConfig) -> list[tuple[np.ndarray, str]]:
    """Generated inks as steps with their texts; the same whatever the number of makers."""
    jobs = [
        (min(PORTION, config.generated - first), (config.seed * 2 + 1) * 100_003 + first)
        for first in range(0, config.generated, PORTION)
    ]
    if config.makers == 1:
        return [made for size, seed in jobs for made in lessons(size, seed, config.longest)]
    with ProcessPoolExecutor(config.makers, get_context("forkserver")) as pool:
        waiting = [pool.submit(lessons, size, seed, config.longest) for size, seed in jobs]
        return [made for future in waiting for made in future.result()]


def train_pen(
    config: PenConfig,
    out: str | Path,
    data: Sequence[str | Path] = (),
    *,
    device: Any = "cpu",
    minutes: float | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out`; generated inks are added to those of files.

    Args:
        start: weights to go on from; their alphabet is kept, and texts of every length come from the first
            step on.
        minutes: plan as many epochs as this machine takes in that time, and stop by the clock.

    Raises:
        ConfigError: there is nothing to train on.
        DataError: a file cannot be read.
    """
    began = time.monotonic()
    check_folder(out, resume)
    if resume:
        config = replace(config, read_toml(Path(out) / "config.toml"))
    given = read_inks(data) if data else []
    if not given and not config.generated:
        raise ConfigError("there is nothing to train on: give data, or set generated.")
    if start is not None:
        codec = Codec.from_dict(load(find(start))[1].extra["codec"])
        given = [ink for ink in given if not codec.unknown([ink.text or ""])]
    else:
        codec = Codec.of([" ".join(glyphs()), *(ink.text or "" for ink in given)])
    check = inks(VALIDATED, config.seed * 2 + 2, config.longest)
    made = generate(config)
    steps = [steps_of(ink.points) for ink in given] + [own for own, _ in made]
    labels = [codec.encode(ink.text or "") for ink in given] + [codec.encode(text) for _, text in made]
    kept = [i for i in range(len(made)) if len(steps[i]) >= frames_needed(labels[i])]
    if len(kept) < len(steps) and not quiet:
        from core.terminal import say

        say(f"{len(steps) - len(kept)} inks have more characters than steps and are left out.")
    steps, labels = [steps[i] for i in kept], [labels[i] for i in kept]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = PenNetwork(codec.size, config.unit, config.hidden, config.layers)
    model.to(device)
    source = GrowingBatches(
        [len(part) for part in steps],
        [len(label) for label in labels],
        config.steps,
        config.budget,
        0,
        MakeInks(steps, labels, config.change),
        config.seed,
    )
    if minutes is not None:
        config = planned(config, model, step, source, minutes, began, out if resume else None)
    if start is None:
        source.epochs = config.loop.epochs
    validate = PenValidation(
        [steps_of(ink.points) for ink in check], [clean(ink.text or "") for ink in check], codec
    )
    parts = [f"{len(given)} inks of files"] if given else []
    return run_loop(
        model,
        step,
        source,
        config.loop,
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
        start=start,
        began=began,
    )


def letter_step(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """Cross entropy of letters."""
    x, lengths, labels = batch
    return {"loss": F.cross_entropy(network(x, lengths), labels)}
