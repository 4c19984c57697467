"""Two processes with half a batch each equal one process with the whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.errors import ConfigError
from core.training import ShuffledBatches, local_device
from core.training.distributed import Place
from tests.core.training.parallel import train_plainly

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_same_global_batch(tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    subprocess.run(
        [sys.executable, *torchrun, "-m", "tests.core.training.parallel", str(tmp_path / "two")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=200,
        capture_output=True,
    )
    one = train_plainly(tmp_path / "one")
    ours, theirs = (
        load_file(tmp_path / "one" / one.weights.name),
        load_file(tmp_path / "two" / one.weights.name),
    )
    for name, expected in ours.items():
        torch.testing.assert_close(theirs[name], expected, rtol=0, atol=1e-6)
    rows = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    assert rows[0][0] == rows[1][0]
    losses = [[float(row.split(",")[3]) for row in lines[1:]] for lines in rows]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert "2 processes" in (tmp_path / "two" / "card.md").read_text()


def test_processes_share_each_global_batch() -> None:
    batches = ShuffledBatches(25, 6, lambda rows, generator: rows, seed=2)
    alone = list(batches.epoch(3, 0, 1, 0))
    halves = [list(batches.epoch(3, rank, 2, 0)) for rank in (0, 1)]
    assert len(alone) == 4
    for whole, first, second in zip(alone, *halves, strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 5 cannot be shared by 2 processes"):
        ShuffledBatches(25, 5, lambda rows, generator: rows, seed=2).count(2)


def test_one_process_needs_no_group() -> None:
    place = Place()
    assert place.first
    assert place.share("x") == "x"
    assert place.gather(3) == [3]
    assert place.mean({"loss": 0.5}) == {"loss": 0.5}
    assert place.agree(lambda: 7) == 7


@pytest.mark.parametrize("wanted", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_named(wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        local_device(wanted)
