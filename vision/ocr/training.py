"""Training of the line and the digit-string network on files and generated examples."""

import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict
from dataclasses import replace as dataclass_replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.config import read_toml, replace
from core.ctc.greedy import greedy
from core.ctc.loss import frames_needed
from core.errors import ConfigError, DataError
from core.metrics.edit_distance import error_rates
from core.training import Outcome, check_folder
from core.training import train as run_loop
from core.training.batches import to_device
from core.training.buckets import BucketedBatches
from core.training.drawn import DrawnBatches
from core.weights import Card, find, load
from vision.ocr.augment import augment
from vision.ocr.batches import LineBatch, MakeLines, MakeMixture, Pool, generated_pool, load_pool
from vision.ocr.codec import Codec
from vision.ocr.config import TrainConfig
from vision.ocr.data import described, present, read_samples
from vision.ocr.fitting import Fitted
from vision.ocr.guard import Guard
from vision.ocr.loss import recognition_loss
from vision.ocr.models.presets import build
from vision.ocr.precision import timed_stages
from vision.ocr.recognise import as_input, log_probabilities, spell
from vision.ocr.sample import Sample
from vision.ocr.synth import digits as digit_synth
from vision.ocr.synth import writing
from vision.ocr.synth.alphabet import glyphs

TIMED = 24
"""Steps of which `--minutes` takes the time."""
VALIDATED = 200
"""Generated examples for validation: of digit strings always, of lines where no file has any."""


