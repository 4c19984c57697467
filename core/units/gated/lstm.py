"""Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i_t, f_t, o_t = sigmoid(W x_t + b + U h_{t-1} + c)
    g_t = tanh(W_g x_t + b_g + U_g h_{t-1} + c_g)
    c_t = f_t * c_{t-1} + i_t * g_t
    h_t = o_t * tanh(c_t)

Weights are laid out (i, f, g, o) and named as in `torch.nn.LSTM`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.units.contract import Unit


class LSTM(Unit):
    """x (B, T, I), state (h (B, P or H), c (B, H)) -> y (B, T, P or H), state."""

    paper: ClassVar[str] = "Hochreiter & Schmidhuber 1997; Gers et al. 2000"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        projection: int | None = None,
        peephole: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.projection = projection
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, self.output_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size)) if bias else None
        self.weight_ph = nn.Parameter(torch.empty(3 * hidden_size)) if peephole else None
        self.weight_hr = nn.Parameter(torch.empty(projection, hidden_size)) if projection else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    @property
    def output_size(self) -> int:
        return self.projection or self.hidden_size

    def initial_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_zeros(x.shape[0], self.output_size), x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = state
        gates = F.linear(x, self.weight_ih, self.bias_ih) + F.linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = gates.chunk(4, -1)
        if self.weight_ph is not None:
            p_i, p_f, p_o = self.weight_ph.chunk(3)
            i, f = i + p_i * c, f + p_f * c
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            o = o + p_o * c
        else:
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        if self.weight_hr is not None:
            h = F.linear(h, self.weight_hr)
        return h, (h, c)
