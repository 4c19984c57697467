"""A table in two processes learns what it learns in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError
from core.training.distributed import Place
from core.training.gradients import shared
from core.training.sharded import ShardedTable, clip_over_shards, edges, shards, whole_state

ROWS, WIDTH, BATCH, STEPS = 37, 5, 8, 20


class Scorer(torch.nn.Module):
    def __init__(self, place: Place) -> None:
        super().__init__()
        torch.manual_seed(0)
        start = torch.randn(ROWS, WIDTH)
        self.mix = torch.nn.Linear(WIDTH, WIDTH)
        self.table = ShardedTable(ROWS, WIDTH, place, start)

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        rows = self.table(indices)
        return (self.mix(rows[:, 0]) * rows[:, 1]).sum(-1)


def learned(place: Place) -> dict[str, torch.Tensor]:
    """Twenty steps on batches of which every process has its share."""
    model = Scorer(place)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        pairs = torch.randint(ROWS, (BATCH, 2), generator=generator)
        wanted = torch.randn(BATCH, generator=generator)
        first, last = edges(BATCH, place.rank, place.world)
        optimizer.zero_grad()
        (model(pairs[first:last]) - wanted[first:last]).square().mean().backward()
        shared(list(model.parameters()), [1.0], True, place, shards(model))
        clip_over_shards(model, 0.5, place)
        optimizer.step()
    return whole_state(model)


def test_one_process_is_an_embedding() -> None:
    model = Scorer(Place())
    indices = torch.tensor([[1, 36], [0, 1]])
    expected = torch.nn.functional.embedding(indices, model.table.weight)
    torch.testing.assert_close(model.table(indices), expected)
    model.table(indices).square().sum().backward()
    gradient = torch.zeros(ROWS, WIDTH)
    gradient.index_add_(0, indices.flatten(), 2 * expected.detach().flatten(0, 1))
    torch.testing.assert_close(model.table.weight.grad, gradient)
    with pytest.raises(ConfigError, match="cannot be shared"):
        ShardedTable(1, 4, Place(0, 2))


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", __file__]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OUT": str(tmp_path), "PYTHONPATH": os.getcwd()}
    ended = subprocess.run(words, env=environment, timeout=280, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    two, one = torch.load(tmp_path / "two.pt", weights_only=True), learned(Place())
    assert set(two) == set(one)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=1e-5)


def test_what_wants_the_whole_model_is_refused_before_the_first_step(tmp_path: Path) -> None:
    from tests.core.training.runs import run

    def never(model: torch.nn.Module, batch: object) -> None:
        raise AssertionError("a step was taken")

    with pytest.raises(ConfigError, match="tables are dealt out"):
        run(tmp_path / "run", model=Scorer(Place()), step=never, finish=lambda _: {})
    assert not (tmp_path / "run").exists()


if __name__ == "__main__":
    from core.training.distributed import join

    here = join(torch.device("cpu"))
    state = learned(here)
    if here.first:
        torch.save(state, Path(os.environ["OUT"]) / "two.pt")
