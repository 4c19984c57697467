"""HGRN2, a gated linear RNN with an expanded state (Qin et al. 2024, arXiv 2404.07904).

    f_t = lb + (1 - lb) * sigmoid(W_f x_t)        forget gate, one per key channel, at least lb
    k_t = 1 - f_t                                 the key needs no parameters of its own
    q_t, v_t = swish(W_q x_t), W_v x_t
    S_t = diag(f_t) S_{t-1} + k_t v_t^T
    y_t = W_o rms(S_t^T q_t)                      rms norm over all heads, learned weight (H)

The query is not scaled: the norm that follows would undo it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.matrix_scan import decay_scan, decay_step
from core.kernels.precision import at_least_single
from core.parts.heads import empty_state, head_count, split
from core.parts.lengths import still
from core.parts.memory import Tokens, time_constants
from core.parts.norm import RMSNorm
from core.units.contract import Unit


class HGRN2(Unit):
    """x (B, T, I), state (B, h, K, K) with K = H / h -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        lower_bound: lb in [0, 1), usually 0 at the bottom of a network and rising to its top.
    """

    bound: Tensor | None
    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Qin et al. 2024, arXiv 2404.07904"
    no_decay = ("norm.weight",)

    def __init__(
        self, input_size: int, hidden_size: int, *, heads: int | None = None, lower_bound: float = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size)
        if not 0 <= lower_bound < 1:
            raise ConfigError(f"lower_bound of HGRN2 must be in [0, 1), got {lower_bound}")
        self.heads = head_count("HGRN2", hidden_size, heads)
        self.lower_bound = lower_bound
        self.register_buffer("bound", None)  # one for each key channel, where `remember` sets it
        self.qfv = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.norm = RMSNorm(hidden_size, 1e-5)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        # without a bias the gate is half open at zero input, so the bound holds the memory
        bound = (1 - 2 / time_constants("HGRN2", self.hidden_size, tokens)).clamp(min=0)
        self.register_buffer("bound", bound.float().view(self.heads, -1))

    def initial_state(self, x: Tensor) -> Tensor:
        width = self.hidden_size // self.heads
        return empty_state(x, self.heads, width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (.., I) -> q, k, v (.., h, K), log f (.., h, K)."""
        q, f, v = (split(part, self.heads) for part in self.qfv(x).chunk(3, -1))
        f = at_least_single(f)
        log_f = F.logsigmoid(f)
        if self.bound is not None:
            bound = self.bound.to(f.dtype)
            kept = torch.logaddexp(log_f, bound.log() + F.logsigmoid(-f))
            return F.silu(q), (1 - bound) * torch.sigmoid(-f), v, kept
        k = (1 - self.lower_bound) * torch.sigmoid(-f)
        if self.lower_bound:  # f = sigmoid(a) + lb * sigmoid(-a)
            log_f = torch.logaddexp(log_f, math.log(self.lower_bound) + F.logsigmoid(-f))
        return F.silu(q), k, v, log_f

    def finish(self, o: Tensor) -> Tensor:
        return self.output(self.norm(o.flatten(-2)))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        o, state = decay_step(*self.project(x), state)
        return self.finish(o), state

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        q, k, v, log_f = self.project(x)
        o, state = decay_scan(q, still(k, lengths), v, still(log_f, lengths), state)
        return self.finish(o), state
