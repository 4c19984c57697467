"""Floating type and layout at the door of a kernel."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def widen(*tensors: Any) -> tuple[Any, ...]:
    """All tensors in one floating type of at least 32 bits; None stays None.

    Decays, running sums and normalisers lose their meaning in half precision.
    """
    dtype = torch.float32
    for tensor in tensors:
        if tensor is not None:
            dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(None if tensor is None else tensor.to(dtype) for tensor in tensors)


def at_least_single(x: Tensor) -> Tensor:
    """x in float32, or float64 where it is: gates and norms lose too much in half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def state_zeros(x: Tensor, *shape: int, fill: float = 0.0) -> Tensor:
    """A state tensor on the device of x, in its type but never below 32 bits."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.full(shape, fill, dtype=dtype, device=x.device)


def without_autocast(kernel: Callable[P, R]) -> Callable[P, R]:
    """Run a kernel in the types it was given: autocast would do its matrix products in half precision."""

    @wraps(kernel)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        first = next(arg for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor))
        if not torch.is_autocast_enabled(first.device.type):
            return kernel(*args, **kwargs)
        with torch.autocast(first.device.type, enabled=False):
            return kernel(*args, **kwargs)

    return run
