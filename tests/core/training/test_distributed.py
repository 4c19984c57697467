"""Two processes with half a batch each equal one process with the whole."""

import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from core.errors import ConfigError, WorkError
from core.training import ShuffledBatches, local_device
from core.training.distributed import Place, met
from tests.core.training.parallel import train_counted, train_plainly, train_sparse
from tests.core.training.runs import final, same

PATIENCE = timedelta(seconds=0.5)
"""With those who do not come."""
MEETING = timedelta(seconds=100)
"""With those who do: a busy machine may keep a thread waiting for seconds."""
FIGURES = ("train_loss", "val_error")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders written by two processes."""
    out = tmp_path_factory.mktemp("two")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    process = subprocess.Popen(
        [sys.executable, *torchrun, "-m", "tests.core.training.parallel", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = process.communicate(timeout=200)
    finally:
        process.terminate()  # torchrun ends its workers then; killed, it would leave them
        process.wait()
    assert process.returncode == 0, errors
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "counted", "sparse"])
def test_two_processes_equal_one_with_the_same_global_batch(
    two_processes: Path, tmp_path: Path, kind: str
) -> None:
    {"plain": train_plainly, "counted": train_counted, "sparse": train_sparse}[kind](tmp_path)
    alone, together = (load_file(out / "model.safetensors") for out in (tmp_path, two_processes / kind))
    for name, expected in alone.items():
        torch.testing.assert_close(together[name], expected, rtol=0, atol=1e-6)
    tables = []
    for out in (tmp_path, two_processes / kind):
        with open(out / "metrics.csv", newline="") as file:
            tables.append([float(row[name]) for row in csv.DictReader(file) for name in FIGURES])
    assert tables[0] == pytest.approx(tables[1], abs=1e-6)
    assert "2 processes" in (two_processes / kind / "card.md").read_text()


@pytest.mark.slow
def test_two_processes_that_were_stopped_resume_to_the_same_bits(two_processes: Path) -> None:
    assert same(final(two_processes / "disturbed"), final(two_processes / "undisturbed"))


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


def test_processes_that_are_started_again_do_not_meet_under_the_old_name() -> None:
    """What a torchrun with --max-restarts does: its table outlives the processes."""
    table = dist.HashStore()
    table.set_timeout(MEETING)
    names: list[str] = []
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            late_first = [pool.submit(met, table, rank, 3, MEETING) for rank in (2, 1, 0)]
            (name,) = {each.result() for each in late_first}
        names.append(name)
    assert len(set(names)) == 3


@pytest.mark.parametrize("others", ["gone", "came and died"])
def test_a_process_that_nobody_meets_says_so(others: str) -> None:
    table = dist.HashStore()
    if others != "gone":
        table.set_timeout(MEETING)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda rank: met(table, rank, 2, MEETING), range(2)))
    table.set_timeout(PATIENCE)
    with pytest.raises(WorkError, match="some of 2 processes did not come"):
        met(table, 0, 2, PATIENCE)
    with pytest.raises(WorkError, match="the first of 2 processes did not come"):
        met(table, 1, 2, PATIENCE)
