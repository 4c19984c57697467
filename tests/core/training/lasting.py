"""A run that lasts until somebody ends it: `python -m tests.core.training.lasting OUT [--resume]`."""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from core.cli import run_app
from core.training import LoopOptions, ShuffledBatches, train
from core.weights import Card


def main(out: Path, resume: bool) -> None:
    """Train a line, slowly; in a folder called "validation" the first process judges for 6 s."""
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    rows = torch.randn(64, 2)

    def step(model: nn.Module, batch: Tensor) -> Tensor:
        time.sleep(0.02)
        return (model(batch) - batch.sum(1, keepdim=True)).square().mean()

    def validate(model: nn.Module) -> dict[str, float]:
        if "validation" in out.name:
            time.sleep(6)
        return {"loss": float((model(rows) - rows.sum(1, keepdim=True)).square().mean())}

    train(
        model,
        step,
        ShuffledBatches(64, 16, lambda chosen, generator: rows[chosen], seed=1),
        LoopOptions(epochs=2 if "validation" in out.name else 100_000, patience_s=4.0),
        out,
        validate=validate,
        settings={"kind": "lasting"},
        seed=1,
        card=Card(task="test", unit="linear", data="none", terms="none"),
        resume=resume,
        quiet=True,
    )


if __name__ == "__main__":
    run_app(lambda: main(Path(sys.argv[1]), "--resume" in sys.argv))  # pyright: ignore[reportArgumentType]
