"""minLSTM, a gated linear recurrence whose gates sum to one (Feng et al. 2024, arXiv 2410.01201).

    f_t = sigmoid(W_f x_t + b_f)        i_t = sigmoid(W_i x_t + b_i)
    v_t = W_v x_t + b_v                                (positive: g(W_v x_t + b_v), see min_unit)
    z_t = i_t / (f_t + i_t)
    h_t = (1 - z_t) * h_{t-1} + z_t * v_t
    y_t = h_t                                          (with projection: W_o h_t)

z is computed as sigmoid(log i - log f), which stays right where both gates underflow.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.parts.memory import Tokens, keep_logit, needed, time_constants
from core.units.diagonal.min_unit import MinUnit


class MinLSTM(MinUnit):
    """x (B, T, I), state (B, N) -> y (B, T, H), state (B, N); N = H * expansion.

    Args:
        expansion: N / H.
        projection: is there a W_o; None: where the state is wider than H.
        positive: keep values above zero, as in log space.
        bias: whether gates and value have one.
    """

    gates = ("forget_gate", "input_gate")

    def share(self, *gates: Tensor) -> Tensor:
        f, i = gates
        return (F.logsigmoid(i) - F.logsigmoid(f)).sigmoid()

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        gates: Any = (self.forget_gate, self.input_gate)
        forget, write = needed("a minLSTM", *(gate.bias for gate in gates))
        keep = keep_logit(time_constants("a minLSTM", len(forget), tokens))
        forget.copy_(keep)  # i / (f + i) is then the logistic function of -keep
        write.copy_(-keep)
