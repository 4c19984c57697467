"""Buckets, drawn batches and workers: constant epochs, nobody left out, the same bits for any workers."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from core.errors import ConfigError, DataError, WorkError
from core.training import BucketedBatches, DrawnBatches, ShuffledBatches
from core.training.buckets import least_padding
from core.training.drawn import split_count


def lengths(count: int = 500, seed: int = 0) -> Tensor:
    """Long-tailed, 4 to about 300."""
    generator = torch.Generator().manual_seed(seed)
    return (4 + 60 * torch.empty(count).exponential_(1.0, generator=generator)).long().clamp(max=300)


def as_given(rows: Any, generator: Generator) -> Any:
    return rows


class Noisy:
    """Rows with noise; a class of a module, so that it travels to processes."""

    def __init__(self, size: int) -> None:
        self.data = torch.arange(float(size))

    def __call__(self, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.data[rows], torch.rand(len(rows), 3, generator=generator)


def fails_at_7(rows: Tensor, generator: Generator) -> Tensor:
    if 7 in rows:
        raise DataError("seven.wav line 7: no sound here.")
    return rows


def dies(rows: Tensor, generator: Generator) -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return rows


def test_padded_buckets_stay_within_their_budget_and_every_epoch_has_as_many() -> None:
    batches = BucketedBatches(lengths(), 2000, as_given, seed=4)
    for epoch in range(5):
        rows = batches.rows(epoch, 0, 1)
        assert len(rows) == batches.count(1)
        assert all(len(part) * batches.lengths[part].max() <= 2000 for part in rows)


def test_everybody_comes_equally_often_in_the_long_run() -> None:
    batches = BucketedBatches(lengths(), 2000, as_given, seed=4)
    seen = torch.zeros(500, dtype=torch.int64)
    for epoch in range(30):
        for rows in batches.rows(epoch, 0, 1):
            seen += torch.bincount(rows, minlength=500)
    assert 25 <= seen.min() <= seen.max() <= 36  # batches of a small bucket are rounded to even sizes
    for number, bucket in enumerate(batches.divided(1)):  # within a bucket nobody is a turn behind
        counts = torch.bincount(batches.stream(number, bucket.members, 0, 777), minlength=500)[bucket.members]
        assert counts.max() - counts.min() <= 1


def test_an_epoch_of_buckets_can_be_entered_anywhere_and_differs_from_the_next() -> None:
    batches = BucketedBatches(lengths(), 2000, Noisy(500), seed=4)
    whole = list(batches.epoch(7, 0, 1, 0))
    rest = list(BucketedBatches(lengths(), 2000, Noisy(500), seed=4).epoch(7, 0, 1, 9))
    assert len(rest) == len(whole) - 9
    for (rows, noise), (expected, same) in zip(rest, whole[9:], strict=True):
        assert torch.equal(rows, expected)
        assert torch.equal(noise, same)
    assert not torch.equal(whole[0][0], next(batches.epoch(8, 0, 1, 0))[0])


def test_two_processes_share_the_buckets_of_one() -> None:
    batches = BucketedBatches(lengths(), 2000, as_given, seed=4)
    alone, *halves = batches.rows(3, 0, 1), batches.rows(3, 0, 2), batches.rows(3, 1, 2)
    for whole, first, second in zip(alone, *halves, strict=True):
        assert torch.equal(whole, torch.cat([first, second]))


def test_more_buckets_pad_less_and_padding_says_how_much() -> None:
    figures = [
        BucketedBatches(lengths(4000), 4000, as_given, seed=1, buckets=buckets).padding()
        for buckets in (1, 8, 24)
    ]
    assert figures[0] > 0.5
    assert figures[1] < 0.18
    assert figures[2] < 0.065
    batches = BucketedBatches([2, 2, 4, 4], 100, as_given, seed=1, buckets=1)
    assert batches.padding() == pytest.approx(1 - 12 / 16)


def test_the_cut_is_the_one_with_the_least_padding() -> None:
    generator = torch.Generator().manual_seed(2)
    found = torch.randint(1, 12, (40,), generator=generator)
    distinct = found.unique().tolist()

    def cost(borders: tuple[int, ...]) -> int:
        return sum(min(border for border in borders if border >= length) for length in found.tolist())

    for buckets in (1, 2, 3, 4):
        best = min(cost((*inner, distinct[-1])) for inner in combinations(distinct[:-1], buckets - 1))
        assert cost(tuple(least_padding(found, buckets).tolist())) == best
    assert least_padding(found, 99).tolist() == distinct


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"lengths": [3, 90], "budget": 80}, "example 1 has length 90, above the budget of a batch .80."),
        ({"lengths": [], "budget": 80}, "one length an example"),
        ({"lengths": [0], "budget": 80}, "example 0 has length 0"),
        ({"lengths": [3], "budget": 80, "buckets": 0}, "must be positive"),
    ],
)
def test_buckets_that_cannot_be_are_refused(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BucketedBatches(make=as_given, seed=0, **wanted)


def test_a_bucket_that_holds_less_than_the_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"fewer of them .* than the processes \(2\)"):
        BucketedBatches([70] * 9, 80, as_given, seed=0).count(2)


def test_a_largest_batch_is_kept() -> None:
    batches = BucketedBatches([1] * 100, 1000, as_given, seed=0, largest=8)
    assert {len(rows) for rows in batches.rows(0, 0, 1)} == {8}


def test_drawn_batches_give_whole_numbers_of_each_source() -> None:
    batches = DrawnBatches(3, 10, as_given, seed=0, shares={"made": 0.75, "real": 0.25})
    drawn = list(batches.epoch(0, 0, 1, 0))
    assert drawn == [{"made": 8, "real": 2}] * 3
    assert list(DrawnBatches(2, 10, as_given, seed=0).epoch(0, 1, 2, 0)) == [5, 5]


def test_a_source_of_less_than_one_example_a_batch_is_drawn_in_its_share() -> None:
    batches = DrawnBatches(400, 10, as_given, seed=0, shares={"a": 97.0, "b": 2.0, "c": 1.0})
    rows = batches.rows(0, 0, 1)
    assert all(sum(counts.values()) == 10 and min(counts.values()) >= 0 for counts in rows)
    totals = {name: sum(counts[name] for counts in rows) for name in "abc"}
    assert totals["b"] == pytest.approx(80, abs=20)
    assert totals["c"] == pytest.approx(40, abs=14)
    assert batches.rows(0, 0, 1) == rows != batches.rows(1, 0, 1)


def test_shares_are_rounded_at_their_borders() -> None:
    assert split_count({"a": 1, "b": 1, "c": 1}, 10) == {"a": 3, "b": 4, "c": 3}
    assert split_count({"a": 0.2, "b": 0.0, "c": 0.8}, 512) == {"a": 102, "b": 0, "c": 410}
    with pytest.raises(ConfigError, match="got b -1"):
        split_count({"a": 1, "b": -1}, 10)


@pytest.mark.parametrize("kind", ["shuffled", "bucketed"])
def test_any_number_of_workers_gives_the_same_bits_from_one_pool(kind: str) -> None:
    given = []
    for workers in (0, 1, 3) if kind == "shuffled" else (0, 1):
        if kind == "shuffled":
            made = ShuffledBatches(60, 8, Noisy(60), 3, workers)
        else:
            made = BucketedBatches(lengths(60), 900, Noisy(60), 3, workers)
        given.append(
            [torch.cat([rows, noise.flatten()]) for e in range(2) for rows, noise in made.epoch(e, 0, 1, 1)]
        )
        pool = made.pool
        next(made.epoch(2, 0, 1, 0))  # left in the middle
        given[-1].append(next(made.epoch(3, 0, 1, 2))[1].flatten())
        assert made.pool is pool
        made.close()
    for other in given[1:]:
        assert all(torch.equal(a, b) for a, b in zip(given[0], other, strict=True))


def test_a_sentence_from_a_worker_stays_a_sentence() -> None:
    batches = ShuffledBatches(20, 4, fails_at_7, 3, workers=1)
    with pytest.raises(DataError, match=r"^seven.wav line 7: no sound here.$"):
        list(batches.epoch(0, 0, 1, 0))
    batches.close()


def test_a_worker_that_dies_is_a_failed_work() -> None:
    batches = ShuffledBatches(20, 4, dies, 3, workers=1)
    with pytest.raises(WorkError, match="a process that makes batches died"):
        list(batches.epoch(0, 0, 1, 0))
    batches.close()


def test_what_cannot_travel_to_a_process_is_said_before_one_starts(tmp_path: Path) -> None:
    held = open(os.devnull)
    batches = ShuffledBatches(20, 4, lambda rows, generator: held, 3, workers=2)
    with pytest.raises(ConfigError, match="cannot be made in other processes"):
        batches.epoch(0, 0, 1, 0)
    held.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_workers_end_with_a_trainer_that_was_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.core.training.test_batches"],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        workers = [Path("/proc", number) for number in process.stdout.readline().split()]
        assert len(workers) == 2
        assert all(worker.exists() for worker in workers)
        process.kill()
    until = time.monotonic() + 200
    while any(worker.exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(worker.exists() for worker in workers)


if __name__ == "__main__":
    started = ShuffledBatches(60, 4, Noisy(60), 3, workers=2)
    stream = started.epoch(0, 0, 1, 0)
    next(stream)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(300)
