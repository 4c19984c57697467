"""minLSTM, a gated linear recurrence whose gates sum to one (Feng et al. 2024, arXiv 2410.01201).

    f_t = sigmoid(W_f x_t + b_f)        i_t = sigmoid(W_i x_t + b_i)
    v_t = W_v x_t + b_v                                (positive: g(W_v x_t + b_v), see min_gru)
    z_t = i_t / (f_t + i_t)
    h_t = (1 - z_t) * h_{t-1} + z_t * v_t
    y_t = h_t                                          (with projection: W_o h_t)

z is computed as sigmoid(log i - log f), which stays right where both gates underflow.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.linear_scan import linear_scan
from core.kernels.precision import state_zeros, widen
from core.parts.lengths import at_end
from core.units.contract import Unit
from core.units.diagonal.min_gru import above_zero, checked_width, interpolate


class MinLSTM(Unit):
    """x (B, T, I), state (B, N) -> y (B, T, H), state (B, N); N = H * expansion.

    Args:
        expansion: N / H.
        projection: is there a W_o; None: where the state is wider than H.
        positive: keep values above zero, as in log space.
        bias: whether gates and value have one.
    """

    modes = ("step", "sequential", "scan")
    freezes = True
    paper = "Feng et al. 2024, Were RNNs all we needed?, arXiv 2410.01201"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        expansion: float = 1.0,
        projection: bool | None = None,
        positive: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        width = checked_width(hidden_size, expansion)
        self.positive = positive
        self.forget_gate = nn.Linear(input_size, width, bias=bias)
        self.input_gate = nn.Linear(input_size, width, bias=bias)
        self.value = nn.Linear(input_size, width, bias=bias)
        projected = expansion != 1 if projection is None else projection
        self.out = nn.Linear(width, hidden_size, bias=False) if projected else None

    @property
    def output_size(self) -> int:
        return self.value.out_features if self.out is None else self.hidden_size

    def initial_state(self, x: Tensor) -> Tensor:
        return state_zeros(x, x.shape[0], self.value.out_features)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z and v for x (..., I)."""
        f, i, v = widen(self.forget_gate(x), self.input_gate(x), self.value(x))
        return (F.logsigmoid(i) - F.logsigmoid(f)).sigmoid(), above_zero(v) if self.positive else v

    def readout(self, h: Tensor, x: Tensor) -> Tensor:
        h = h.to(x.dtype)
        return h if self.out is None else self.out(h).to(x.dtype)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        z, v = self.terms(x)
        h = torch.lerp(state, v, z)
        return self.readout(h, x), h

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        z, v = self.terms(x)
        if mode == "scan":
            h = linear_scan(1 - z, z * v, state)
        else:
            h = interpolate(state, v, z)
        return self.readout(h, x), at_end(h, lengths, state)
