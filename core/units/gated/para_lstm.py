"""ParaLSTM: an LSTM with coupled gates, peepholes and a diagonal recurrence.

Source: Danieli et al. 2025, arXiv 2510.21450.

    f_t = sigmoid(B_f x_t + b_f + a_f * h_{t-1} + c_f * c_{t-1})
    g_t = tanh(B_g x_t + b_g + a_g * h_{t-1})
    c_t = f_t * c_{t-1} + (1 - f_t) * g_t
    o_t = sigmoid(B_o x_t + b_o + a_o * h_{t-1} + c_o * c_t)         the new cell
    h_t = o_t * tanh(c_t)

Weights are stacked (f, o, g), peepholes (f, o). The Jacobian of (h_t, c_t) is a 2 x 2 block per channel.
"""

import torch
from torch import Tensor, nn

from core.kernels.gated_loop import Cell, Masks, States, Weights, seen, written
from core.parts.memory import Tokens, keep_logit, time_constants
from core.units.gated.headed_unit import HeadedUnit


class ParaLSTM(HeadedUnit):
    """x (B, T, I), state h, c (B, H) each -> y (B, T, H), state h, c.

    Args:
        heads: that divide both widths; None is as many of 64 channels or more as do.
    """

    paper = "Danieli et al. 2025, arXiv 2510.21450"
    no_decay = ("weight_hh", "weight_ph")
    states = 2

    def __init__(self, input_size: int, hidden_size: int, *, heads: int | None = None) -> None:
        super().__init__(input_size, hidden_size, heads=heads)
        self.weight_ph = nn.Parameter(torch.empty(2, hidden_size))
        nn.init.normal_(self.weight_ph, std=(2 / (5 * hidden_size)) ** 0.5)
        with torch.no_grad():
            self.bias[0] = torch.linspace(0, 1, hidden_size)  # channels that keep for shorter and longer
        self.cell = Cell(para_lstm_step, "para", ("lstm",))

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        self.bias[0] = keep_logit(time_constants("a ParaLSTM", self.hidden_size, tokens))

    def weights(self) -> tuple[Tensor | None, ...]:
        return self.weight_hh.flatten(), self.weight_ph.flatten()


def para_lstm_step(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (.., 3 H), states (.., H); weights: (a_f, a_o, a_g), (c_f, c_o)."""
    (h, c), (vector, peephole) = state, weights
    a_f, a_o, a_g = vector.chunk(3)  # pyright: ignore[reportOptionalMemberAccess]
    c_f, c_o = peephole.chunk(2)  # pyright: ignore[reportOptionalMemberAccess]
    looked = seen(masks, h)
    f, o, g = gates.chunk(3, -1)
    f = (f + a_f * looked + c_f * c).sigmoid()
    g = (g + a_g * looked).tanh()
    g = written(masks, g)
    c = g + f * (c - g)
    o = (o + a_o * looked + c_o * c).sigmoid()
    h = o * c.tanh()
    return h, (h, c)
