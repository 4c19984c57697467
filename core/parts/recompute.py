"""Activations made again in the backward pass instead of kept (Chen et al. 2016, arXiv 1604.06174)."""

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Recomputed:
    """A module whose training pass keeps its inputs only."""

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        forward = super().forward  # pyright: ignore[reportAttributeAccessIssue]
        if not (self.training and torch.is_grad_enabled()):
            return forward(*args, **options)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=True, **options)


@lru_cache(maxsize=256)
def recomputed(cls: type[nn.Module]) -> type[nn.Module]:
    """The class with `Recomputed` before it."""
    return type(cls.__name__, (Recomputed, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def checkpointed(module: nn.Module) -> nn.Module:
    """The module itself, which from now on trades a second forward pass for its activations.

    Names of parameters, values, gradients and random draws stay as they are, so weights and resumed runs do
    not see it. Running statistics (BatchNorm) would be updated twice: keep them outside.
    """
    if not isinstance(module, Recomputed):
        module.__class__ = recomputed(type(module))  # pyright: ignore[reportAttributeAccessIssue]
    return module
