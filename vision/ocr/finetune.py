"""Weights that go on with a new hand: the alphabet is fitted first, new outputs warm up, then all learns."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from dataclasses import replace as dataclass_replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.config import replace
from core.errors import ConfigError, WeightsError
from core.training import Outcome, Stage, train_stages
from core.weights import Card, find, load, load_into, save
from vision.ocr.batches import load_pool
from vision.ocr.codec import Codec, clean
from vision.ocr.config import TrainConfig
from vision.ocr.data import present, read_samples
from vision.ocr.fitting import Fitted
from vision.ocr.guard import Guard
from vision.ocr.models.presets import build
from vision.ocr.sample import Sample
from vision.ocr.segmentation import VERSION
from vision.ocr.training import Validation, batches, describe, learn, learnable, print_remark, split

Mode = Literal["add", "union", "keep", "new"]
MODES = ("add", "union", "keep", "new")
EARLY = ("stem.*", "stem_norm.*", "blocks.*", "features_norm.*", "network.conv.*", "network.features.*")
"""Convolutions of our networks, which `--freeze cnn` leaves as they are."""


def parent_of(weights: str | Path) -> tuple[Mapping[str, Tensor], Card, TrainConfig, Codec]:
    """Tensors, card, settings and alphabet of weights that were trained here.

    Raises:
        WeightsError: missing, or imported ones.
    """
    tensors, card = load(find(weights))
    if "codec" not in card.extra or "layout" in card.extra or not card.settings:
        raise WeightsError(f"{weights}: only weights that were trained here are fine-tuned.")
    return tensors, card, replace(TrainConfig(), card.settings), Codec.from_dict(card.extra["codec"])


def settings_for(weights: str | Path) -> TrainConfig:
    """The parent's settings with a gentle training: a quarter of the rate, ten epochs, no generated lines."""
    _, _, config, _ = parent_of(weights)
    loop = {"lr": 5e-4, "epochs": 10, "recover": {"times": 2}}
    return replace(config, {"data": {"generated": 0}, "loop": loop})


def fitted_codec(old: Codec, samples: Sequence[Sample], mode: str) -> Codec:
    """The alphabet for new data.

    keep: as it was. add: new characters behind the old ones. union: the same, sorted. new: those of the data
    alone; the outputs of characters that stay move with them.

    Raises:
        ConfigError: no such mode.
    """
    if mode not in MODES:
        raise ConfigError(f"--codec is one of {', '.join(MODES)}; got {mode!r}.")
    if mode == "keep":
        return old
    found = {character for sample in samples for character in clean(sample.text)}
    if mode == "new":
        return Codec(tuple(sorted(found)))
    more = sorted(found - set(old.symbols))
    return Codec((*old.symbols, *more)) if mode == "add" else Codec(tuple(sorted({*old.symbols, *more})))


def changes(old: Codec, new: Codec, samples: Sequence[Sample]) -> list[str]:
    """What to say of an alphabet: each character that is added, dropped or unknown, with its count."""
    counts = Counter(character for sample in samples for character in clean(sample.text))
    told = []
    for word, characters in (
        ("added", [c for c in new.symbols if c not in old.labels]),
        ("dropped", [c for c in old.symbols if c not in new.labels]),
        ("unknown, their lines are left out", [c for c in sorted(counts) if c not in new.labels]),
    ):
        if characters:
            listed = ", ".join(f"{c!r} {counts[c]}" for c in characters)
            told.append(f"{len(characters)} characters {word}: {listed}")
    return told or ["the alphabet stays as it is."]


def outputs_in(config: TrainConfig, size: int) -> set[str]:
    """Names of the tensors whose rows are the outputs of a network."""
    with torch.random.fork_rng(devices=[]):
        one, more = build(config, size).state_dict(), build(config, size + 1).state_dict()
    return {name for name, value in one.items() if value.shape != more[name].shape}


