"""What is checked, and with what: a unit of small width, tokens, comparisons."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from core import registry
from core.state import State, map_state, tensors
from core.units.contract import Unit

WIDTH = 8
"""Input and hidden width of the units that are checked."""


@dataclass(frozen=True)
class Subject:
    """A unit under check: its class, or its name in the registry, and options."""

    unit: Any
    options: dict[str, Any] = field(default_factory=dict)

    def make(self, dtype: torch.dtype = torch.float64) -> Unit:
        """The unit, with noise on parameters whose initial values would hide errors behind zeros."""
        torch.manual_seed(1)
        unit = registry.build(self.unit, WIDTH, **self.options).to(dtype)
        for parameter in unit.parameters():
            noise = torch.randn(parameter.shape, dtype=torch.float64)  # the same numbers in every type
            parameter.data.add_(0.1 * noise.to(dtype))
        return unit


def refused(call: Callable[[], Any], message: str) -> None:
    """The call raises a ValueError whose text matches."""
    said = "nothing"
    try:
        call()
    except ValueError as error:
        said = str(error)
    assert re.search(message, said), f"says {said}, expected something about {message}"


def sample(batch: int = 3, time: int = 11, dtype: torch.dtype = torch.float64) -> Tensor:
    """Tokens (B, T, WIDTH) on torch's default device, always the same."""
    return drawn((batch, time, WIDTH), torch.Generator("cpu").manual_seed(2), dtype)


def drawn(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Normal numbers of a generator of the CPU on torch's default device: the same on all of them."""
    numbers = torch.randn(shape, dtype=dtype, generator=generator, device="cpu")
    return numbers.to(torch.get_default_device())


def close(a: Any, b: Any, tolerance: float = 1e-10) -> None:
    """Equal to `tolerance` of the largest value, for tensors or states."""
    for left, right in zip(tensors(a), tensors(b), strict=True):
        scale = 1 + (right.abs().max().item() if right.numel() and right.is_floating_point() else 0)
        finite = torch.nan_to_num(left, neginf=-1e30), torch.nan_to_num(right, neginf=-1e30)
        assert_close(*finite, rtol=tolerance, atol=tolerance * scale)


def results(unit: Unit, x: Tensor, mode: str, start: State | None) -> tuple[Any, list[Tensor]]:
    """Output, final state, and every gradient of a random projection of both."""
    x = x.clone().requires_grad_()
    start = (
        None
        if start is None
        else map_state(lambda part: part.clone().requires_grad_(part.is_floating_point()), start)
    )
    y, end = unit(x, start, mode)
    generator = torch.Generator("cpu").manual_seed(3)
    loss = torch.zeros((), dtype=x.dtype)
    for part in [y, *tensors(end)]:
        if part.requires_grad:
            weight = drawn(tuple(part.shape), generator, x.dtype)
            part = part.real + part.imag if part.is_complex() else part
            loss = loss + (torch.where(part.isfinite(), part, 0) * weight).sum()
    sources = [x, *unit.parameters()]
    sources += [part for part in tensors(start) if part.requires_grad] if start is not None else []
    gradients = torch.autograd.grad(loss, sources, allow_unused=True)
    return (y, end), [
        torch.zeros_like(source) if gradient is None else gradient
        for gradient, source in zip(gradients, sources, strict=True)
    ]
