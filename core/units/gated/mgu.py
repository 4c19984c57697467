"""Minimal gated unit (Zhou et al. 2016, arXiv 1603.09420): one gate forgets and resets.

    f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)
    n_t = tanh(W_n x_t + U_n (f_t * h_{t-1}) + b_n)
    h_t = (1 - f_t) * h_{t-1} + f_t * n_t

Weights are stacked (f, n).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.gated_loop import Cell, Masks, States, Weights, seen, written
from core.parts.memory import Tokens, keep_logit, needed, time_constants
from core.units.gated.gated_unit import GatedUnit, maybe, uniform


class MGU(GatedUnit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H).

    Args:
        bias: whether there is one.
    """

    paper = "Zhou et al. 2016, arXiv 1603.09420"

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(2 * hidden_size, hidden_size))
        self.bias = maybe(bias, 2 * hidden_size)
        uniform(self, hidden_size**-0.5)
        self.cell = Cell(mgu_step, "mgu")

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        (bias,) = needed("an MGU", self.bias)
        bias[: self.hidden_size] = -keep_logit(time_constants("an MGU", self.hidden_size, tokens))

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.weight_ih, self.bias

    def weights(self) -> tuple[Tensor, ...]:
        return self.weight_hh.chunk(2)


def mgu_step(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, 2 H); weights: U_f, U_n."""
    (h,), (U_f, U_n) = state, weights
    f, n = gates.chunk(2, -1)
    f = (f + F.linear(seen(masks, h), U_f)).sigmoid()  # pyright: ignore[reportArgumentType]
    n = (n + F.linear(f * seen(masks, h), U_n)).tanh()  # pyright: ignore[reportArgumentType]
    h = (1 - f) * h + f * written(masks, n)
    return h, (h,)
