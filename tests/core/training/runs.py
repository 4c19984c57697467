"""A small run with everything that could break exact resume: dropout, a schedule, an average of weights,
generators of Python and NumPy, batches of several steps. Also a script, so that it can be killed.

    python tests/core/training/runs.py OUT RESUME STALL_STEP STALL_WRITE
"""

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.training import Card, LoopOptions, Outcome, ShuffledBatches, train

OPTIONS = LoopOptions(epochs=3, lr=0.01, ema=0.9, checkpoint_steps=4, accumulate=2, warmup=0.1)
CARD = Card(task="test", unit="gru", data="random numbers", terms="none")
STEPS_PER_EPOCH = 7


class Net(nn.Module):
    """x (B, T, 3) -> (B, 2)."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 8, num_layers=2, dropout=dropout, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def build(dropout: float = 0.3) -> Net:
    """The same initial weights everywhere."""
    torch.manual_seed(1)
    return Net(dropout)


def data() -> tuple[Tensor, Tensor]:
    """x (116, 5, 3), y (116, 2)."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(116, 5, 3, generator=generator)
    return x, x.sum(1)[:, :2]


class Noisy:
    """Rows with noise from the batch's own generator."""

    def __init__(self) -> None:
        self.x, self.y = data()

    def __call__(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.x[rows] + 0.1 * torch.randn(len(rows), 5, 3, generator=generator), self.y[rows]


def batches(batch: int = 8, workers: int = 0) -> ShuffledBatches:
    """Noisy batches; 14 of 8 an epoch."""
    return ShuffledBatches(len(data()[0]), batch, Noisy(), seed=3, workers=workers)


def step(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """A loss that also draws from the generators of Python and NumPy."""
    x, y = batch
    error = (model(x) - y).square().mean()
    jitter = 1 + 0.1 * random.random() + 0.1 * float(np.random.random())  # noqa: NPY002
    return {"loss": error * jitter, "error": error}


def validate(model: nn.Module) -> dict[str, float]:
    """An error, and a draw that must not disturb the training."""
    x, y = data()
    torch.rand(3)
    return {"error": (model(x) - y).square().mean().item()}


def run(out: Path, *, options: LoopOptions = OPTIONS, step: Any = step, **changes: Any) -> Outcome:
    """Train in `out`; keyword arguments go to `train`."""
    given: dict[str, Any] = {"validate": validate, "score": "error", "settings": {"width": 8}, "seed": 11}
    model = given.pop("model", None) or changes.pop("model", None) or build()
    source = changes.pop("batches", None) or batches()
    return train(model, step, source, options, out, card=CARD, **(given | changes))


def final(out: Path) -> dict[str, Any]:
    """All that a run leaves, without times."""
    from safetensors.torch import load_file

    state = torch.load(out / "last" / "state.pt", weights_only=True)
    state["position"].pop("seconds")
    rows = [line.rsplit(",", 1)[0] for line in (out / "metrics.csv").read_text().splitlines()]
    return {"state": state, "best": load_file(out / "model.safetensors"), "rows": rows}


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, through any nesting."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def stall() -> None:
    """Say so and wait to be killed."""
    print("stalled", flush=True)
    time.sleep(120)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, resume, stall_step, stall_write = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    taken = written = 0
    replace = os.replace

    def stalling_step(model: nn.Module, batch: Any) -> dict[str, Tensor]:
        global taken
        if taken == stall_step:
            stall()
        taken += 1
        return step(model, batch)

    def stalling_replace(source: Any, target: Any) -> None:
        global written
        if written == stall_write:
            stall()
        written += 1
        replace(source, target)

    os.replace = stalling_replace
    run(out, step=stalling_step, resume=bool(resume))
