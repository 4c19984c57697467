"""Linear attention (Katharopoulos et al. 2020, arXiv 2006.16236).

    q_t, k_t = phi(W_q x_t), phi(W_k x_t)        phi(u) = elu(u) + 1 > 0
    v_t = W_v x_t
    S_t = S_{t-1} + k_t v_t^T                    z_t = z_{t-1} + k_t
    o_t = S_t^T q_t / (z_t . q_t + eps)          without normalisation: o_t = S_t^T q_t
    y_t = W_o o_t

The normaliser z is the state of one more value channel that is always 1, and is kept as the last column of S.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.matrix_scan import decay_scan, decay_step
from core.parts.heads import empty_state, head_count, split
from core.parts.lengths import still
from core.units.contract import Unit

EPS = 1e-10


class LinearAttention(Unit):
    """x (B, T, I), state (B, h, K, V + 1), or (B, h, K, V) without normaliser -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        normalise: divide by the sum of the weights.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Katharopoulos et al. 2020, arXiv 2006.16236"

    def __init__(
        self, input_size: int, hidden_size: int, *, heads: int | None = None, normalise: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = head_count("linear attention", hidden_size, heads)
        self.normalise = normalise
        self.qkv = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    def initial_state(self, x: Tensor) -> Tensor:
        width = self.hidden_size // self.heads
        return empty_state(x, self.heads, width, width + self.normalise)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (.., I) -> q, k, v (.., h, D)."""
        q, k, v = (split(part, self.heads) for part in self.qkv(x).chunk(3, -1))
        return F.elu(q) + 1, F.elu(k) + 1, v

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = self.project(x)
        if self.normalise:
            o, state = decay_step(q, k, with_ones(v), None, state)
            o = normalised(o)
        else:
            o, state = decay_step(q, k, v, None, state)
        return self.output(o.flatten(-2)), state

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        q, k, v = self.project(x)
        k = still(k, lengths)
        o, state = normalised_scan(q, k, v, state) if self.normalise else decay_scan(q, k, v, None, state)
        return self.output(o.flatten(-2)), state


def normalised_scan(q: Tensor, k: Tensor, v: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """q, k (B, T, h, K), v (B, T, h, V), state (B, h, K, V + 1) -> o (B, T, h, V), state."""
    o, state = decay_scan(q, k, with_ones(v), None, state)
    return normalised(o), state


def with_ones(v: Tensor) -> Tensor:
    """v (.., V) -> (.., V + 1), the last channel one."""
    return torch.cat([v, torch.ones_like(v[..., :1])], -1)


def normalised(o: Tensor) -> Tensor:
    """Divide by the last channel: (.., V + 1) -> (.., V)."""
    return o[..., :-1] / (o[..., -1:] + EPS)
