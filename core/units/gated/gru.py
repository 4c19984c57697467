"""Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078).

    r_t, z_t = sigmoid(W x_t + b + U h_{t-1} + c)
    n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))     reset after the product (torch, cuDNN)
    n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}) + c_n)     reset before it (the paper)
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}

Weights are laid out (r, z, n) and named as in `torch.nn.GRU`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.units.contract import Unit


class GRU(Unit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H)."""

    paper: ClassVar[str] = "Cho et al. 2014, arXiv 1406.1078"

    def __init__(self, input_size: int, hidden_size: int, *, reset: str = "after", bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        if reset not in ("after", "before"):
            raise ConfigError(f"reset of a GRU is after or before, got {reset!r}")
        self.reset = reset
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(3 * hidden_size)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(3 * hidden_size)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        H = self.hidden_size
        gates = F.linear(x, self.weight_ih, self.bias_ih)
        if self.reset == "after":
            recurrent = F.linear(state, self.weight_hh, self.bias_hh)
            r, z = (gates[..., : 2 * H] + recurrent[..., : 2 * H]).sigmoid().chunk(2, -1)
            n = (gates[..., 2 * H :] + r * recurrent[..., 2 * H :]).tanh()
        else:
            U_rz, U_n = self.weight_hh.split([2 * H, H])
            c_rz, c_n = (None, None) if self.bias_hh is None else self.bias_hh.split([2 * H, H])
            r, z = (gates[..., : 2 * H] + F.linear(state, U_rz, c_rz)).sigmoid().chunk(2, -1)
            n = (gates[..., 2 * H :] + F.linear(r * state, U_n, c_n)).tanh()
        h = (1 - z) * n + z * state
        return h, h
