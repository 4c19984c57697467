"""ParaGRU: a GRU whose recurrence is diagonal (Danieli et al. 2025, arXiv 2510.21450).

    z_t = sigmoid(B_z x_t + b_z + a_z * h_{t-1})
    r_t = sigmoid(B_r x_t + b_r + a_r * h_{t-1})
    n_t = tanh(B_n x_t + b_n + a_n * (r_t * h_{t-1}))
    h_t = z_t * n_t + (1 - z_t) * h_{t-1}

z writes. Heads of B are blocks: a head of the input feeds the same head of the state. The Jacobian
dh_t / dh_{t-1} is one number per channel, so Newton's method solves a sequence in a few linear scans.
"""

import torch
from torch import Tensor

from core.kernels.gated_loop import Cell, Masks, States, Weights, seen, written
from core.parts.memory import Tokens, keep_logit, time_constants
from core.units.gated.headed_unit import HeadedUnit


class ParaGRU(HeadedUnit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H).

    Args:
        heads: that divide both widths; None is as many of 64 channels or more as do.
    """

    paper = "Danieli et al. 2025, arXiv 2510.21450"

    def __init__(self, input_size: int, hidden_size: int, *, heads: int | None = None) -> None:
        super().__init__(input_size, hidden_size, heads=heads)
        with torch.no_grad():
            self.bias[0] = -torch.linspace(0, 1, hidden_size)  # channels that write more and less often
        self.cell = Cell(para_gru_step, "para", ("gru",))

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        self.bias[0] = -keep_logit(time_constants("a ParaGRU", self.hidden_size, tokens))


def para_gru_step(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (.., 3 H), state (.., H); weights: a_z, a_r, a_n in one vector."""
    (h,), (vector, *_) = state, weights
    a_z, a_r, a_n = vector.chunk(3)  # pyright: ignore[reportOptionalMemberAccess]
    looked = seen(masks, h)
    z, r, n = gates.chunk(3, -1)
    z = (z + a_z * looked).sigmoid()
    r = (r + a_r * looked).sigmoid()
    n = (n + a_n * (r * looked)).tanh()
    h = h + z * (written(masks, n) - h)
    return h, (h,)
