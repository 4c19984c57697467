"""DeltaNet, a fast-weight layer that corrects instead of adding (Schlag et al. 2021, arXiv 2102.11174; in
parallel form with these projections: Yang et al. 2024, arXiv 2406.06484).

    q_t, k_t, v_t = silu(conv(W x_t))             short causal convolution, channel by channel
    q_t, k_t      = q_t / |q_t| * K^(-1/2), k_t / |k_t|
    beta_t        = sigmoid(W_b x_t)              or twice that, which allows negative eigenvalues
    S_t = S_{t-1} + k_t beta_t (v_t - S_{t-1}^T k_t)^T
    y_t = W_o rms(S_t^T q_t)                      rms norm per head, one learned weight (V)
"""

from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.matrix_scan import delta_scan, delta_step
from core.parts.conv import CausalConv
from core.parts.heads import empty_state, head_count, split, unit_length
from core.parts.lengths import still
from core.parts.norm import RMSNorm
from core.parts.options import sizes
from core.units.contract import Unit

State = tuple[Tensor, Tensor]


class DeltaNet(Unit):
    """x (B, T, I), state: conv window (B, conv_width, 3 H) and S (B, h, K, K) -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        conv_width: taps of the short convolution.
        negative_eigenvalues: beta in 0..2 instead of 0..1.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Schlag et al. 2021, arXiv 2102.11174; Yang et al. 2024, arXiv 2406.06484"
    no_decay = ("norm.weight",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        conv_width: int = 4,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("DeltaNet", conv_width=conv_width)
        self.heads = head_count("DeltaNet", hidden_size, heads)
        self.beta_range = 2 if negative_eigenvalues else 1
        self.qkvb = nn.Linear(input_size, 3 * hidden_size + self.heads, bias=False)
        self.conv = CausalConv(3 * hidden_size, conv_width, bias=False)
        self.norm = RMSNorm(hidden_size // self.heads, 1e-5)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    def initial_state(self, x: Tensor) -> State:
        width = self.hidden_size // self.heads
        return self.conv.initial_state(x), empty_state(x, self.heads, width, width)

    def inputs(self, mixed: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Convolved q;k;v (.., 3 H), b (.., h) -> q, k, v (.., h, K), beta (.., h)."""
        qk, v = split(F.silu(mixed), 3 * self.heads).split([2 * self.heads, self.heads], -2)
        q, k = unit_length(qk).chunk(2, -2)
        return q * q.shape[-1] ** -0.5, k, v, self.beta_range * b.sigmoid()

    def finish(self, o: Tensor) -> Tensor:
        return self.output(self.norm(o).flatten(-2))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, memory = state
        mixed, b = self.qkvb(x).split([self.conv.channels, self.heads], -1)
        mixed, window = self.conv.step(mixed, window)
        q, k, v, beta = self.inputs(mixed, b)
        o, memory = delta_step(q, k, v, beta, None, memory)
        return self.finish(o), (window, memory)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        window, memory = state
        mixed, b = self.qkvb(x).split([self.conv.channels, self.heads], -1)
        mixed, window = self.conv(mixed, window, lengths)
        q, k, v, beta = self.inputs(mixed, b)
        o, memory = delta_scan(q, k, v, still(beta, lengths), None, memory)
        return self.finish(o), (window, memory)
