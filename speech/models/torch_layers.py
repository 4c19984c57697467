"""Recurrences as layers of torch.nn, which exporters have one operator for."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from core.layouts.torch_nn import torch_nn_layer
from speech.models.recurrence import Recurrence, is_plain


class Fused(nn.Module):
    """A recurrence as one layer of torch.nn, with the states of its units."""

    def __init__(self, source: Recurrence) -> None:
        super().__init__()
        units: list[Any] = list(source.units)
        self.input_size, self.directions = source.input_size, source.directions
        self.output_size = source.output_size
        self.cell = is_plain(units[0])
        self.layer = torch_nn_layer(units)

    def initial_state(self, x: Tensor) -> tuple[Any, ...]:
        zero = x.new_zeros(x.shape[0], self.layer.hidden_size)
        return tuple((zero, zero.clone()) if self.cell else zero for _ in range(self.directions))

    def forward(
        self, x: Tensor, states: tuple[Any, ...] | None = None, norm: nn.LayerNorm | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        x = x if norm is None else norm(x)
        states = self.initial_state(x) if states is None else states
        if not self.cell:
            y, end = self.layer(x, torch.stack(list(states)))
            return y, tuple(end.unbind(0))
        y, (h, c) = self.layer(x, tuple(torch.stack([state[i] for state in states]) for i in (0, 1)))
        return y, tuple(zip(h.unbind(0), c.unbind(0), strict=True))

    def step(self, x: Tensor, states: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        y, states = self.forward(x[:, None], states)
        return y[:, 0], states


def fused(network: nn.Module) -> nn.Module:
    """A copy whose plain LSTMs and GRUs are torch's own layers."""
    network = deepcopy(network).eval()
    for name, part in list(network.named_modules()):
        if not isinstance(part, Recurrence):
            continue
        first: Any = part.units[0]
        if getattr(first, "library", None) in ("lstm", "gru"):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, Fused(part))
    return network
