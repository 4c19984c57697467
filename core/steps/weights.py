"""A program that reads the weights of a network where they lie, and notices when the others have changed."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.kernels.jit import compiled
from core.kernels.vector_math import part
from core.steps import codes as do
from core.steps.places import NoProgram, Slot, memory_of

OUTSIDE, SPAN = 1 << 60, 1 << 40
"""Offsets in a program that mean a number of a parameter, until its memory is known."""
WORTH = 1024
"""Numbers from which on a weight is read where it lies."""


class LiveWeights:
    """Parameters and buffers of a network while a program is made of its step, and afterwards.

    Weights of products are read in place, so that whatever changes their numbers is seen. All others were
    copied, or the program holds what follows from them: `same_numbers` compares those.
    """

    def __init__(self, network: nn.Module) -> None:
        self.parts = [*network.parameters(), *network.buffers()]
        self.where = {part.untyped_storage().data_ptr(): place for place, part in enumerate(self.parts)}
        self.used: set[int] = set()
        if any(not part.is_contiguous() or not part.is_cpu or part.is_inference() for part in self.parts):
            raise NoProgram("weights that do not lie together")

    def place_of(self, value: Any) -> int | None:
        """Which of the parts holds the numbers of a tensor."""
        if not isinstance(value, Tensor):
            return None
        return self.where.get(value.untyped_storage().data_ptr())

    def copied(self, *values: Any) -> None:
        """A program holds copies of these, or what follows from them."""
        self.used |= {found for found in map(self.place_of, values) if found is not None}

    def left_alone(self, value: Any, rooms: dict[tuple[int, int], int]) -> Slot | None:
        """A weight of a product where it lies, or None if it is to be copied."""
        found = self.place_of(value)
        if found is None or value.numel() < WORTH or value.dtype not in (torch.float32, torch.float64):
            return None
        memory, start = memory_of(value.dtype), OUTSIDE + found * SPAN
        rooms[memory, start] = SPAN
        return Slot(memory, start + value.storage_offset(), tuple(value.shape), value.stride())

    def point(self, table: np.ndarray, memories: tuple[np.ndarray, np.ndarray]) -> None:
        """Put in where weights lie, seen from the memory of a program."""
        outside = np.isin(table[:, 0], (do.PRODUCT, do.LESS)) & (table[:, do.THIRD] >= OUTSIDE)
        for place in np.flatnonzero(outside):
            which, offset = divmod(int(table[place, do.THIRD]) - OUTSIDE, SPAN)
            memory = memories[table[place, 1]]
            # storage, not the first number: a view's offset counts from there
            start = self.parts[which].untyped_storage().data_ptr() - memory.ctypes.data
            table[place, do.THIRD] = start // memory.itemsize + offset

    def checks(self) -> tuple[np.ndarray, np.ndarray]:
        """For `same_numbers`: what the parts held, and (where they lie, where that is, how many words)."""
        parts = [self.parts[place].detach() for place in sorted(self.used)]
        if not all(part.ndim for part in parts):
            raise NoProgram("a parameter of no axes")
        flat = [np.frombuffer(part.view(torch.uint8).numpy(), np.int32) for part in parts]
        held = np.concatenate([np.zeros(1, np.int32), *flat])
        rows, at = [], 1
        for words in flat:
            rows.append([(words.ctypes.data - held.ctypes.data) // 4, at, len(words)])
            at += len(words)
        return held, np.array(rows, np.int64).reshape(-1, 3)


@compiled
def same_numbers(held: Any, checks: Any) -> bool:
    """Whether all parts hold what they held."""
    for index in range(checks.shape[0]):
        count = checks[index, 2]
        now, before = part(held, checks[index, 0], count), part(held, checks[index, 1], count)
        other = held.dtype.type(0)
        for t in range(count):
            other |= now[t] ^ before[t]
        if other != 0:
            return False
    return True
