"""A run without dropout for torchrun, so that one process and several can be compared."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.training import LoopOptions, Outcome
from core.training.batches import ShuffledBatches
from tests.core.training.runs import build, data, run


def plain_step(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y).square().mean()


def train_plainly(out: Path) -> Outcome:
    """Two epochs of 14 batches."""
    x, y = data()
    source = ShuffledBatches(len(x), 8, lambda rows, generator: (x[rows], y[rows]), seed=3)
    options = LoopOptions(epochs=2, lr=0.003)
    return run(out, options=options, step=plain_step, batches=source, model=build(dropout=0.0))


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_plainly(Path(sys.argv[1]))
