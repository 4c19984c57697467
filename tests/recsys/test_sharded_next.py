"""A next-item model whose table two processes share learns what it learns in one, kills included."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from core.training import LoopOptions, Outcome
from core.weights import load
from recsys.config import NextConfig, NextRun
from recsys.sequences.batches import RowBatches
from recsys.sequences.data import Sequences
from recsys.sequences.evaluate import evaluate_next
from recsys.sequences.train import train_next

ITEMS, ROWS = 200, 120


def log() -> Sequences:
    """Short sequences around a ring, so that no window is drawn."""
    random = np.random.default_rng(0)
    parts = []
    for _ in range(ROWS):
        steps = random.integers(1, 4, random.integers(4, 9))
        parts.append((random.integers(ITEMS) + steps.cumsum()) % ITEMS + 1)
    names = tuple(str(item) for item in range(1, ITEMS + 1))
    return Sequences(tuple(parts), tuple(str(row) for row in range(ROWS)), names, "a ring")


def learned(
    out: Path, block: str = "min_gru", steps: int = 20, dropout: float = 0.0, resume: bool = False
) -> Outcome:
    """Twenty steps with clipping, averaged weights, a checkpoint after every fifth, and validations."""
    model = NextConfig(block=block, hidden=16, layers=1, length=8, dropout=dropout, sharded=True)
    loop = LoopOptions(epochs=4, max_steps=steps, lr=1e-2, ema=0.9, clip=0.5, checkpoint_steps=5)
    config = NextRun(model, loop, loss="sampled", negatives=32, batch=16, split="none", validation=20)
    return train_next(config, log(), out, quiet=True, resume=resume)


def in_two_processes(out: Path, dropout: float, dies: int | None = None) -> None:
    """The same in a torchrun; with `dies` the second process is gone before that step, once."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words += ["--max-restarts=1", "--monitor-interval=0.1", __file__]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OUT": str(out),
        "DROPOUT": str(dropout),
        "DIES": str(dies or 0),
        "PYTHONPATH": os.getcwd(),
    }
    ended = subprocess.run(words, env=environment, timeout=280, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("block", ["esasrec", "gsasrec", "hstu"])
def test_weights_of_a_dealt_table_are_those_of_any_run(tmp_path: Path, block: str) -> None:
    outcome = learned(tmp_path / "run", block, steps=3)
    report = evaluate_next(log(), outcome.weights.parent, split="last", beside=False)
    assert report["n"] == ROWS
    assert 0 <= report["model"]["HR@10"] <= 1


def test_losses_over_the_whole_table_and_lanes_are_refused() -> None:
    model = NextConfig(sharded=True)
    with pytest.raises(ConfigError, match="no rows to spare"):
        NextRun(model, loss="softmax")
    with pytest.raises(ConfigError, match="no lanes"):
        NextRun(NextConfig(block="gru4rec", sharded=True), loss="in_batch", lanes=4)


def test_two_processes_learn_what_one_learns_though_one_of_them_was_killed(tmp_path: Path) -> None:
    in_two_processes(tmp_path / "two", dropout=0.0, dies=13)
    one = learned(tmp_path / "one")
    alone, both = (load(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.steps == 20
    assert set(alone[0]) == set(both[0])
    for name, tensor in alone[0].items():
        torch.testing.assert_close(both[0][name], tensor, atol=1e-5, rtol=1e-5)
    assert both[1].score["NDCG@10"] == pytest.approx(alone[1].score["NDCG@10"], abs=1e-6)


@pytest.mark.slow
def test_a_killed_run_of_two_processes_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    for name, dies in (("whole", None), ("killed", 13)):
        in_two_processes(tmp_path / name, dropout=0.3, dies=dies)
    whole, killed = (load(tmp_path / name / "model.safetensors") for name in ("whole", "killed"))
    assert whole[1].score == killed[1].score
    for name, tensor in whole[0].items():
        assert torch.equal(killed[0][name], tensor), name
    logs = [
        [row.split(",")[:-1] for row in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]  # but for the seconds


if __name__ == "__main__":
    again = os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
    if os.environ["RANK"] == "1" and not again and int(os.environ["DIES"]):
        real, left = RowBatches.__call__, iter(range(int(os.environ["DIES"])))

        def batch_or_death(*words: Any) -> Any:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*words)

        RowBatches.__call__ = batch_or_death  # type: ignore[method-assign]
    learned(Path(os.environ["OUT"]), dropout=float(os.environ["DROPOUT"]), resume=again)
