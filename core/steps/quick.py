"""A unit's own `step`, as one compiled call once it has been asked for often.

Calling torch costs microseconds an operator and a step has 10 to 100 of them. After `OFTEN` steps without
gradients on a CPU the operators of a step are written down once (`core.steps.program`), and then a step is
one call. Weights are read where they lie; what follows from the other parameters is compared with them at
every step, so changed ones are noticed whoever changed them. Whatever is not as it was when the operators
were written down takes the eager step again.
"""

from threading import Lock
from typing import Any

import torch
from torch import Tensor

from core.state import tensors
from core.steps.places import KINDS, NoProgram, plain

OFTEN = 300
"""Steps after which it pays: writing down takes about as long as a few thousand of them."""
NEVER = 1 << 62
FEW = 4
"""Rows up to which the machine is faster than torch's operators."""


class Quick:
    """Counts the steps of a unit, and takes them when there have been enough."""

    def __init__(self) -> None:
        self.calls, self.often = 0, OFTEN
        self.way: Any = None
        self.busy = Lock()  # memories of a program serve one thread at a time

    def __reduce__(self) -> tuple[Any, ...]:
        return Quick, ()  # a copy of a unit counts anew

    def step(self, unit: Any, x: Tensor, state: Any) -> tuple[Tensor, Any] | None:
        """One token without gradients, or None: the eager step is to be taken."""
        way = self.way
        if way is None:
            self.calls += 1
            if self.calls < self.often or not suits(unit, x, state):
                return None
            way = self.begin(unit, x, state)
        if way is None:
            return None
        parts = way.fitting(unit, x, state)
        if parts is None:
            self.missed()
            return None
        if not self.busy.acquire(blocking=False):
            return None
        try:
            found = way.taken(parts)
        finally:
            self.busy.release()
        if found is None:
            self.way, self.often = None, 2 * self.often  # who changes weights all the time stays eager
        return found

    def begin(self, unit: Any, x: Tensor, state: Any) -> Any:
        """Write the step down; None if another thread is at it, or it cannot be."""
        if not self.busy.acquire(blocking=False):
            return None
        try:
            from core.steps.way import Way  # brings torch's tracer and the compiler: a second

            self.calls, self.way = 0, Way(unit, x, state)
        except (NoProgram, ImportError):  # or numba is not installed
            self.often = NEVER
        finally:
            self.busy.release()
        return self.way

    def missed(self) -> None:
        """A step of another kind; after many of them the next one is written down in turn."""
        if self.way is not None:
            self.calls += 1
            if self.calls >= self.often:
                self.way, self.often = None, 2 * self.often
                self.calls = self.often - 1


def suits(unit: Any, x: Tensor, state: Any) -> bool:
    """Whether steps like this one are faster as a program."""
    if len(x) > FEW or x.dtype not in (torch.float32, torch.float64) or (unit.training and unit.noisy):
        return False
    return plain(x) and all(part.is_cpu and part.dtype in KINDS for part in (x, *tensors(state)))
