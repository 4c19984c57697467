"""Batches of examples of like length, as many as a budget holds: little padding, even memory.

    batches = BucketedBatches(lengths, budget=16_384, make=make, seed=0)
    batches.padding()        # share of the padded batches that is padding, such as 0.048

Examples are sorted into buckets by length, once. The members of a bucket are one endless stream: all of them
in turn, each turn permuted by (seed, bucket, turn). An epoch takes the next whole batches of every stream and
mixes those of all buckets by (seed, epoch). So the number of batches is the same in each epoch, nobody is
left out for ever, and any epoch can be made alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.errors import ConfigError
from core.training.batches import MadeBatches, mix

BUCKETS = 24
"""Of lines of handwriting 24 buckets padded below 5 %, 8 buckets 12 %."""
CANDIDATES = 512
"""Lengths at which buckets may end, at most."""


class Bucket(NamedTuple):
    """Examples whose batches have one size."""

    members: Tensor
    """Their numbers, int64."""
    size: int
    """Examples of a batch, over all processes."""
    count: int
    """Batches in an epoch."""


class BucketedBatches(MadeBatches):
    """Batches of like length whose padded size, examples times the longest, stays within `budget`.

    Each example comes once an epoch on average. Batches are split over processes example by example, so one
    process and several see the same global batches as long as `multiple` is a multiple of the processes.

    Args:
        lengths: of each example, in any unit of measure (frames, samples, columns of pixels).
        budget: the largest padded batch over all processes, in the same unit.
        make: (numbers of examples, generator) -> batch.
        multiple: batches of at least as many examples hold a multiple of it.
        buckets: how many there are at most.
        largest: examples of a batch at most; None: as many as the budget holds.

    Raises:
        ConfigError: there is no example, or one that the budget cannot hold.
    """

    def __init__(
        self,
        lengths: Sequence[int] | Tensor,
        budget: int,
        make: Callable[[Tensor, torch.Generator], Any],
        seed: int,
        workers: int = 0,
        *,
        multiple: int = 2,
        buckets: int = BUCKETS,
        largest: int | None = None,
    ) -> None:
        super().__init__(make, seed, workers)
        self.lengths = torch.as_tensor(lengths)
        self.budget, self.multiple, self.largest = budget, multiple, largest
        if self.lengths.ndim != 1 or not len(self.lengths):
            raise ConfigError(f"buckets need one length an example; got {tuple(self.lengths.shape)}.")
        if min(multiple, buckets) < 1 or (largest is not None and largest < 1):
            raise ConfigError(
                f"multiple, buckets and largest must be positive; got {multiple}, {buckets} and {largest}."
            )
        if self.lengths.min() < 1:
            raise ConfigError(
                f"example {int(self.lengths.argmin())} has length {self.lengths.min().item():g}."
            )
        if self.lengths.max() > budget:
            longest = int(self.lengths.argmax())
            raise ConfigError(
                f"example {longest} has length {self.lengths[longest].item():g}, above the budget of a batch "
                f"({budget:g}). Raise the budget, or leave the example out."
            )
        self.edges = self.cut(buckets)

    def cut(self, buckets: int) -> list[Tensor]:
        """Members of each bucket: the cut with the least padding, those too small for a batch merged."""
        borders = least_padding(self.lengths, buckets)
        numbers = torch.bucketize(self.lengths, borders)  # the first border that is not below the length
        kept: list[Tensor] = []
        for number in range(len(borders)):
            members = (numbers == number).nonzero()[:, 0]
            if kept and len(kept[-1]) < self.size_of(kept[-1], 1):
                members = torch.cat([kept.pop(), members])
            kept.append(members)
        while len(kept) > 1 and len(kept[-1]) < self.size_of(kept[-1], 1):
            last = kept.pop()
            kept[-1] = torch.cat([kept[-1], last])
        return kept

    def size_of(self, members: Tensor, world: int) -> int:
        """Examples of a batch of these, over all processes."""
        size = int(self.budget // self.lengths[members].max().item())
        size = min(size, self.largest or size)
        return self.rounded(size, world, math.floor)

    def rounded(self, size: int, world: int, way: Callable[[float], int]) -> int:
        """A size that is a multiple of `multiple` and the processes, where it reaches them."""
        for whole in (self.multiple, world):
            if size >= whole:
                size = way(size / whole) * whole
        return size

    def divided(self, world: int) -> list[Bucket]:
        """The buckets as `world` processes see them.

        Raises:
            ConfigError: the budget does not hold an example for each process.
        """
        found = []
        for members in self.edges:
            largest = min(self.size_of(members, world), len(members))
            largest -= largest % world
            if not largest:
                raise ConfigError(
                    f"a batch of examples of length {self.lengths[members].max().item():g} holds fewer "
                    f"of them (budget {self.budget:g}, {len(members)} in all) than the processes ({world})."
                )
            # The last batch is not smaller than the others: all are, so that a turn fills an epoch.
            count = math.ceil(len(members) / largest)
            size = self.rounded(round(len(members) / count), world, round)
            found.append(Bucket(members, min(size, largest), count))
        return found

    def count(self, world: int) -> int:
        """Batches in each epoch."""
        return sum(bucket.count for bucket in self.divided(world))

    def rows(self, epoch: int, rank: int, world: int) -> list[Tensor]:
        """Numbers of the examples of each batch of one process, int64."""
        batches = []
        for number, bucket in enumerate(self.divided(world)):
            first = epoch * bucket.count * bucket.size
            taken = self.stream(number, bucket.members, first, first + bucket.count * bucket.size)
            batches += list(taken.view(bucket.count, world, bucket.size // world)[:, rank])
        order = torch.randperm(len(batches), generator=seeded(self.seed, epoch))
        return [batches[number] for number in order]

    def stream(self, number: int, members: Tensor, first: int, last: int) -> Tensor:
        """Places `first` to `last` of a bucket's endless stream."""
        turns = range(first // len(members), (last - 1) // len(members) + 1)
        taken = [
            members[torch.randperm(len(members), generator=seeded(self.seed, number, turn, 1))]
            for turn in turns
        ]
        start = turns.start * len(members)
        return torch.cat(taken)[first - start : last - start]

    def padding(self, epoch: int = 0, world: int = 1) -> float:
        """The share of an epoch's batches that is padding, each padded to its own longest example."""
        valid = padded = 0.0
        for rank in range(world):
            for rows in self.rows(epoch, rank, world):
                lengths = self.lengths[rows].double()
                valid += lengths.sum().item()
                padded += lengths.max().item() * len(rows)
        return 1 - valid / padded


def least_padding(lengths: Tensor, buckets: int) -> Tensor:
    """Longest length of each of so many buckets, rising, so that padding everybody to it costs least.

    Exact where there are at most `CANDIDATES` different lengths: the best cut of the first j of them into k
    buckets is the best cut of the first i into k - 1, and one bucket for the rest, for the best i.
    """
    edges, counts = lengths.unique(return_counts=True)
    if len(edges) > CANDIDATES:
        chosen = torch.linspace(0, len(edges) - 1, CANDIDATES).round().long()
        counts = torch.stack([part.sum() for part in counts.tensor_split((chosen[:-1] + 1).tolist())])
        edges = edges[chosen]
    held = torch.cat([torch.zeros(1), counts.cumsum(0)]).double()  # examples below each candidate
    cost = (held[None, 1:] - held[:-1, None]) * edges.double()  # (i, j): a bucket of candidates i to j
    cost[torch.ones_like(cost, dtype=torch.bool).tril(-1)] = math.inf
    best, choices = cost[0], []
    for _ in range(min(buckets, len(edges)) - 1):
        # The bucket that ends at j begins at i; those before end at i - 1.
        whole = torch.cat([cost[:1], best[:-1, None] + cost[1:]])
        best, first = whole.min(0)
        choices.append(first)
    last, borders = len(edges) - 1, []
    for first in reversed(choices):
        borders.append(last)
        last = int(first[last]) - 1
        if last < 0:
            break
    else:
        borders.append(last)
    return edges[torch.tensor(borders[::-1])]


def seeded(*numbers: int) -> torch.Generator:
    """A generator for these numbers alone."""
    return torch.Generator().manual_seed(mix(*numbers))
