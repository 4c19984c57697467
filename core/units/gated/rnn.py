"""Elman network (Elman 1990, "Finding structure in time").

    h_t = phi(W x_t + b + U h_{t-1} + c),    phi = tanh or relu

Weights, two biases included, are named and laid out as in `torch.nn.RNN`.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, Masks, States, Weights, seen
from core.units.gated.gated_unit import GatedUnit, added, maybe, uniform

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class RNN(GatedUnit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H).

    Args:
        activation: tanh or relu.
        bias: whether both biases are there.
    """

    paper = "Elman 1990, Finding structure in time"

    def __init__(
        self, input_size: int, hidden_size: int, *, activation: str = "tanh", bias: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation of an RNN is tanh or relu, got {activation!r}")
        self.activation = activation
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih, self.bias_hh = maybe(bias, hidden_size), maybe(bias, hidden_size)
        uniform(self, hidden_size**-0.5)
        self.cell = Cell(partial(elman_step, activation), "rnn", (activation,), candidate=False)

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.weight_ih, added(self.bias_ih, self.bias_hh)

    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight_hh,)


def elman_step(
    activation: str, gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, H)."""
    h = ACTIVATIONS[activation](gates + F.linear(seen(masks, state[0]), weights[0]))  # pyright: ignore[reportArgumentType]
    return h, (h,)
