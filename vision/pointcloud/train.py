"""Training of a detector on scans that are generated while it learns."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from core.errors import ConfigError
from core.training import DrawnBatches, Outcome, check_folder
from core.training import train as run_loop
from core.weights import Card, find
from vision.pointcloud.calibrate import thresholds
from vision.pointcloud.config import TrainConfig, preset
from vision.pointcloud.crops import FIRST_TEST, Crops, MakeCrops, batch_of, crops_of, view
from vision.pointcloud.loss import FRONT, REGRESSION, focal_loss, numbers_loss
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.synth.scan import simulate

SPARE = 0.88
"""Share of the minutes that are planned for; the rest is for validation and what was not foreseen."""
UNTIMED, TIMED = 3, 5
"""Steps of the plan: first those that compile, then those that are measured."""
CHECK_BATCH = 16


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    device: torch.device | str = "cpu",
    start: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out` on generated scans; the best weights end in `out/model.safetensors`.

    Args:
        start: weights to go on from; they are validated first and stay the best until they are beaten.

    Raises:
        ConfigError: settings that contradict each other.
    """
    check_folder(out, resume)
    config = preset(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_network(config.model)
    model.to(device)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):  # sparse weights have five axes and stay as they are
            module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    make = MakeCrops(config.data.sensor, config.data.views)
    check = check_batches(config)
    if config.minutes is not None and not resume:
        config = planned(config, model, make)
    return run_loop(
        model,
        learn,
        DrawnBatches(config.steps, config.data.scans, make, config.seed, config.workers),
        config.loop,
        out,
        validate=validation(check),
        finish=lambda trained: thresholds(trained, config.data.hard, config.data.sensor),
        settings=asdict(config),
        seed=config.seed,
        card=describe(config),
        start=None if start is None else find(start),
        resume=resume,
        quiet=quiet,
    )


def learn(model: nn.Module, batch: Crops) -> dict[str, Tensor]:
    """The step of the loop."""
    device = next(model.parameters()).device
    heat, numbers = model(*batch.cloud(device))
    wanted, mask, cells, target, weight = batch.targets(device)
    focal = focal_loss(heat, wanted, mask)
    l1, front = numbers_loss(numbers, cells, target, weight)
    return {"loss": focal + REGRESSION * l1 + FRONT * front, "focal": focal, "l1": l1, "front": front}


def check_batches(config: TrainConfig) -> list[Crops]:
    """Crops of scans that nothing is trained on: the best epoch is chosen by their loss."""
    crops = []
    for k in range(config.data.check):
        crops += crops_of(view(simulate(FIRST_TEST - 1 - k, config.data.sensor), None))
    return [batch_of(crops[k : k + CHECK_BATCH]) for k in range(0, len(crops), CHECK_BATCH)]


def validation(check: list[Crops]) -> Callable[[nn.Module], dict[str, float]]:
    """Mean losses over the crops that nothing is trained on."""

    def validate(model: nn.Module) -> dict[str, float]:
        sums: dict[str, float] = {}
        crops = 0
        for batch in check:
            parts = learn(model, batch)
            crops += len(batch)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(batch)
        return {name: total / crops for name, total in sums.items()}

    return validate


def planned(config: TrainConfig, model: nn.Module, make: MakeCrops) -> TrainConfig:
    """The settings with as many epochs as fit into `minutes`, from a few steps on a copy of nothing kept.

    A step costs what its crops cost to make, shared by the workers, or what the device needs, whichever is
    more; without workers both.
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
        learn(model, batch)["loss"].backward()
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


def describe(config: TrainConfig) -> Card:
    """What the weights are, in words."""
    operator = "none" if config.model.backbone == "bev" else config.model.operator
    return Card(
        task="pointcloud",
        unit=operator,
        data=f"generated scans, sensor {config.data.sensor}; no recording of any kind",
        terms="generated data: none",
    )
