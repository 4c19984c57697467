"""Independently recurrent network (Li et al. 2018, arXiv 1803.04831): each channel sees only itself.

    h_t = phi(W x_t + b + u * h_{t-1}),    phi = relu (the paper) or tanh

|u| <= 2^(1/T) keeps the gradient over T tokens below 2; u starts uniform in 0..1.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, Masks, States, Weights, seen
from core.kernels.gated_loop.vector_rows import vector_rows
from core.kernels.precision import widen
from core.parts.memory import Tokens, time_constants
from core.parts.packed import packed
from core.units.gated.gated_unit import maybe, uniform
from core.units.gated.newton_unit import NewtonUnit
from core.units.gated.rnn import ACTIVATIONS


class IndRNN(NewtonUnit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H).

    Args:
        activation: relu or tanh.
        bias: whether there is one.
    """

    paper = "Li et al. 2018, arXiv 1803.04831"
    no_decay = ("weight_hh",)

    def __init__(
        self, input_size: int, hidden_size: int, *, activation: str = "relu", bias: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation of an IndRNN is tanh or relu, got {activation!r}")
        self.activation = activation
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size))
        self.bias = maybe(bias, hidden_size)
        uniform(self, hidden_size**-0.5)
        nn.init.uniform_(self.weight_hh)
        self.cell = Cell(partial(indrnn_step, activation), "rnn", (activation,), candidate=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        self.weight_hh.copy_(1 - 1 / time_constants("an IndRNN", self.hidden_size, tokens))

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.weight_ih, self.bias

    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight_hh,)

    freezes = True

    def run(self, x: Tensor, state: Any, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        rows = packed(x, lengths) if mode == "sequential" and self.noise is None else None
        if rows is None:
            return super().run(x, state, mode, lengths)
        with torch.autocast(x.device.type, enabled=False):
            tokens, first, w, u, b = widen(rows.pack(x), state, self.weight_ih, self.weight_hh, self.bias)
            gates = F.linear(tokens, w, b)  # (N, H), valid tokens alone
            h = vector_rows(self.cell, gates, u, first, rows.lengths)
            return rows.unpack(h.to(x.dtype)), rows.last(h, first).to(x.dtype)


def indrnn_step(
    activation: str, gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, H); weights: u."""
    h = ACTIVATIONS[activation](gates + weights[0] * seen(masks, state[0]))  # pyright: ignore[reportOptionalOperand]
    return h, (h,)
