"""Elman network (Elman 1990, "Finding structure in time").

    h_t = phi(W x_t + b + U h_{t-1} + c),    phi = tanh or relu

Weights, two biases included, are laid out and named as in `torch.nn.RNN`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.units.contract import Unit

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class RNN(Unit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H)."""

    paper: ClassVar[str] = "Elman 1990, Finding structure in time"

    def __init__(
        self, input_size: int, hidden_size: int, *, activation: str = "tanh", bias: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation of an RNN is tanh or relu, got {activation!r}")
        self.activation = activation
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(hidden_size)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = ACTIVATIONS[self.activation](
            F.linear(x, self.weight_ih, self.bias_ih) + F.linear(state, self.weight_hh, self.bias_hh)
        )
        return h, h
