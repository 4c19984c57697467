"""Operators and backbones trained side by side, for the same time and again for the same steps.

All of a table learn in one process, step by step on the same batches, so that whatever else the machine does
slows each of them alike. A row that was finished is not made again.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError, DataError, WeightsError
from core.files import write_text
from core.fitting import load_part
from core.training import DrawnBatches
from core.training.distributed import Place
from core.training.learner import Learner
from core.weights import find, load, load_into, save
from vision.pointcloud.calibrate import thresholds
from vision.pointcloud.config import ModelConfig, TrainConfig
from vision.pointcloud.crops import Crops, MakeCrops
from vision.pointcloud.evaluation import figures, network_finder, seen_part
from vision.pointcloud.examples import Example, find_examples, generated, read_example
from vision.pointcloud.models.detector import build_network
from vision.pointcloud.predict import Detector
from vision.pointcloud.predict import network_of as network_of_card
from vision.pointcloud.train import describe, learn

OPERATORS = ("min_gru", "hgrn", "gated_delta_net", "mamba2", "Mamba", "RWKV", "RetNet", "xLSTM", "TTT")
BACKBONES = ("voxel_mamba", "unimamba", "bev")
FIRST = 600_000
"""Seeds of the scans that score, after those of every other table."""
PARTS = 10_000
"""Steps of the schedule, which follows time as well as steps."""
OPERATOR = re.compile(r"(^last|(en|de)coder\.\d+)\.blocks\.")
"""Names of what belongs to an operator."""
START_LR = 1e-3
"""Peak of the rate where the other parts have learned already; a higher one would undo that."""
UNTIMED = 2
BATCH_SCANS = 1
"""Scans of a batch, each seen twice: up to 8 crops. All networks of a table are in memory at once."""
RACE = "race"
"""What the card of a row's weights says of how they were trained."""
HARD, PRECISION = 6, 0.9
"""Scans that thresholds come from, and the share of right cars that they keep in them."""


@dataclass(frozen=True)
class Plan:
    """What is compared, and for how long."""

    minutes: float | None
    """Of training for each, on this machine; None leaves the table of equal time out."""
    steps: int | None
    """Steps for each; None leaves the table of equal steps out."""
    scans: int
    """Generated scans that score."""
    names: tuple[str, ...]
    pool: int = 0
    """Different scans to learn from; 0: a fresh one for every batch."""
    store: str = ""
    """Folder that keeps them."""

    def __post_init__(self) -> None:
        if self.minutes is None and self.steps is None:
            raise ConfigError("nothing to compare by: give minutes, steps or both.")
        known = (*OPERATORS, *BACKBONES)
        wrong = [name for name in self.names if name not in known and name != name.lower()]
        if wrong:
            raise ConfigError(f"no operator or backbone {wrong[0]!r}; there are {', '.join(known)}.")


def network_of(name: str, best: str) -> ModelConfig:
    """The network of a row: LION with an operator, or another backbone with the best one."""
    if name == "bev":
        return ModelConfig(backbone="bev")
    if name in BACKBONES:
        return replace(ModelConfig(), backbone=name, operator=best)  # pyright: ignore[reportArgumentType]
    return ModelConfig(operator=name)


