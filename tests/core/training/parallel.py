"""Runs for torchrun: one without dropout, to compare with a single process; one with, stopped and resumed.

torchrun --standalone --nproc_per_node=2 -m tests.core.training.parallel OUT
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.training import GroupOptions, LoopOptions, OptimizerOptions, Outcome, Place
from core.training.batches import ShuffledBatches
from tests.core.training.runs import build, data, run, step


def plain_step(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y).square().mean()


def train_plainly(out: Path) -> Outcome:
    """Two epochs of 14 batches."""
    x, y = data()
    source = ShuffledBatches(len(x), 8, lambda rows, generator: (x[rows], y[rows]), seed=3)
    options = LoopOptions(epochs=2, lr=0.003)
    return run(out, options=options, step=plain_step, batches=source, model=build(dropout=0.0))


def labelled_step(model: nn.Module, batch: Any) -> dict[str, Tensor] | None:
    """Only rows with a label count; a half of a batch may have none."""
    x, y = batch
    known = x[:, 0, 0] > 0.5
    if not known.any():
        return None
    return {"loss": (model(x)[known] - y[known]).square().mean(), "count": known.sum()}


def train_counted(out: Path) -> Outcome:
    """Batches of different weight, two of them a step, validated in the middle, on a plateau schedule."""
    x, y = data()
    source = ShuffledBatches(len(x), 8, lambda rows, generator: (x[rows], y[rows]), seed=3)
    options = LoopOptions(epochs=3, lr=0.01, accumulate=2, validate_steps=3, schedule="plateau", ema=0.9)
    return run(out, options=options, step=labelled_step, batches=source, model=build(dropout=0.0))


class Table(nn.Module):
    """Item vectors with sparse gradients, batch norm, and a part that nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(20, 4, sparse=True)
        self.norm = nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 2)
        self.spare = nn.Linear(2, 2)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """A method of its own: the model is not wrapped."""
        items = (x[:, :, 0].abs() * 5).long().clamp(max=19)
        return (self.out(self.items(items).mean(1)) - y).square().mean()


def shared_validation(model: nn.Module, place: Place) -> dict[str, float]:
    """Each process looks at its part of the data."""
    x, y = data()
    own = slice(place.rank, None, place.world)
    errors = place.gather(model.loss(x[own], y[own]).item() * len(x[own]))
    return {"error": sum(errors) / len(x)}


def train_sparse(out: Path) -> Outcome:
    """Tables with an optimiser of their own."""
    x, y = data()
    torch.manual_seed(4)
    source = ShuffledBatches(len(x), 8, lambda rows, generator: (x[rows], y[rows]), seed=3)
    groups = (GroupOptions("items.*", lr=0.05, optimizer="sparse_adam"),)
    options = LoopOptions(epochs=2, lr=0.01, optimizer=OptimizerOptions(groups=groups))
    words: dict[str, Any] = {"validate": shared_validation, "model": Table(), "batches": source}
    return run(out, options=options, step=lambda model, batch: model.loss(*batch), **words)


def stop_and_resume(undisturbed: Path, disturbed: Path) -> None:
    """The run of `runs` twice: left alone, and stopped by an error in its second epoch."""
    taken = 0

    def failing(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        nonlocal taken
        if taken == 22:
            raise RuntimeError("stopped")
        taken += 1
        return step(model, batch)

    run(undisturbed)
    with suppress(RuntimeError):
        run(disturbed, step=failing)
    run(disturbed, resume=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    train_plainly(out / "plain")
    train_counted(out / "counted")
    train_sparse(out / "sparse")
    stop_and_resume(out / "undisturbed", out / "disturbed")
