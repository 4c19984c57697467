"""Products in bfloat16, everything else in float32: what a CPU with matrix units does several times faster.

Autocast would also take convolutions and what comes between, which costs published networks of 24 layers
30 dB of accuracy: they normalise small differences. Products alone leave MossFormer2 within 45 dB of float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from core.errors import ConfigError

# torch.mm is left alone: waves and masks are made with it, where an error is heard as it is
PRODUCTS = {F.linear, torch.matmul, torch.Tensor.__matmul__, torch.Tensor.matmul, torch.einsum, torch.bmm}


ADDED = torch.Tensor.addmm_
"""A product that is added to what is there."""


class HalfProducts(TorchFunctionMode):
    """`with HalfProducts(): network(x)`: products take bfloat16 and give float32. For evaluation."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is ADDED:
            into, *factors = args
            return into.add_(torch.mm(*map(half, factors)).float())  # of two kinds it would be far slower
        if func not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        out = (kwargs := dict(kwargs or {})).pop("out", None)
        found = func(*map(half, args), **{name: half(part) for name, part in kwargs.items()})
        return found.float() if out is None else out.copy_(found)


def half(value: Any) -> Any:
    """Floating-point tensors in bfloat16; everything else as it is."""
    return value.bfloat16() if isinstance(value, Tensor) and value.is_floating_point() else value


def halved(precision: str) -> bool:
    """Whether products are bfloat16.

    Raises:
        ConfigError: neither float32 nor bfloat16.
    """
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"precision is float32 or bfloat16, got {precision!r}.")
    return precision == "bfloat16"
