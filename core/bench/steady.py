"""A step in the midst of a stream: so many were taken before that it has become one call, where it does."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.state import detach
from core.steps.quick import OFTEN


def steady_step(unit: Any, x: Tensor, state: Any = None) -> Callable[[], Any]:
    """One token of a unit without gradients; x (B, I)."""
    state = detach(unit.initial_state(x) if state is None else state)

    @torch.no_grad()
    def step() -> Any:
        return unit.step(x, state)

    for _ in range(OFTEN + 1):
        step()
    return step
