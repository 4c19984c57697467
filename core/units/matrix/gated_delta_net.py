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

from torch import Tensor
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.matrix_scan import delta_scan, delta_step
from core.parts.heads import empty_state, head_count, split, unit_length
from core.parts.options import above_zero, sizes
from core.units.matrix.gated_delta_unit import GatedDeltaUnit, State


class GatedDeltaNet(GatedDeltaUnit):
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

    title = "Gated DeltaNet"
    paper = "Yang et al. 2024, arXiv 2412.06464"
    scan = staticmethod(delta_scan)

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
        self.add_parts((2 * keys + values, values, heads, heads), self.value_size, conv_width, norm_eps)

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
        beta = self.beta_range * b.sigmoid()
        return q * self.key_size**-0.5, k, split(v, self.heads), beta, self.log_decay(a)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, memory = state
        mixed, z, b, a = self.qkvzba(x).split(self.widths, -1)
        mixed, window = self.conv.step(mixed, window)
        q, k, v, beta, log_decay = self.inputs(mixed, b, a)
        o, memory = delta_step(q, k, v, beta, log_decay, memory)
        return self.finish(o, z), (window, memory)
