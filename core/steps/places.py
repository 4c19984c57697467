"""Where the tensors of a program lie, and which tensors can be in one."""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from torch.autograd import forward_ad

KINDS = {torch.float32: 0, torch.float64: 1, torch.int64: 2, torch.bool: 3}
"""Types of tensors that a compiled step takes and gives."""


class NoProgram(Exception):
    """The step has an operator that the machine does not."""


@dataclass(frozen=True)
class Slot:
    """A tensor in a memory: 0 float32, 1 float64."""

    memory: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def contiguous(self) -> bool:
        return all(
            size == 1 or own == want
            for size, own, want in zip(self.shape, self.strides, dense(self.shape), strict=True)
        )

    def expanded(self, shape: tuple[int, ...]) -> "Slot":
        """The same numbers in a larger shape, stride 0 where they repeat."""
        missing = len(shape) - len(self.shape)
        own = ((1,) * missing + self.shape, (0,) * missing + self.strides)
        strides = tuple(0 if size == 1 else step for size, step in zip(*own, strict=True))
        return replace(self, shape=tuple(shape), strides=strides)


@dataclass(frozen=True)
class ComplexSlot:
    """A complex tensor."""

    re: Slot
    im: Slot


def dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a contiguous tensor."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def view(value: Slot, order: list[int]) -> Slot:
    """Axes in another order."""
    return replace(
        value, shape=tuple(value.shape[a] for a in order), strides=tuple(value.strides[a] for a in order)
    )


def memory_of(dtype: torch.dtype) -> int:
    """Numbers that float32 holds exactly are there, all others in float64."""
    return 0 if dtype in (torch.float32, torch.bool, torch.float16, torch.bfloat16, torch.complex64) else 1


def plain(x: Tensor) -> bool:
    """Whether nothing watches over the operators: no transforms, modes, tangents or lower precision."""
    return (
        forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
        and not torch.is_autocast_enabled("cpu")
    )
