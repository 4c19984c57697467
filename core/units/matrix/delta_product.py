"""DeltaProduct: n delta steps a token (Siems et al. 2025, arXiv 2502.10297).

    q_t, k_ti, v_ti = silu(conv(W x_t))               i = 1..n; q_t and k_ti divided by their length
    beta_ti         = 2 sigmoid(W_b x_t)              negative eigenvalues allowed
    g_t             = -exp(A) softplus(W_a x_t + b)   per head
    S = exp(g_t) S_{t-1},  then for i = 1..n:  S = S + k_ti beta_ti (v_ti - S^T k_ti)^T
    y_t = W_o (rms(S_t^T q_t) * silu(W_z x_t))        rms norm per head, one learned weight (V)

The product of n generalised Householder matrices can rotate, which one of them cannot; its norm is at most 1.
The query is not scaled: the norm that follows would undo it.
"""

from torch import Tensor
from torch.nn import functional as F

from core.kernels.matrix_scan import delta_product_scan, delta_step
from core.parts.heads import empty_state, head_count, split, unit_length
from core.parts.options import sizes
from core.units.matrix.gated_delta_unit import GatedDeltaUnit, State


class DeltaProduct(GatedDeltaUnit):
    """x (B, T, I), state: conv window (B, conv_width, (1 + 2 n) H), S (B, h, K, K) -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        steps: n, delta steps a token.
        conv_width: taps of the short convolution.
    """

    title = "DeltaProduct"
    paper = "Siems et al. 2025, arXiv 2502.10297"
    scan = staticmethod(delta_product_scan)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        steps: int = 2,
        conv_width: int = 4,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("DeltaProduct", steps=steps, conv_width=conv_width)
        self.heads = head_count("DeltaProduct", hidden_size, heads)
        self.steps = steps
        h = self.heads
        widths = ((1 + 2 * steps) * hidden_size, hidden_size, steps * h, h)
        self.add_parts(widths, hidden_size // h, conv_width, 1e-5)

    def initial_state(self, x: Tensor) -> State:
        width = self.hidden_size // self.heads
        return self.conv.initial_state(x), empty_state(x, self.heads, width, width)

    def inputs(self, mixed: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Convolved q;k;v, b, a -> q (.., h, K), k, v (.., n, h, K), beta (.., n, h), log-decay (.., h)."""
        n, h = self.steps, self.heads
        qk, v = split(F.silu(mixed), (1 + 2 * n) * h).split([(1 + n) * h, n * h], -2)
        q, k = unit_length(qk).split([h, n * h], -2)
        k, v = (part.view(*b.shape[:-1], n, h, part.shape[-1]) for part in (k, v))
        return q, k, v, split(2 * b.sigmoid(), n), self.log_decay(a)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, memory = state
        mixed, z, b, a = self.qkvzba(x).split(self.widths, -1)
        mixed, window = self.conv.step(mixed, window)
        q, ks, vs, betas, log_decay = self.inputs(mixed, b, a)
        o = q
        for k, v, beta in zip(ks.unbind(1), vs.unbind(1), betas.unbind(1), strict=True):
            o, memory = delta_step(q, k, v, beta, log_decay, memory)
            log_decay = None
        return self.finish(o, z), (window, memory)
