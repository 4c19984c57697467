"""What a gated cell states about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

States = tuple[Tensor, ...]
Weights = tuple[Tensor | None, ...]


class Masks(Protocol):
    """What dropout does inside a cell."""

    def seen(self, h: Tensor) -> Tensor:
        """The old state as the recurrent weights see it."""
        ...

    def written(self, candidate: Tensor) -> Tensor:
        """What is new, before it is written into the memory."""
        ...


def seen(masks: Masks | None, h: Tensor) -> Tensor:
    """`masks.seen(h)` where there are any."""
    return h if masks is None else masks.seen(h)


def written(masks: Masks | None, candidate: Tensor) -> Tensor:
    """`masks.written(candidate)` where there are any."""
    return candidate if masks is None else masks.written(candidate)


@dataclass(frozen=True)
class Cell:
    """What a gated cell states about itself."""

    step: Callable[..., tuple[Tensor, States]]
    """The definition: gates (B, G), states, weights, and maybe masks -> y (B, P), states; plain torch."""
    kernel: str | None = None
    """Name of the compiled forward and backward, a file of `cells/`, if there is one."""
    options: tuple[Any, ...] = ()
    """What the compiled functions get as options."""
    candidate: bool = True
    """Whether the step writes a candidate into a memory, so that dropout of it means something."""
