"""Batches of sequences: a row a user, or session-parallel lanes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from recsys.sequences.data import Sequences


class Batch(NamedTuple):
    """Items that are read, the ones that follow, and what stands beside them."""

    seen: Tensor
    """(B, L) padded with 0."""
    target: Tensor
    """(B, L)"""
    negatives: Tensor
    """(k,) drawn for the whole batch."""
    time: Tensor | None = None
    """(B, L) seconds."""
    following: Tensor | None = None
    """(B, L) seconds of the targets."""
    begins: Tensor | None = None
    """(B, L) bool: a session begins here, in lanes."""


class Drawer:
    """Negatives (k,) by popularity^alpha, with log of how often each item (n + 1,) is drawn."""

    def __init__(self, learned: Sequences, negatives: int, alpha: float) -> None:
        count = np.bincount(np.concatenate(learned.items), minlength=len(learned.names) + 1).astype(float)
        weight = np.maximum(count, 1e-9 if alpha else 1.0) ** alpha
        weight[0] = 0.0
        chance = torch.from_numpy(weight / weight.sum())
        self.chance, self.negatives = chance.float(), negatives
        self.log_drawn = chance.clamp_min(1e-12).log().float()
        share = torch.from_numpy(count / max(count.sum(), 1))
        self.log_clicked = share.clamp_min(1e-12).log().float()

    def __call__(self, generator: Generator) -> Tensor:
        return torch.multinomial(self.chance, self.negatives, replacement=True, generator=generator)


class RowBatches:
    """Rows of a batch -> a `Batch` with a row a user: of longer sequences a window anywhere in them.

    Args:
        prefixes: end every row at a random item; for blocks that learn from the last position alone.
    """

    def __init__(self, learned: Sequences, length: int, draw: Drawer, prefixes: bool = False) -> None:
        self.sizes = torch.tensor([len(part) for part in learned.items])
        self.starts = torch.cat([self.sizes.new_zeros(1), self.sizes.cumsum(0)[:-1]])
        self.items = torch.from_numpy(np.concatenate(learned.items))
        times = learned.times
        self.times = None if times is None else torch.from_numpy(np.concatenate(times))
        self.width, self.draw, self.prefixes = length + 1, draw, prefixes

    def __call__(self, rows: Tensor, generator: Generator) -> Batch:
        sizes, negatives = self.sizes[rows], self.draw(generator)
        least = sizes.clamp_max(2 if self.prefixes else self.width)
        luck = torch.rand(len(rows), generator=generator)
        ends = least + (luck * (sizes - least + 1)).long()
        place = ends[:, None] - self.width + torch.arange(self.width)
        inside = place >= 0
        place = (self.starts[rows, None] + place).clamp_min(0)
        items = self.items[place] * inside
        if self.times is None:
            return Batch(items[:, :-1], items[:, 1:], negatives)
        times = self.times[place] * inside
        return Batch(items[:, :-1], items[:, 1:], negatives, times[:, :-1], times[:, 1:])


class LaneBatches:
    """Rows of a batch -> a `Batch` of lanes that hold whole sessions one after the other.

    Targets of the other lanes at the same step are negatives. A batch begins with sessions that begin, so
    nothing is carried from batch to batch and an interrupted run goes on with the same bits.
    """

    def __init__(self, learned: Sequences, length: int, lanes: int, draw: Drawer) -> None:
        self.parts = [part[-(length + 1) :] for part in learned.items]
        self.lanes, self.draw = lanes, draw

    def __call__(self, rows: Tensor, generator: Generator) -> Batch:
        lanes: list[list[int]] = [[] for _ in range(min(self.lanes, len(rows)))]
        filled = np.zeros(len(lanes), np.int64)
        for row in rows.tolist():  # the next session goes where a lane is free first
            shortest = int(filled.argmin())
            lanes[shortest].append(row)
            filled[shortest] += len(self.parts[row]) - 1
        shape = (len(lanes), int(filled.max()))
        seen, target = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        begins = np.zeros(shape, bool)
        for lane, own in enumerate(lanes):
            at = 0
            for row in own:
                part = self.parts[row]
                stop = at + len(part) - 1
                seen[lane, at:stop], target[lane, at:stop] = part[:-1], part[1:]
                begins[lane, at] = True
                at = stop
        return Batch(
            torch.from_numpy(seen),
            torch.from_numpy(target),
            self.draw(generator),
            begins=torch.from_numpy(begins),
        )
