"""Gated linear attention (Yang et al. 2023, arXiv 2312.06635).

q_t, k_t = K^(-1/2) W_q x_t, W_k x_t          v_t = W_v x_t
g_t = log sigmoid(W_2 W_1 x_t + b) / 16       per key channel, W_1 of rank 16
S_t = diag(exp g_t) S_{t-1} + k_t v_t^T
o_t = S_t^T q_t
y_t = W_o (swish(W_r x_t) * rms(o_t))         rms norm per head, one learned weight (V)
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.matrix_scan import decay_scan, decay_step
from core.kernels.precision import at_least_single
from core.parts.heads import empty_state, head_count, split
from core.parts.lengths import still
from core.parts.memory import Tokens, log_keep, time_constants
from core.parts.norm import RMSNorm
from core.parts.options import sizes
from core.units.contract import Unit

TEMPERATURE = 16
"""Divides the log-gate: forget gates begin near 1, and memory reaches hundreds of tokens."""


class GLA(Unit):
    """x (B, T, I), state (B, h, K, V) -> y (B, T, H), state; V = H / h.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        key_size: K of a head; None is V / 2.
        gate_rank: width between the two matrices of the decay.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Yang et al. 2023, arXiv 2312.06635"
    no_decay = ("norm.weight", "gate_up.bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        key_size: int | None = None,
        gate_rank: int = 16,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("GLA", key_size=key_size, gate_rank=gate_rank)
        self.heads = head_count("GLA", hidden_size, heads)
        value_size = hidden_size // self.heads
        self.key_size = max(1, value_size // 2) if key_size is None else key_size
        keys = self.heads * self.key_size
        self.widths = (keys, keys, hidden_size, hidden_size, gate_rank)
        self.qkvrg = nn.Linear(input_size, sum(self.widths), bias=False)
        self.gate_up = nn.Linear(gate_rank, keys)
        self.norm = RMSNorm(value_size, 1e-5)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        tau = time_constants("a GLA", len(self.gate_up.bias), tokens)
        self.gate_up.bias.copy_((TEMPERATURE * log_keep(tau)).exp().logit())

    def initial_state(self, x: Tensor) -> Tensor:
        return empty_state(x, self.heads, self.key_size, self.hidden_size // self.heads)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x (.., I) -> scaled q, k, v (.., h, D), log-decay (.., h, K), output gate (.., H)."""
        q, k, v, r, low = self.qkvrg(x).split(self.widths, -1)
        log_decay = F.logsigmoid(at_least_single(self.gate_up(low))) / TEMPERATURE
        q, k, v, log_decay = (split(part, self.heads) for part in (q, k, v, log_decay))
        return q * self.key_size**-0.5, k, v, log_decay, r

    def finish(self, o: Tensor, r: Tensor) -> Tensor:
        return self.output(F.silu(r) * self.norm(o).flatten(-2))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v, log_decay, r = self.project(x)
        o, state = decay_step(q, k, v, log_decay, state)
        return self.finish(o, r), state

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        q, k, v, log_decay, r = self.project(x)
        o, state = decay_scan(q, still(k, lengths), v, still(log_decay, lengths), state)
        return self.finish(o, r), state