def moved_rows(
    tensors: Mapping[str, Tensor], config: TrainConfig, old: Codec, new: Codec, seed: int
) -> tuple[nn.Module, list[int]]:
    """The network of the new alphabet with the parent's weights, and its new rows.

    Raises:
        WeightsError: the parent does not fit its own settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(config, new.size)
    heads = outputs_in(config, old.size)
    state = model.state_dict()
    pairs = [(0, 0)] + [(new.labels[c], old.labels[c]) for c in new.symbols if c in old.labels]
    to, source = (torch.tensor(part) for part in zip(*pairs, strict=True))
    for name, value in state.items():
        if name not in tensors:
            if name.startswith("shortcut."):  # left out of bundled weights
                continue
            raise WeightsError(f"the weights lack {name}.")
        if name in heads:
            value[to] = tensors[name][source].to(value.dtype)
        else:
            value.copy_(tensors[name])
    load_into(model, state)
    fresh = [label for c, label in new.labels.items() if c not in old.labels]
    return model, fresh


def fine_tune(
    config: TrainConfig,
    weights: str | Path,
    out: str | Path,
    data: Sequence[str | Path],
    *,
    codec: str = "add",
    freeze: str | None = None,
    new_extractor: bool = False,
    device: Any = "cpu",
    resume: bool = False,
    strict: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train weights further on own lines, into the run folder `out`.

    Args:
        config: from `settings_for(weights)`.
        codec: see `fitted_codec`.
        freeze: "cnn" leaves the convolutions as they are.
        new_extractor: go on though the lines were cut by another version of the line finder.
        strict: stop where an image is missing.

    Raises:
        ConfigError: another extractor, an unknown mode, no line to learn from.
        DataError: a file cannot be read.
        WeightsError: weights that cannot be fine-tuned.
    """
    if freeze not in (None, "cnn"):
        raise ConfigError(f"--freeze knows cnn, got {freeze!r}.")
    tensors, card, _, old = parent_of(weights)
    told = card.extra.get("extractor", VERSION)
    if told != VERSION and not new_extractor:
        raise ConfigError(
            f"{weights}: trained on lines of extractor {told}, this is {VERSION}; --new-extractor goes on."
        )
    if config.task == "digits" and codec != "keep":
        codec = "keep"
    learned, checked = split(present(read_samples(data, strict=strict), strict=strict), config)
    new = fitted_codec(old, learned, codec)
    for remark in changes(old, new, learned):
        print_remark(remark, quiet)
    learned = [sample for sample in learned if not new.unknown([sample.text])]
    checked = [sample for sample in checked if not new.unknown([sample.text])]
    if not learned:
        raise ConfigError("there is no line to learn from.")
    model, fresh = moved_rows(tensors, config, old, new, config.seed)
    real = load_pool(learned, new, config.line)
    pool, remarks = learnable(real, model, [sample.name for sample in learned])
    for remark in remarks:
        print_remark(remark, quiet)
    check = load_pool(checked, new, config.line) if checked else pool
    if not checked:
        print_remark("too few lines to hold some back: the figures are those of the training lines.", quiet)
    source = batches(config, pool, load_pool([], new, config.line), pool)
    total = config.loop.epochs * max(1, source.count(1))
    guard = Guard(total, partial(print_remark, quiet=quiet), recovers=config.loop.recovery.times > 0)
    validate = Validation(check, new, guard)
    finish = Fitted(check, config, new, card.extra.get("lm"))
    told_of = {"weights": Path(weights).name, "codec": codec, "freeze": freeze}
    about = describe(config, new, learned, 0)
    about = dataclass_replace(about, extra={**about.extra, "fine_tuned": told_of})
    with TemporaryDirectory() as folder:
        draft = Path(folder) / f"{Path(weights).stem}.safetensors"
        save(draft, model, card)
        model.to(device)
        return train_stages(
            model,
            stages(model, config, learn(model, config, guard), source, validate, guard, fresh, freeze),
            out,
            settings=asdict(config),
            seed=config.seed,
            card=about,
            resume=resume,
            quiet=quiet,
            start=draft,
            finish=finish,
        )


def stages(
    model: nn.Module,
    config: TrainConfig,
    step: Any,
    source: Any,
    validate: Validation,
    guard: Guard,
    fresh: list[int],
    freeze: str | None,
) -> list[Stage]:
    """New outputs first with everything else as it is, then all (or all but the convolutions)."""
    names = [name for name, _ in model.named_parameters()]
    heads = tuple(sorted(outputs_in(config, validate.codec.size) & set(names)))
    early = tuple(pattern.rstrip("*") for pattern in EARLY)
    late = tuple(name for name in names if not name.startswith(early)) if freeze == "cnn" else ("*",)
    score = "cer" if config.task == "lines" else "wrong"
    main = Stage("all", step, source, config.loop, late, score, validate, guard.after_step)
    if not fresh:
        return [main]
    warm = replace(config.loop, {"epochs": max(1, config.loop.epochs // 5), "max_steps": None})
    return [Stage("rows", step, source, warm, heads, score, validate, kept_rows(model, heads, fresh)), main]


def kept_rows(
    model: nn.Module, heads: Sequence[str], fresh: Sequence[int]
) -> Callable[[nn.Module, int], None]:
    """After every step: the outputs of known characters are what they were."""
    own = dict(model.named_parameters())
    before = {name: own[name].detach().clone() for name in heads}
    known = torch.ones(len(next(iter(before.values()))), dtype=torch.bool)
    known[list(fresh)] = False

    @torch.no_grad()
    def restore(model: nn.Module, number: int) -> None:
        for name, parameter in model.named_parameters():
            if name in before:
                rows = known.to(parameter.device)
                parameter[rows] = before[name].to(parameter.device)[rows]

    return restore
