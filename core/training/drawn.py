"""Batches that are drawn or generated, not taken from a list: an epoch is so many of them.

DrawnBatches(steps=200, batch=512, make=draw, seed=0)          # draw(512, generator)
DrawnBatches(200, 512, make, 0, shares={"made": 4, "real": 1})  # make({"made": 410, "real": 102}, generator)
"""

import math
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

import torch

from core.errors import ConfigError
from core.training.batches import MadeBatches, mix, refuse_uneven


class DrawnBatches(MadeBatches):
    """An epoch of `steps` batches of `batch` examples over all processes.

    Args:
        make: (how many, generator) -> batch; with shares (how many of each source, generator) -> batch.
        shares: of each source in a batch; they need not add up to one. `make` gets whole numbers by name that
            add up to the batch. A source of less than one example a batch comes in some batches.

    Raises:
        ConfigError: sizes or shares that are not positive.
    """

    def __init__(
        self,
        steps: int,
        batch: int,
        make: Callable[[Any, torch.Generator], Any],
        seed: int,
        workers: int = 0,
        *,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(make, seed, workers)
        if min(steps, batch) < 1:
            raise ConfigError(f"steps and batch must be at least 1, got {steps} and {batch}.")
        if shares is not None:
            refuse_odd(shares)
        self.steps, self.batch, self.shares = steps, batch, shares

    def count(self, world: int) -> int:
        """Batches in an epoch.

        Raises:
            ConfigError: the batch cannot be shared evenly.
        """
        refuse_uneven(self.batch, world)
        return self.steps

    def rows(self, epoch: int, rank: int, world: int) -> list[Any]:
        """How many examples, or how many of each source, for each batch of one process."""
        self.count(world)
        own = self.batch // world
        if self.shares is None:
            return [own] * self.steps
        return [self.counts(epoch, number, rank, own) for number in range(self.steps)]

    def counts(self, epoch: int, number: int, rank: int, own: int) -> dict[str, int]:
        """Examples of each source in one batch of one process."""
        assert self.shares is not None
        even = split_count(self.shares, own)
        if all(even[name] or not share for name, share in self.shares.items()):
            return even
        # Rounding would never draw the rarest source: from batch to batch the borders move by chance.
        return split_count(self.shares, own, mix(self.seed, epoch, number, rank, 2) / 2**63)


def split_count(shares: Mapping[str, float], count: int, at: float = 0.5) -> dict[str, int]:
    """Whole numbers by name that add up to `count`.

    `at` (0 up to 1) is added to the borders before their fractions are cut off: 0.5 rounds them. Drawn
    evenly, it makes the mean of each number exactly its share (systematic sampling).
    """
    refuse_odd(shares)
    total = math.fsum(shares.values())
    edges = [
        min(count, math.floor(edge / total * count + at)) for edge in accumulate(shares.values(), initial=0.0)
    ]
    edges[-1] = count
    return {name: high - low for name, low, high in zip(shares, edges, edges[1:], strict=False)}


def refuse_odd(shares: Mapping[str, float]) -> None:
    """Shares are numbers that are not negative, and not all zero."""
    wrong = [f"{name} {share}" for name, share in shares.items() if not (share >= 0 and math.isfinite(share))]
    if wrong or not any(shares.values()):
        raise ConfigError(
            f"shares must not be negative, and one must be positive; got {', '.join(wrong) or 'none'}."
        )
