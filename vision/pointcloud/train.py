"""Training of a detector on scans that are generated while it learns."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from llvmlite import binding
from torch import Generator, Tensor, nn

from core.errors import ConfigError, DataError
from core.fitting import load_part
from core.training import DrawnBatches, Outcome, check_folder
from core.training import train as run_loop
from core.training.frozen import freeze
from core.training.run import Finish
from core.training.start import Start
from core.weights import Card, find, load
from vision.pointcloud.calibrate import calibrated
from vision.pointcloud.config import TrainConfig, preset
from vision.pointcloud.crops import FIRST_TEST, Crops, MakeCrops, batch_of, crops_of, view
from vision.pointcloud.drives import DriveCrops, MakeDrives, check_drives, learn_drive
from vision.pointcloud.hidden import memory_thresholds
from vision.pointcloud.loss import FRONT, REGRESSION, SPEED, focal_loss, numbers_loss, weighed
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.own import Labelled, SameCrops, find_own, learnt, make_of, read_own, split_own
from vision.pointcloud.synth.kept import made_scan

SPARE = 0.88
"""Share of the minutes that are planned for; the rest is for validation and what was not foreseen."""
UNTIMED, TIMED = 3, 5
"""Steps of the plan: first those that compile, then those that are measured."""
CHECK_BATCH = 16
NAMED = 6
"""Tensors of each kind that `--start` names."""


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    device: torch.device | str = "cpu",
    data: Sequence[str | Path] = (),
    overfit: int | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train on generated or own scans into the run folder `out`; the best weights end in `model.safetensors`.

    Args:
        data: folders of labelled scans, in any layout that `evaluate` reads, instead of generated ones.
        overfit: learn so many of the scans by heart, without augmentation, and say in the card how well: a
            proof that labels and points fit together, before a run is paid for.
        start: weights to go on from; they are validated first and stay the best until they are beaten. What
            they lack keeps its own start.

    Raises:
        ConfigError: settings that contradict each other.
    """
    check_folder(out, resume)
    config = preset(config)
    if config.bfloat16 and torch.device(device).type == "cpu" and multiplies_bfloat16():
        config = replace(config, loop=replace(config.loop, precision="bfloat16"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_network(config.model)
    model.to(device)
    if config.model.memory:
        if start is None and not resume:
            raise ConfigError("a memory learns on a finished detector: give its weights with --start.")
        for name, part in model.named_children():
            if name != "memory":
                freeze(part)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # sparse weights have five axes and stay as they are
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    make, check, finish = sources_of(config, data, overfit)
    if config.minutes is not None and not resume:
        config = planned(config, model, make)
    step = partial(taught, balance=config.balance)
    return run_loop(
        model,
        step,
        DrawnBatches(config.steps, config.data.scans, make, config.seed, config.workers),
        config.loop,
        out,
        validate=validation(check, step),
        finish=finish,
        settings=asdict(config),
        seed=config.seed,
        card=describe(config, bool(data)),
        start=None if start is None else Start(find(start), part=True),
        resume=resume,
        quiet=quiet,
    )


Make = Callable[[int, Generator], Crops] | MakeDrives


def sources_of(
    config: TrainConfig, data: Sequence[str | Path], overfit: int | None
) -> tuple[Make, list[Crops] | list[DriveCrops], Finish]:
    """What makes batches, what the best epoch is chosen by, and what is worked out for the finished weights.

    Raises:
        ConfigError: nothing to learn by heart.
        DataError: folders without labelled scans.
    """
    given = find_own(data)
    if config.model.memory:
        if given or overfit is not None:
            raise ConfigError("a memory learns on generated drives; leave the folders out.")
        drives = check_drives(config.data.sensor, config.data.sweeps, config.data.check)
        sizes = (config.data.hard, config.data.sweeps, config.data.sensor)
        return MakeDrives(sizes[2], sizes[1]), drives, lambda trained: memory_thresholds(trained, *sizes)
    if config.model.sweeps > 1 and (given or config.data.paste or overfit is not None):
        raise ConfigError("merged sweeps are learned from generated drives; leave folders and paste out.")
    if overfit is not None:
        if overfit < 1 or not given:
            raise ConfigError("overfit is a number of labelled scans, 1 or more; give their folder.")
        few = tuple(given[:overfit])
        return SameCrops(few), own_batches(few), lambda trained: {"by_heart": learnt(trained, few)}
    if given:
        taught, held = split_own(given)
        make = make_of(taught, config.data.views, config.data.paste, config.data.sensor)
        return make, own_batches(held), lambda trained: calibrated(trained, config.data.hard)
    if config.data.paste:
        make = make_of([], config.data.views, config.data.paste, config.data.sensor)
    else:
        made = config.data
        make = MakeCrops(made.sensor, made.views, config.model.sweeps, made.pool, made.store, made.riderless)
    finish = partial(calibrated, scans=config.data.hard, sensor=config.data.sensor)
    return make, check_batches(config), finish


def multiplies_bfloat16() -> bool:
    """Whether this processor has products of bfloat16; elsewhere they are slower than those of float32."""
    features = binding.get_host_cpu_features()
    return any(features.get(name, False) for name in ("avx512bf16", "amx-bf16"))


def fitting(config: TrainConfig, start: str | Path) -> list[str]:
    """What a network takes from weights and what it does not, in sentences.

    Raises:
        WeightsError: nothing fits.
    """
    tensors, _ = load(find(start))
    taken = load_part(build_network(preset(config).model), tensors)
    lines = [f"{len(taken.taken)} tensors taken from {start}."]
    for words, names in (
        ("keep their own start", taken.missing),
        ("do not fit", taken.unfit),
        ("are not known here", taken.unknown),
    ):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"{len(names)} {words}: {', '.join(names[:NAMED])}{more}.")
    return lines


def own_batches(scans: Sequence[Labelled]) -> list[Crops]:
    """Crops of labelled scans as they are.

    Raises:
        DataError: all of them are nearly empty.
    """
    crops = [crop for labelled in scans for crop in crops_of(view(read_own(labelled), None))]
    if not crops:
        raise DataError("no quadrant of the scans has 50 points: is the unit of the files metres?")
    return [batch_of(crops[k : k + CHECK_BATCH]) for k in range(0, len(crops), CHECK_BATCH)]


def learn(model: nn.Module, batch: Crops, balance: Sequence[float] = (1.0, 1.0, 1.0)) -> dict[str, Tensor]:
    """The losses of crops; `balance` weighs cars, pedestrians, cyclists."""
    device = next(model.parameters()).device
    heat, numbers = model(*batch.cloud(device))
    wanted, mask, cells, target, weight = batch.targets(device)
    focal = focal_loss(heat, wanted, mask, balance)
    weight = weighed(weight, wanted, cells, balance)
    l1, front, *more = numbers_loss(numbers, cells, target, weight)
    loss = focal + REGRESSION * l1 + FRONT * front + SPEED * sum(more)
    speed = {"speed": more[0]} if more else {}
    return {"loss": loss, "focal": focal, "l1": l1, "front": front, **speed}


def taught(
    model: nn.Module, batch: Crops | DriveCrops, balance: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[str, Tensor]:
    """The losses of crops or of drives: the step of the loop."""
    return learn_drive(model, batch) if isinstance(batch, DriveCrops) else learn(model, batch, balance)


def check_batches(config: TrainConfig) -> list[Crops]:
    """Crops of scans that nothing is trained on: the best epoch is chosen by their loss."""
    crops = []
    for k in range(config.data.check):
        crops += crops_of(view(made_scan(FIRST_TEST - 1 - k, config.data.sensor, config.model.sweeps), None))
    return [batch_of(crops[k : k + CHECK_BATCH]) for k in range(0, len(crops), CHECK_BATCH)]


def validation(
    check: list[Crops] | list[DriveCrops], step: Callable[..., dict[str, Tensor]] = taught
) -> Callable[[nn.Module], dict[str, float]]:
    """Mean losses over the crops that nothing is trained on."""

    def validate(model: nn.Module) -> dict[str, float]:
        sums: dict[str, float] = {}
        crops = 0
        for batch in check:
            parts = step(model, batch)
            crops += len(batch)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(batch)
        return {name: total / crops for name, total in sums.items()}

    return validate


def planned(config: TrainConfig, model: nn.Module, make: Make) -> TrainConfig:
    """The settings with as many epochs as fit into `minutes`, from a few steps on a copy of nothing kept.

    A step costs what its crops cost to make, shared by the workers, or what the device needs, whichever is
    more; without workers both.

    Raises:
        ConfigError: minutes that are less than one epoch.
    """
    device = next(model.parameters()).device
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    generator = Generator().manual_seed(config.seed)
    model.train()
    making, learning = [], []
    for k in range(UNTIMED + TIMED):
        began = time.monotonic()
        batch = make(config.data.scans, generator)
        made = time.monotonic()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.loop.precision == "bfloat16"):
            loss = taught(model, batch)["loss"]
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if k >= UNTIMED:  # the first ones compile
            making.append(made - began)
            learning.append(time.monotonic() - made)
    model.zero_grad(set_to_none=True)
    model.load_state_dict(kept)
    made, learned = sum(making) / len(making), sum(learning) / len(learning)
    step = max(made / config.workers, learned) if config.workers else made + learned
    assert config.minutes is not None
    epochs = round(SPARE * 60 * config.minutes / (step * config.steps))
    if epochs < 1:
        raise ConfigError(
            f"{config.minutes:g} minutes are less than one epoch of {config.steps} steps ({step:.2f} s each)."
        )
    return replace(config, loop=replace(config.loop, epochs=epochs, max_minutes=config.minutes))


def describe(config: TrainConfig, own: bool) -> Card:
    """What the weights are, in words."""
    operator = "none" if config.model.backbone == "bev" else config.model.operator
    return Card(
        task="pointcloud",
        unit=operator,
        data="own labelled scans"
        if own
        else f"generated scans, sensor {config.data.sensor}; no recording of any kind",
        terms="those of the scans" if own else "generated data: none",
    )
