"""The order of an epoch as a function of (seed, epoch): no sampler state, resumable at any batch.

A domain gives `make(rows, generator) -> batch`; whatever is random in it (augmentation, mixing, cropping)
draws from that generator, which is a function of (seed, epoch, batch, rank).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import ConfigError
from core.training.workers import Order, Workers


class Batches(Protocol):
    """What the loop needs; `ShuffledBatches`, `BucketedBatches` and `DrawnBatches` serve most domains."""

    def count(self, world: int) -> int:
        """Batches in an epoch for each of `world` processes."""
        ...

    def epoch(self, epoch: int, rank: int, world: int, start: int) -> Iterator[Any]:
        """Batches of an epoch for one process, from the `start`-th on; always the same ones."""
        ...


class MadeBatches:
    """What batches made by `make(rows, generator)` have in common: seeds, workers and their end.

    A subclass says `count` and `rows`; what is random in a batch is a function of (seed, epoch, number,
    rank).
    """

    def __init__(self, make: Callable[[Any, torch.Generator], Any], seed: int, workers: int = 0) -> None:
        if workers < 0:
            raise ConfigError(f"workers must not be negative, got {workers}.")
        self.make, self.seed, self.workers = make, seed, workers
        self.pool: Workers | None = None

    def count(self, world: int) -> int:
        """Batches in an epoch for each of `world` processes."""
        raise NotImplementedError

    def rows(self, epoch: int, rank: int, world: int) -> Sequence[Any] | Tensor:
        """What `make` is given for each batch of one process in an epoch."""
        raise NotImplementedError

    def epoch(self, epoch: int, rank: int, world: int, start: int) -> Iterator[Any]:
        """Batches of one process from the `start`-th on."""
        jobs = [
            Order(rows, mix(self.seed, epoch, number, rank))
            for number, rows in enumerate(self.rows(epoch, rank, world))
            if number >= start
        ]
        if self.pool is None:
            self.pool = Workers(self.make, self.workers)
        return self.pool.stream(jobs)

    def close(self) -> None:
        """End the worker processes; a later epoch starts new ones."""
        if self.pool is not None:
            self.pool.close()
        self.pool = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "pool": None}


class ShuffledBatches(MadeBatches):
    """Every example once an epoch, in a new order each time, cut to whole batches.

    `batch` counts examples over all processes, so one process and several see the same global batches.
    `workers` processes make batches ahead; the result does not depend on how many.
    """

    def __init__(
        self,
        size: int,
        batch: int,
        make: Callable[[Tensor, torch.Generator], Any],
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__(make, seed, workers)
        if batch < 1:
            raise ConfigError(f"batch must be positive, got {batch}.")
        if size < batch:
            raise ConfigError(f"a batch of {batch} needs as many examples; there are {size}. Lower batch?")
        self.size, self.batch = size, batch

    def count(self, world: int) -> int:
        """Batches in an epoch for each process.

        Raises:
            ConfigError: the batch cannot be shared evenly.
        """
        refuse_uneven(self.batch, world)
        return self.size // self.batch

    def rows(self, epoch: int, rank: int, world: int) -> Tensor:
        """Which examples each batch of an epoch holds: (batches, examples of this process)."""
        batches = self.count(world)
        order = epoch_order(self.size, self.seed, epoch)[: batches * self.batch]
        return order.view(batches, world, self.batch // world)[:, rank]


def refuse_uneven(batch: int, world: int) -> None:
    """Every process has the same work, or the run is refused."""
    if batch % world:
        raise ConfigError(f"a batch of {batch} cannot be shared by {world} processes.")


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The permutation of `size` examples in an epoch."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def mix(*numbers: int) -> int:
    """One 63-bit seed from several small numbers; near ones give unrelated seeds (splitmix64's finaliser)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) % 2**64
        mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) % 2**64
        mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on a device, through tuples, lists, dictionaries and dataclasses."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: to_device(part, device) for name, part in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(part, device) for part in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(part, device) for part in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        parts = {part.name: getattr(batch, part.name) for part in dataclasses.fields(batch) if part.init}
        return dataclasses.replace(batch, **{name: to_device(part, device) for name, part in parts.items()})
    return batch
