"""Batches of inks that grow longer: CTC learns what a character is from short texts, and then where it ends.

On whole lines from the start, a network that reads forwards alone stays with blanks for thousands of steps.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError
from core.training.batches import MadeBatches, mix

GROWTH = ((0.15, 3), (0.35, 8))
"""Until these shares of the epochs, texts have at most so many characters; then all come."""


class GrowingBatches(MadeBatches):
    """`steps` batches an epoch of inks of like length whose padded size stays within `budget`.

    Args:
        lengths: steps of each ink.
        characters: of its text.
        epochs: of the run, over which the texts grow; 0: all come at once.
        make: (numbers of inks, generator) -> batch.

    Raises:
        ConfigError: there is no ink, or one that the budget cannot hold.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        characters: Sequence[int],
        steps: int,
        budget: int,
        epochs: int,
        make: Callable[[Any, torch.Generator], Any],
        seed: int,
        workers: int = 0,
    ) -> None:
        super().__init__(make, seed, workers)
        self.lengths, self.characters = np.asarray(lengths), np.asarray(characters)
        if not len(self.lengths) or self.lengths.max() > budget:
            raise ConfigError(f"there is no ink to learn from, or one of more than {budget} steps.")
        self.steps, self.budget, self.epochs = steps, budget, epochs

    def count(self, world: int) -> int:
        """Batches in an epoch."""
        return self.steps

    def allowed(self, epoch: int) -> np.ndarray:
        """Numbers of the inks that an epoch draws from; all where none is short enough."""
        for share, limit in GROWTH:
            if epoch < share * self.epochs:
                short = np.flatnonzero(self.characters <= limit)
                return short if len(short) else np.arange(len(self.lengths))
        return np.arange(len(self.lengths))

    def rows(self, epoch: int, rank: int, world: int) -> list[Tensor]:
        """Numbers of the inks of each batch of one process."""
        rng = np.random.default_rng(mix(self.seed, epoch))
        allowed = self.allowed(epoch)
        batches: list[np.ndarray] = []
        while len(batches) < self.steps:
            # near lengths side by side, with some chance in who is near whom
            order = allowed[np.argsort(self.lengths[allowed] * rng.uniform(0.9, 1.1, len(allowed)))]
            found, at = [], 0
            while at < len(order):
                padded = np.maximum.accumulate(self.lengths[order[at:]]) * np.arange(1, len(order) - at + 1)
                size = max(1, int(np.searchsorted(padded, self.budget, "right")))
                found.append(np.resize(order[at : at + size], max(size, world)))
                at += size
            batches += [found[i] for i in rng.permutation(len(found))]
        return [torch.from_numpy(batch[rank::world].copy()) for batch in batches[: self.steps]]
