"""Two ways to compute one thing: outputs, final state and every gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from core.state import tensors

Compute = Callable[..., Any]


def results(compute: Compute, inputs: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and state as a flat list, and the gradients of a fixed random projection of them."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    found = list(tensors(compute(*leaves)))
    generator = torch.Generator().manual_seed(7)
    loss = sum(
        (part * torch.randn(part.shape, dtype=part.dtype, generator=generator)).sum() for part in found
    )
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)  # pyright: ignore[reportArgumentType]
    filled = zip(gradients, leaves, strict=True)
    return found, [torch.zeros_like(leaf) if gradient is None else gradient for gradient, leaf in filled]


def assert_agree(
    ours: Compute, definition: Compute, inputs: tuple[Tensor, ...], tolerance: float = 1e-9
) -> None:
    """Equal in all of it, to `tolerance` of the largest number of each tensor."""
    for one, other in zip(results(ours, inputs), results(definition, inputs), strict=True):
        for a, b in zip(one, other, strict=True):
            assert_close(a, b, rtol=0, atol=tolerance * (1 + b.abs().max().item()))


def assert_finite(compute: Compute, inputs: tuple[Tensor, ...]) -> None:
    """Outputs, state and gradients are numbers."""
    for group in results(compute, inputs):
        assert all(part.isfinite().all() for part in group)
