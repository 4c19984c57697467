"""Log -> tensors, and what a network is told about a step that happened."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys.slates import FIRST, PAD, RECOMMENDATION, UNKNOWN, Slates


@dataclass(frozen=True)
class Steps:
    """A batch of users as tensors."""

    slate: Tensor
    """(B, T, S) int64"""
    click_idx: Tensor
    """(B, T) int64, slot of the click."""
    lengths: Tensor
    """(B, T) int64, filled slots; 0: the step was not used."""
    kind: Tensor
    """(B, T) int64"""
    counted: Tensor
    """(B, T) bool: the likelihood counts the step."""

    @property
    def used(self) -> Tensor:
        """(B, T) bool."""
        return self.lengths > 0

    @property
    def click(self) -> Tensor:
        """(B, T) item clicked; 1 or 0 where there is none."""
        return self.slate.gather(-1, self.click_idx[..., None])[..., 0]

    @property
    def ends(self) -> Tensor:
        """(B,) how many steps there are up to the last used one."""
        place = torch.arange(1, self.lengths.shape[1] + 1, device=self.lengths.device)
        return (self.used * place).amax(1)

    def filled(self) -> Tensor:
        """(B, T, S) bool: slots that were on the screen, slot 0 among them."""
        return torch.arange(self.slate.shape[-1], device=self.slate.device) < self.lengths[..., None]

    @property
    def offered(self) -> Tensor:
        """(B, T, S) bool: slots of recommendation slates that hold an item."""
        return self.filled() & (self.slate >= FIRST) & (self.kind == RECOMMENDATION)[..., None]

    def first(self, steps: int) -> "Steps":
        """The first steps alone."""
        return replace(self, **{name: getattr(self, name)[:, :steps] for name in NAMES})

    def rows(self, index: Any) -> "Steps":
        """Some of the users."""
        return replace(self, **{name: getattr(self, name)[index] for name in NAMES})


NAMES = ("slate", "click_idx", "lengths", "kind", "counted")


def steps_of(slates: Slates, rows: np.ndarray | slice | None = None) -> Steps:
    """Users of a log as tensors; only these rows are read from a memory map."""
    part = slates if rows is None else slates.rows(rows)

    def whole(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array).astype(np.int64))

    lengths, click = whole(part.lengths), whole(part.click)
    return Steps(
        slate=whole(part.slate),
        click_idx=whole(part.click_idx),
        lengths=lengths,
        kind=whole(part.kind).clamp(0, 2),
        counted=(lengths > 0) & (click != PAD) & (click != UNKNOWN),
    )
