"""Gated DeltaNet: forget first, then correct (Yang et al. 2024, arXiv 2412.06464).

    q_t, k_t, v_t = silu(conv(W x_t))             short causal convolution, channel by channel
    q_t, k_t      = q_t / |q_t| * K^(-1/2), k_t / |k_t|
    beta_t        = sigmoid(W_b x_t)              or twice that, which allows negative eigenvalues
    g_t           = -exp(A) softplus(W_a x_t + b) per head
    S~  = exp(g_t) S_{t-1}
    S_t = S~ + k_t beta_t (v_t - S~^T k_t)^T
    y_t = W_o (rms(S_t^T q_t) * silu(W_z x_t))    rms norm per head, one learned weight (V)

With fewer key heads than heads, heads / key_heads neighbouring heads share their query and key. Qwen3-Next
uses this layer; `core.layouts.qwen3_next` reads its weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.matrix_scan import delta_scan, delta_step
from core.kernels.precision import at_least_single
from core.parts.conv import CausalConv
from core.parts.heads import empty_state, head_count, split, unit_length
from core.parts.lengths import still
from core.parts.memory import Tokens, rate_for, time_constants
from core.parts.norm import GatedRMSNorm
from core.parts.options import above_zero, sizes
from core.parts.start import step_bias
from core.units.contract import Unit

State = tuple[Tensor, Tensor]


class GatedDeltaNet(Unit):
    """x (B, T, I), state: conv window (B, conv_width, C) and S (B, h, K, V) -> y (B, T, H), state.

    V = value_size, by default H / h; K = key_size, by default V; C = 2 key_heads K + h V channels q;k;v.

    Args:
        heads: of the values; None is one for every 64 channels.
        key_heads: that divide the heads; None is as many.
        key_size: K; None is V.
        value_size: V; None is H / h.
        conv_width: taps of the short convolution.
        negative_eigenvalues: beta in 0..2 instead of 0..1.
        norm_eps: of the norm before the output.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Yang et al. 2024, arXiv 2412.06464"
    no_decay = ("norm.weight",)
    slow = ("A_log", "dt_bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        key_heads: int | None = None,
        key_size: int | None = None,
        value_size: int | None = None,
        conv_width: int = 4,
        negative_eigenvalues: bool = False,
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("Gated DeltaNet", key_size=key_size, value_size=value_size, conv_width=conv_width, heads=heads)
        above_zero("Gated DeltaNet", norm_eps=norm_eps)
        if heads is None or value_size is None:
            heads = head_count("Gated DeltaNet", hidden_size, heads)
        self.heads = heads
        self.key_heads = heads if key_heads is None else key_heads
        if self.key_heads < 1 or heads % self.key_heads:
            raise ConfigError(
                f"Gated DeltaNet needs key heads that divide its {heads} heads, got {key_heads}"
            )
        self.value_size = hidden_size // heads if value_size is None else value_size
        self.key_size = self.value_size if key_size is None else key_size
        self.beta_range = 2 if negative_eigenvalues else 1
        keys, values = self.key_heads * self.key_size, heads * self.value_size
        self.widths = (2 * keys + values, values, heads, heads)
        self.qkvzba = nn.Linear(input_size, sum(self.widths), bias=False)
        self.conv = CausalConv(2 * keys + values, conv_width, bias=False)
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.dt_bias = nn.Parameter(step_bias(heads))
        self.norm = GatedRMSNorm(self.value_size, norm_eps, norm_first=True)
        self.output = nn.Linear(values, hidden_size, bias=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        self.A_log.copy_(rate_for(time_constants("a Gated DeltaNet", self.heads, tokens), self.dt_bias))

    def initial_state(self, x: Tensor) -> State:
        return self.conv.initial_state(x), empty_state(x, self.heads, self.key_size, self.value_size)

    def inputs(self, mixed: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Convolved q;k;v (.., C), b, a (.., h) -> q, k (.., h, K), v (.., h, V), beta, log-decay (.., h)."""
        values = self.heads * self.value_size
        qk, v = F.silu(mixed).split([mixed.shape[-1] - values, values], -1)
        q, k = unit_length(split(qk, 2 * self.key_heads)).chunk(2, -2)
        if self.heads > self.key_heads:
            shared = self.heads // self.key_heads
            q, k = q.repeat_interleave(shared, -2), k.repeat_interleave(shared, -2)
        log_decay = log_decay_of(a, self.A_log, self.dt_bias)
        return q * self.key_size**-0.5, k, split(v, self.heads), self.beta_range * b.sigmoid(), log_decay

    def finish(self, o: Tensor, z: Tensor) -> Tensor:
        return self.output(self.norm(o, split(z, self.heads)).flatten(-2))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, memory = state
        mixed, z, b, a = self.qkvzba(x).split(self.widths, -1)
        mixed, window = self.conv.step(mixed, window)
        q, k, v, beta, log_decay = self.inputs(mixed, b, a)
        o, memory = delta_step(q, k, v, beta, log_decay, memory)
        return self.finish(o, z), (window, memory)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        window, memory = state
        mixed, z, b, a = self.qkvzba(x).split(self.widths, -1)
        mixed, window = self.conv(mixed, window, lengths)
        q, k, v, beta, log_decay = self.inputs(mixed, b, a)
        o, memory = delta_scan(q, k, v, still(beta, lengths), still(log_decay, lengths), memory)
        return self.finish(o, z), (window, memory)


def log_decay_of(a: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """-exp(A) softplus(a + b) per head, in float32 at least."""
    return -at_least_single(A_log).exp() * F.softplus(at_least_single(a) + dt_bias)
