"""What a gated cell states about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

States = tuple[Tensor, ...]
Weights = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Cell:
    """What a gated cell states about itself."""

    step: Callable[[Tensor, States, Weights], tuple[Tensor, States]]
    """The definition: gates (B, G), states, weights -> y (B, P), states; plain differentiable torch."""
    kernel: str | None = None
    """Name of the compiled forward and backward, a file of `cells/`, if there is one."""
    options: tuple[Any, ...] = ()
    """What the compiled functions get as options."""
