"""minGRU, a gated linear recurrence (Feng et al. 2024, arXiv 2410.01201).

z_t = sigmoid(W_z x_t + b_z)
v_t = W_v x_t + b_v                                (positive: g(W_v x_t + b_v), see min_unit)
h_t = (1 - z_t) * h_{t-1} + z_t * v_t
y_t = h_t                                          (with projection: W_o h_t)
"""

from typing import Any

import torch
from torch import Tensor

from core.parts.memory import Tokens, keep_logit, needed, time_constants
from core.units.diagonal.min_unit import MinUnit


class MinGRU(MinUnit):
    """x (B, T, I), state (B, N) -> y (B, T, H), state (B, N); N = H * expansion.

    Args:
        expansion: N / H.
        projection: is there a W_o; None: where the state is wider than H.
        positive: keep values above zero, as in log space.
        bias: whether gate and value have one.
    """

    gates = ("gate",)

    def share(self, *gates: Tensor) -> Tensor:
        return gates[0].sigmoid()

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        gate: Any = self.gate
        (bias,) = needed("a minGRU", gate.bias)
        bias.copy_(-keep_logit(time_constants("a minGRU", len(bias), tokens)))
