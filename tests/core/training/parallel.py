"""Runs for torchrun: one without dropout, to compare with a single process; one with, stopped and resumed.

torchrun --standalone --nproc_per_node=2 -m tests.core.training.parallel OUT
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.training import LoopOptions, Outcome
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
    stop_and_resume(out / "undisturbed", out / "disturbed")
