"""Batches of sequences: a row a user, or session-parallel lanes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from recsys.sequences.data import Sequences, left_padded


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
    """Rows of a batch -> a `Batch` with a row a user.

    Args:
        prefixes: end every row at a random item; for blocks that learn from the last position alone.
    """

    def __init__(self, learned: Sequences, length: int, draw: Drawer, prefixes: bool = False) -> None:
        self.items = torch.from_numpy(left_padded(learned.items, length + 1))
        times = learned.times
        self.times = None if times is None else torch.from_numpy(left_padded(times, length + 1))
        self.draw, self.prefixes = draw, prefixes

    def __call__(self, rows: Tensor, generator: Generator) -> Batch:
        items, negatives = self.items[rows], self.draw(generator)
        if self.prefixes:
            left = (torch.rand(len(rows), generator=generator) * ((items > 0).sum(1) - 1)).long()
            place = torch.arange(items.shape[1]) - left[:, None]
            items = items.gather(1, place.clamp_min(0)) * (place >= 0)
        if self.times is None:
            return Batch(items[:, :-1], items[:, 1:], negatives)
        times = self.times[rows]
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