def train(
    config: TrainConfig,
    out: str | Path,
    data: Sequence[str | Path] = (),
    *,
    digits: str | Path | None = None,
    device: Any = "cpu",
    minutes: float | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    strict: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out`.

    Args:
        data: index files, or folders of pictures with texts; rows with split "test" are left alone, rows
            with split "val" validate. Nothing: generated lines only.
        start: weights to begin from, a bundled name, file or run; their alphabet is kept.
        minutes: plan as many epochs as this machine takes in that time, and stop by the clock.
        digits: folder of idx files to compose digit strings from; its last 5,000 digits are never used.
        strict: stop where an image is missing; else such lines are counted, named and left out.

    Raises:
        ConfigError: settings that contradict each other or the data.
        DataError: a file cannot be read, or a text cannot be learned.
    """
    check_folder(out, resume)
    if resume:
        config = replace(config, read_toml(Path(out) / "config.toml"))
    began = time.monotonic()
    samples = present(read_samples(data, strict=strict), strict=strict) if data else []
    learned, checked = split(samples, config)
    codec = codec_of(config, learned, start)
    refuse_unknown(codec, learned, config)
    if config.data.unknown == "replace":
        learned = [dataclass_replace(sample, text=codec.replaced(sample.text)) for sample in learned]
    learned = [sample for sample in learned if not codec.unknown([sample.text])]
    checked = [sample for sample in checked if not codec.unknown([sample.text])]
    real = load_pool(learned, codec, config.line)
    if config.task == "lines" and not config.data.real_share:  # what generated lines alone are worth
        real = Pool([], [])
    check = load_pool(checked, codec, config.line)
    made = generate(config, codec, [sample.text for sample in learned], digits, config.data.generated, 0)
    if not len(check) or config.task == "digits":  # few real strings alone would choose by luck
        check = check + generate(config, codec, [], digits, VALIDATED, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build(config, codec.size)
    names = [sample.name for sample in learned[: len(real)]] + ["a generated line"] * len(made)
    pool, remarks = learnable(real + made, model, names)
    for remark in remarks:
        print_remark(remark, quiet)
    model.to(device)
    source = batches(config, real, made, pool)
    total = config.loop.epochs * max(1, source.count(1))
    guard = Guard(total, partial(print_remark, quiet=quiet), recovers=config.loop.recovery.times > 0)
    step = learn(model, config, guard)
    if config.loop.precision == "bfloat16" and hasattr(model, "exact"):
        if config.exact is None:
            config = dataclass_replace(config, exact=timed_stages(model, step, source))
        model.exact = config.exact  # pyright: ignore[reportArgumentType]
    if minutes is not None:
        config = planned(config, model, step, source, minutes, began, out if resume else None)
    outcome = run_loop(
        model,
        step,
        source,
        config.loop,
        out,
        validate=Validation(check, codec, guard),
        score="cer" if config.task == "lines" else "wrong",
        settings=asdict(config),
        seed=config.seed,
        card=describe(config, codec, learned, len(made)),
        resume=resume,
        quiet=quiet,
        start=start,
        finish=Fitted(check, config, codec),
        after_step=guard.after_step,
        began=began,
    )
    for remark in remarks:  # once more, where it is seen after a long run
        print_remark(remark, quiet)
    return outcome


def print_remark(text: str, quiet: bool) -> None:
    """A remark for people, on stderr."""
    from core.terminal import say

    if not quiet:
        say(text)


def split(samples: Sequence[Sample], config: TrainConfig) -> tuple[list[Sample], list[Sample]]:
    """Samples to learn from and to validate on; where no row says "val", some documents are held out."""
    usable = [sample for sample in samples if sample.split != "test" and sample.text]
    checked = [sample for sample in usable if sample.split == "val"]
    learned = [sample for sample in usable if sample.split != "val"]
    if checked or not learned:
        return learned, checked
    documents = sorted({sample.document or sample.name for sample in learned})
    order = np.random.default_rng(config.seed).permutation(len(documents))
    held = {documents[i] for i in order[: round(len(documents) * config.data.validation)]}
    checked = [sample for sample in learned if (sample.document or sample.name) in held]
    return [sample for sample in learned if (sample.document or sample.name) not in held], checked


def codec_of(config: TrainConfig, samples: Sequence[Sample], start: str | Path | None) -> Codec:
    """The alphabet of the weights to start from; else digits, those of the data, or the generator's."""
    if config.task == "digits":
        return Codec(tuple("0123456789"))
    if start is not None:
        return Codec.from_dict(load(find(start))[1].extra["codec"])
    if samples:
        return Codec.of(sample.text for sample in samples)
    return Codec.of([" ".join(glyphs())])


def refuse_unknown(codec: Codec, samples: Sequence[Sample], config: TrainConfig) -> None:
    """Characters outside the codec are told before training starts."""
    unknown = codec.unknown(sample.text for sample in samples)
    if unknown and config.data.unknown == "error":
        listed = ", ".join(f"{character!r} {count}" for character, count in unknown.most_common(20))
        raise DataError(
            f"characters outside the alphabet: {listed}. data.unknown=drop leaves the lines "
            "out, replace takes accents away."
        )


def generate(
    config: TrainConfig,
    codec: Codec,
    texts: list[str],
    digits: str | Path | None,
    count: int,
    portion: int,
) -> Pool:
    """Generated examples of the task; `portion` tells training (0) and validation (1) apart."""
    seed = config.seed * 2 + portion
    if not count:
        return Pool([], [])
    if config.task == "lines":
        return generated_pool(
            writing.lines,
            count,
            codec,
            config.line,
            seed,
            config.makers,
            texts if texts else None,
            config.data.fonts,
        )
    if digits is None:
        return generated_pool(
            writing.digit_strings, count, codec, config.line, seed, config.makers, config.data.longest
        )
    images, labels = digit_synth.read_digits(digits)
    kept = len(images) - digit_synth.HELD_BACK
    if kept < 1000:
        raise DataError(f"{digits}: {len(images)} digits; the last 5,000 are held back, 1,000 more needed.")
    if portion:  # validation composes from digits that training does not see
        images, labels = images[kept - kept // 20 : kept], labels[kept - kept // 20 : kept]
    else:
        images, labels = images[: kept - kept // 20], labels[: kept - kept // 20]
    compose = partial(digit_synth.strings, images, labels, longest=config.data.longest)
    return generated_pool(compose, count, codec, config.line, seed, config.makers)


NAMED = 10
"""Lines that are named; the rest is counted."""


def learnable(pool: Pool, model: Any, names: Sequence[str] = ()) -> tuple[Pool, list[str]]:
    """The lines that CTC can learn with the frames they get, and what to say about the others, with names."""
    if hasattr(model, "spell"):  # frames do not limit what spells
        return pool, []
    frames = model.frames(torch.tensor(pool.widths)).tolist() if len(pool) else []
    short = [n < frames_needed(labels) for n, labels in zip(frames, pool.labels, strict=True)]
    if not any(short):
        return pool, []
    kept = [i for i, bad in enumerate(short) if not bad]
    told = [name for name, bad in zip(names, short, strict=False) if bad]
    some = ", ".join(told[:NAMED]) + (f" and {len(told) - NAMED} more" if len(told) > NAMED else "")
    remark = (
        f"{sum(short)} of {len(short)} lines have more characters than frames and are left out; raise "
        f"line.height. {some}".strip()
    )
    return Pool([pool.ink[i] for i in kept], [pool.labels[i] for i in kept]), [remark]


def batches(config: TrainConfig, real: Pool, made: Pool, pool: Pool) -> Any:
    """Lines in buckets of near widths; digit strings drawn half from files, half composed."""
    if not len(pool):
        raise ConfigError("there is nothing to train on: give data, or set data.generated.")
    if config.task == "lines":
        make = MakeLines(pool, config.augment)
        return BucketedBatches(pool.widths * config.laps, config.pixels, make, config.seed, config.workers)
    pools = {name: part for name, part in (("files", real), ("generated", made)) if len(part)}
    share = config.data.real_share
    shares = {"files": share, "generated": 1 - share} if len(pools) == 2 else dict.fromkeys(pools, 1.0)
    mixture = MakeMixture(pools, config.augment)
    return DrawnBatches(config.steps, config.batch, mixture, config.seed, config.workers, shares=shares)


def learn(model: Any, config: TrainConfig, guard: Guard | None = None) -> Any:
    """The step of the loop: one batch -> loss per character."""
    focal = bool(getattr(model, "focal", False))

    def pulled(found: dict[str, Tensor]) -> dict[str, Tensor]:
        return found if guard is None else {**found, "loss": guard.pulled(found["loss"])}

    def step(network: nn.Module, batch: LineBatch) -> dict[str, Tensor]:
        ink = as_input(batch.ink)
        out = torch.tensor(batch.out_widths)
        generator = torch.Generator(ink.device).manual_seed(batch.seed)
        if batch.draws is not None:
            with torch.autocast(ink.device.type, enabled=False):
                ink = augment(ink, batch.widths, out.to(ink.device), batch.draws, batch.seed)
        if hasattr(network, "spell"):
            return pulled(model.loss(ink, out, batch.targets, batch.target_lengths))
        logits, side = network(ink, out, generator)
        lengths = model.frames(out)
        loss, impossible = recognition_loss(
            logits, side, batch.targets, lengths, batch.target_lengths, config.shortcut_weight, focal=focal
        )
        return pulled({"loss": loss, "impossible": impossible})

    return step


class Validation:
    """Error rates of the greedy reading of held-out lines, and the share of them that is read as nothing."""

    def __init__(self, pool: Pool, codec: Codec, guard: Guard | None = None) -> None:
        self.pool, self.codec, self.guard = pool, codec, guard
        self.truths = [codec.decode(labels) for labels in pool.labels]

    def __call__(self, model: nn.Module) -> dict[str, float]:
        if hasattr(model, "spell"):
            answers = [self.codec.decode(told.labels).strip() for told in spell(model, self.pool.ink)]
        else:
            found = log_probabilities(model, self.pool.ink)
            answers = [self.codec.decode(greedy(part).labels.tolist()).strip() for part in found]
        rates = error_rates(self.truths, answers)
        blank = sum(not answer for answer in answers) / max(len(answers), 1)
        figures = {"cer": rates.cer, "wer": rates.wer, "wrong": 1 - rates.string_accuracy, "blank": blank}
        if self.guard is not None:
            self.guard.judge(figures)
        return figures


def describe(config: TrainConfig, codec: Codec, learned: Sequence[Sample], made: int) -> Card:
    """What the weights are, in words."""
    parts = [described(learned)] if learned else []
    parts += [f"{made} generated"] if made else []
    return Card(
        task=f"ocr {config.task}",
        unit=config.model.unit if config.model.name != "pylaia" else "pylaia",
        data="; ".join(parts) + "; validation by document",
        terms="generated data: none; files: their own terms" if learned else "generated data: none",
        extra={"codec": codec.as_dict(), "line": asdict(config.line), "extractor": 1},
    )


def planned(
    config: Any,
    model: nn.Module,
    step: Any,
    source: Any,
    minutes: float,
    began: float,
    resumed: str | Path | None = None,
) -> Any:
    """Settings that stop by the clock, with as many epochs as fit into the minutes.

    Args:
        step: timed on a copy of the network.
        began: `time.monotonic()` of the begin, from which the minutes count.
        resumed: the folder of a run that goes on; its number of epochs stays.
    """
    if resumed is not None:
        epochs = read_toml(Path(resumed) / "config.toml")["loop"]["epochs"]
    else:
        took = seconds_a_step(model, step, source, config)
        left = 60 * minutes - (time.monotonic() - began)
        # validation, checkpoints and a machine that others use take their part
        epochs = max(1, int(0.92 * left / (took * source.count(1) + 1.0)))
    return replace(config, {"loop": {"epochs": epochs, "max_minutes": minutes}})


def seconds_a_step(model: nn.Module, step: Any, source: Any, config: Any) -> float:
    """Median time of a training step after a few to warm up."""
    network = deepcopy(model).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    device = next(network.parameters()).device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.loop.precision == "bfloat16")
    times = []
    for number, batch in zip(range(TIMED), source.epoch(0, 0, 1, 0), strict=False):
        begun = time.perf_counter()
        with autocast:
            loss = step(network, to_device(batch, device))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU
        if number >= TIMED // 3:
            times.append(time.perf_counter() - begun)
    return float(np.median(times)) if times else 1.0
