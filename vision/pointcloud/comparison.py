"""Operators and backbones trained side by side, for the same time and again for the same steps.

A run that was finished is not done again, so that a long table may be made in several sittings.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.errors import ConfigError
from core.files import write_text
from vision.pointcloud.config import ModelConfig, TrainConfig
from vision.pointcloud.crops import MakeCrops
from vision.pointcloud.evaluate import figures, network_finder, seen_part
from vision.pointcloud.examples import Example, find_examples, generated, read_example
from vision.pointcloud.predict import Detector
from vision.pointcloud.train import learn, train

OPERATORS = ("min_gru", "hgrn", "gated_delta_net", "mamba2", "Mamba", "RWKV", "RetNet", "xLSTM", "TTT")
BACKBONES = ("voxel_mamba", "unimamba", "bev")
FIRST = 600_000
"""Seeds of the scans that score, after those of every other table."""


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
    plan: Plan, out: Path, real: Sequence[tuple[str, str]] = (), seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Rows of the table, one after another; `real` are folders and their formats.

    Raises:
        ConfigError: a backbone without a row of an operator before it, or settings that cannot be.
    """
    examples = [seen_part(example) for example in generated(plan.scans, "hdl64", True, FIRST)]
    folders = {
        Path(folder).name: [
            seen_part(read_example(path, format)) for path in find_examples(folder, format)[0]
        ]
        for folder, format in real
    }
    best = ("min_gru", -1.0)
    for name in plan.names:
        for kind in ("time", "steps"):
            if (plan.minutes if kind == "time" else plan.steps) is None:
                continue
            path = out / f"{name}-{kind}.json"
            if path.is_file():
                row = json.loads(path.read_text(encoding="utf-8"))
            else:
                config = TrainConfig(preset="own", seed=seed, model=network_of(name, best[0]))
                row = {"name": name, "by": kind, **trained(config, plan, kind, out, examples, folders)}
                write_text(path, json.dumps(row, indent=2) + "\n")
            area = row["bev@0.5"] if row["bev@0.5"] is not None else 0.0
            if name not in BACKBONES and area > best[1]:
                best = name, area
            yield row


def trained(
    config: TrainConfig,
    plan: Plan,
    kind: str,
    out: Path,
    examples: Sequence[Example],
    folders: dict[str, list[Example]],
) -> dict[str, Any]:
    """One run and what it gives."""
    config = replace(config, data=replace(config.data, check=4, hard=8))
    if kind == "time":
        config = replace(config, minutes=plan.minutes, steps=10)
    else:
        assert plan.steps is not None
        config = replace(config, steps=plan.steps, loop=replace(config.loop, epochs=1))
    name = config.model.backbone if config.model.backbone != "lion" else config.model.operator
    run = out / f"run-{name}-{kind}"
    outcome = train(config, run, quiet=True, resume=(run / "last").exists())
    detector = Detector.open(run)
    row = scored(detector, examples)
    return {
        "operator": config.model.operator,
        "backbone": config.model.backbone,
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "parameters": sum(part.numel() for part in detector.network.parameters()),
        "kept_mb": kept_mb(detector.network),
        **row,
        "real": {folder: scored(detector, rows) for folder, rows in folders.items()},
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
        f"{'':<16}{'by':>6}{'steps':>7}{'numbers':>10}{'MB/crop':>9}{'ms':>7}{'bev@.5':>8}{'3d@.7':>7}  real"
    ]
    for row in rows:
        real = ", ".join(
            f"{name} {text(value['recall30m@0.5'], 2)}/{text(value['precision30m@0.5'], 2)}"
            for name, value in row["real"].items()
        )
        lines.append(
            f"{row['name']:<16}{row['by']:>6}{row['steps']:>7}{row['parameters']:>10,}{row['kept_mb']:>9.1f}"
            f"{row['ms']:>7.0f}{text(row['bev@0.5'], 1):>8}{text(row['3d@0.7'], 1):>7}  {real}"
        )
    return lines