def compare(
    plan: Plan,
    out: Path,
    real: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 0,
    start: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of the table, one after another; `real` are folders and their formats.

    With `start` all parts but the operators begin with those weights, and short runs tell more.

    The operators of a table learn side by side, step by step on the same batches; then the other backbones
    do, with the operator that came out best.

    Raises:
        ConfigError: settings that cannot be.
        DataError: a folder that cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{out}: cannot be made ({error.strerror}).") from error
    best = ("min_gru", -1.0)
    scored: Scored | None = None
    groups = [[name for name in plan.names if (name in BACKBONES) == other] for other in (False, True)]
    for names in groups:
        for kind in ("time", "steps"):
            if (plan.minutes if kind == "time" else plan.steps) is None:
                continue
            learn_all(names, best[0], plan, kind, out, seed, device, workers, start)
            for name in names:
                row = row_of(out / f"{name}-{kind}.json")
                if row is None:
                    scored = scored or Scored(plan, real)
                    row = scored.row(out / f"{name}-{kind}.safetensors", device)
                    write_text(out / f"{name}-{kind}.json", json.dumps(row, indent=2) + "\n")
                yield row
                area = row["bev@0.5"] if row["bev@0.5"] is not None else 0.0
                if name not in BACKBONES and area > best[1]:
                    best = name, area


def row_of(path: Path) -> dict[str, Any] | None:
    """A row that was finished in an earlier sitting."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def learn_all(
    names: Sequence[str],
    best: str,
    plan: Plan,
    kind: str,
    out: Path,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 0,
    start: str | None = None,
) -> None:
    """Weights in `out` of all rows without any, by "time" or "steps"; other backbones run the `best` one."""
    racers = [
        Racer(name, network_of(name, best), seed, torch.device(device), start)
        for name in names
        if not (out / f"{name}-{kind}.safetensors").is_file()
    ]
    race(racers, plan, kind, seed, workers)
    for racer in racers:
        racer.keep(out / f"{racer.name}-{kind}.safetensors", kind)


class Racer:
    """A network that learns beside others, with the seconds that its own steps took."""

    def __init__(
        self, name: str, model: ModelConfig, seed: int, device: torch.device, start: str | None = None
    ) -> None:
        """start: weights that all parts but the operators begin with, where they fit."""
        self.name, self.steps, self.seconds = name, 0, 0.0
        self.config = TrainConfig(preset="own", seed=seed, model=model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build_network(model)
        if start is not None:
            self.config = replace(self.config, loop=replace(self.config.loop, lr=START_LR))
            tensors, _ = load(find(start))
            load_part(self.network, {key: part for key, part in tensors.items() if not OPERATOR.search(key)})
        self.network.to(device)
        self.learner = Learner(self.network, self.config.loop, PARTS, Place(device=device))
        self.device = device

    @property
    def pace(self) -> float:
        """Seconds of a step."""
        return self.seconds / max(1, self.steps - UNTIMED)

    def step(self, batch: Crops, done: float) -> None:
        """Learn a batch; the rate of learning follows `done`, the part of the race that lies behind."""
        self.network.train()
        began = time.perf_counter()
        self.learner.update(learn, iter([batch]), min(PARTS - 1, int(PARTS * done)))
        self.learner.end_step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.steps >= UNTIMED:  # the first ones compile
            self.seconds += time.perf_counter() - began
        self.steps += 1

    def keep(self, path: Path, kind: str) -> None:
        """Write the averaged weights, with what the race was in their card."""
        with self.learner.averaged():
            tensors = {name: part.detach().cpu().clone() for name, part in self.network.state_dict().items()}
        facts = {
            "name": self.name,
            "by": kind,
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "step_ms": round(1000 * self.pace, 1),
            "device": self.device.type,
        }
        card = replace(describe(self.config, False), settings=asdict(self.config), extra={RACE: facts})
        save(path, tensors, card)


def race(racers: Sequence[Racer], plan: Plan, kind: str, seed: int, workers: int) -> None:
    """Give every network the same time or the same steps, on batches that all of them share.

    By time, the fastest one takes every batch, and a slower one takes a batch whenever it has had less time.
    """
    make = MakeCrops("mixture", 2, pool=plan.pool, store=plan.store)
    batches = DrawnBatches(100, BATCH_SCANS, make, seed, workers)
    budget = 60 * (plan.minutes or 0.0)
    clock = 0.0
    stream = (batch for epoch in count() for batch in batches.epoch(epoch, 0, 1, 0))
    running = list(racers)
    while running:
        batch = next(stream)
        clock += min(racer.pace for racer in running)
        for racer in running:
            if kind == "steps":
                assert plan.steps is not None
                racer.step(batch, racer.steps / plan.steps)
            elif racer.seconds <= clock:
                racer.step(batch, racer.seconds / budget)
        running = [
            racer
            for racer in running
            if (racer.steps < (plan.steps or 0) if kind == "steps" else racer.seconds < budget)
        ]
    batches.close()


class Scored:
    """Generated and recorded scans that every row of a table is scored on."""

    def __init__(self, plan: Plan, real: Sequence[tuple[str, str]]) -> None:
        self.examples = [seen_part(example) for example in generated(plan.scans, "hdl64", True, FIRST)]
        self.folders = {
            Path(folder).name: [
                seen_part(read_example(path, format)) for path in find_examples(folder, format)[0]
            ]
            for folder, format in real
        }

    def row(self, path: Path, device: torch.device | str) -> dict[str, Any]:
        """What the weights of a race score, at thresholds that are found here."""
        tensors, card = load(path)
        facts = card.extra.get(RACE)
        if not isinstance(facts, Mapping):
            raise WeightsError(f"{path}: no weights of a race; give another --out.")
        network = network_of_card(card).to(device)
        load_into(network, tensors)
        kept = kept_mb(network)
        parameters = sum(part.numel() for part in network.parameters())
        save(
            path,
            tensors,
            replace(card, extra={**card.extra, **thresholds(network.eval(), HARD, precision=PRECISION)}),
        )
        detector = Detector.open(path, device)
        model = card.settings["model"]
        return {
            **facts,
            "operator": model["operator"],
            "backbone": model["backbone"],
            "parameters": parameters,
            "kept_mb": kept,
            **scored(detector, self.examples),
            "real": {folder: scored(detector, rows) for folder, rows in self.folders.items()},
        }


def scored(detector: Detector, examples: Sequence[Example]) -> dict[str, Any]:
    """AP, recall and precision of cars, and milliseconds for a scan."""
    finder = network_finder(detector)
    finder(examples[0])  # compiles
    began = time.perf_counter()
    found = [finder(example) for example in examples]
    taken = (time.perf_counter() - began) / len(examples)
    cars = figures(examples, found, detector.thresholds)["Car"]
    wanted = ("bev@0.5", "3d@0.7", "recall30m@0.5", "precision30m@0.5")
    return {**{name: cars[name] for name in wanted}, "ms": round(1000 * taken, 1)}


def kept_mb(network: torch.nn.Module) -> float:
    """Megabytes that a training step of one scan keeps for its backward pass."""
    batch = MakeCrops("hdl64", 1)(1, torch.Generator().manual_seed(0))
    kept = 0

    def keep(part: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += part.numel() * part.element_size()
        return part

    network.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        learn(network, batch)
    network.eval()
    return round(kept / len(batch) / 1e6, 1)


def lines_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table for people."""

    def text(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    lines = [
        f"{'':<16}{'by':>6}{'steps':>7}{'a step':>8}{'numbers':>10}{'MB/crop':>9}{'ms':>7}"
        f"{'bev@.5':>8}{'3d@.7':>7}  real"
    ]
    for row in rows:
        real = ", ".join(
            f"{name} {text(value['recall30m@0.5'], 2)}/{text(value['precision30m@0.5'], 2)}"
            for name, value in row["real"].items()
        )
        lines.append(
            f"{row['name']:<16}{row['by']:>6}{row['steps']:>7}{row['step_ms']:>8.0f}{row['parameters']:>10,}{row['kept_mb']:>9.1f}"
            f"{row['ms']:>7.0f}{text(row['bev@0.5'], 1):>8}{text(row['3d@0.7'], 1):>7}  {real}"
        )
    return lines
