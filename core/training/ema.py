"""An exponential moving average of weights: often better than the last step, and free at prediction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """a <- d a + (1 - d) w after each step, with d = min(decay, (1 + n) / (10 + n)) so that it warms up.

    Buffers (batch-norm statistics, masks) are taken as they are: they are averages already, or constants.
    With `statistics` those of real numbers are averaged like weights, so that the two fit each other.
    """

    def __init__(self, model: nn.Module, decay: float, statistics: bool = False) -> None:
        self.decay = decay
        self.statistics = statistics
        self.updates = 0
        self.weights = {name: weight.detach().clone() for name, weight in self.averaged(model)}

    def averaged(self, model: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """What is averaged, by name."""
        yield from model.named_parameters()
        if self.statistics:
            yield from (
                (name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point()
            )

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of one more step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        weights = [weight.detach() for _, weight in self.averaged(model)]
        torch._foreach_lerp_(list(self.weights.values()), weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def worn_by(self, model: nn.Module) -> Iterator[None]:
        """Inside the block the model has the averaged weights; its own come back after."""
        own = {name: weight.detach().clone() for name, weight in self.averaged(model)}
        self.put(model, self.weights)
        try:
            yield
        finally:
            self.put(model, own)

    @torch.no_grad()
    def put(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        """Copy weights by name into the model."""
        for name, weight in self.averaged(model):
            weight.copy_(weights[name])

    def restart(self, model: nn.Module) -> None:
        """Go on from the model's weights, as far into the warm-up as before."""
        for name, weight in self.averaged(model):
            self.weights[name].copy_(weight.detach())

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, weight in state["weights"].items():
            self.weights[name].copy_(weight)
