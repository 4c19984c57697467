"""RWKV-6 time mixing: a decay of every key channel that depends on the data (arXiv 2404.05892).

    d = x_{t-1} - x_t,  z = tanh((x_t + d * maa_x) W1), five low-rank offsets z W2
    x^_c = x_t + d * (maa_c + z_c W2_c)                           c in w, k, v, r, g
    w = exp(-exp(decay + tanh(x^_w D1) D2))
    r, k, v = R x^_r, K x^_k, V x^_v,  g = silu(G x^_g)
    o_t = (S_{t-1} + diag(u) k v^T)^T r,  S_t = diag(w) S_{t-1} + k v^T
    y = W (group_norm(o) * g)

The state is read before it is updated; the current token counts with the bonus u. No query scale.
Parameters have the names of published checkpoints (`blocks.N.att.*`), whose (1, 1, C) are (C,) here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.matrix_scan import decay_scan, decay_step
from core.kernels.precision import state_zeros
from core.parts.heads import head_count
from core.parts.lengths import at_end, still
from core.parts.memory import Tokens, log_keep, time_constants
from core.parts.options import sizes
from core.parts.shift import group_norm, ramp, shifted
from core.units.contract import Unit
from core.units.matrix.channel_mix import ChannelMix

State = tuple[Tensor, Tensor]
STRONGEST = 20.0
"""exp(-exp(20)) is zero; a larger exponent would overflow in the gradient."""


class RWKV6(Unit):
    """x (B, T, I), state (x_prev (B, I), S (B, h, K, K)) -> y (B, T, H).

    Args:
        heads: default one for 64 channels.
        mix_rank, decay_rank: widths of the low-rank offsets.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Peng et al. 2024, arXiv 2404.05892"
    no_decay = ("time_faaaa", *(f"time_maa_{name}" for name in "xwkvrg"))
    slow = ("time_decay",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        mix_rank: int = 32,
        decay_rank: int = 64,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("RWKV6", mix_rank=mix_rank, decay_rank=decay_rank)
        self.heads = head_count("RWKV6", hidden_size, heads)
        i, h = input_size, hidden_size
        self.time_maa_x = nn.Parameter(1 - ramp(i))
        self.time_maa_w = nn.Parameter(1 - ramp(i))
        self.time_maa_k = nn.Parameter(1 - ramp(i))
        self.time_maa_v = nn.Parameter(1 - ramp(i))
        self.time_maa_r = nn.Parameter(1 - ramp(i) ** 0.5)
        self.time_maa_g = nn.Parameter(1 - ramp(i) ** 0.5)
        self.time_maa_w1 = nn.Parameter(torch.empty(i, 5 * mix_rank).uniform_(-1e-2, 1e-2))
        self.time_maa_w2 = nn.Parameter(torch.empty(5, mix_rank, i).uniform_(-1e-2, 1e-2))
        self.time_decay = nn.Parameter(-6 + 5 * ramp(h) ** 0.7)
        self.time_decay_w1 = nn.Parameter(torch.empty(i, decay_rank).uniform_(-1e-2, 1e-2))
        self.time_decay_w2 = nn.Parameter(torch.empty(decay_rank, h).uniform_(-1e-2, 1e-2))
        zigzag = ((torch.arange(h) + 1) % 3 - 1) * 0.1
        self.time_faaaa = nn.Parameter((1 - ramp(h) + zigzag).view(self.heads, -1))
        self.receptance = nn.Linear(i, h, bias=False)
        self.key = nn.Linear(i, h, bias=False)
        self.value = nn.Linear(i, h, bias=False)
        self.gate = nn.Linear(i, h, bias=False)
        self.output = nn.Linear(h, h, bias=False)
        self.ln_x = nn.GroupNorm(self.heads, h, eps=64e-5)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        rate = -log_keep(time_constants("an RWKV-6", self.hidden_size, tokens))
        self.time_decay.copy_(rate.log())

    def initial_state(self, x: Tensor) -> State:
        width = self.hidden_size // self.heads
        return x.new_zeros(x.shape[0], self.input_size), state_zeros(x, x.shape[0], self.heads, width, width)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x_prev, memory = state
        r, k, v, decay, g = self.project(x, x_prev, memory.dtype)
        o, memory = decay_step(r, k, v, decay, memory, self.time_faaaa)
        return self.finish(o, g), (x.clone(), memory)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        x_prev, memory = state
        r, k, v, decay, g = self.project(x, shifted(x, x_prev), memory.dtype)
        k, decay = still(k, lengths), still(decay, lengths)
        o, memory = decay_scan(r, k, v, decay, memory, bonus=self.time_faaaa)
        return self.finish(o, g), (at_end(x, lengths), memory)

    def project(
        self, x: Tensor, previous: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """x, previous (.., I) -> r, k, v, log decay (.., h, K) in `dtype`, and the gate (.., H)."""
        delta = previous - x
        z = (torch.addcmul(x, delta, self.time_maa_x) @ self.time_maa_w1).tanh()
        z = z.view(-1, *self.time_maa_w2.shape[:2]).transpose(0, 1)  # (5, tokens, rank)
        mixes = torch.stack(
            [self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g]
        )
        mixes = torch.baddbmm(mixes.unsqueeze(1), z, self.time_maa_w2).view(5, *x.shape)
        x_w, x_k, x_v, x_r, x_g = torch.addcmul(x, delta, mixes).unbind()
        w = self.time_decay + (x_w @ self.time_decay_w1).tanh() @ self.time_decay_w2
        decay = -w.to(dtype).clamp(max=STRONGEST).exp()
        r, k, v = self.receptance(x_r), self.key(x_k), self.value(x_v)
        r, k, v, decay = (part.to(dtype).unflatten(-1, (self.heads, -1)) for part in (r, k, v, decay))
        return r, k, v, decay, self.gate(x_g)

    def finish(self, o: Tensor, g: Tensor) -> Tensor:
        return self.output(group_norm(o.to(g.dtype), self.ln_x) * F.silu(g))


class RWKV6ChannelMix(ChannelMix):
    """y = sigmoid(R x^_r) * V relu(K x^_k)^2 on mixed inputs; state: the previous token (B, I)."""

    paper = RWKV6.paper
    no_decay = ("time_maa_k", "time_maa_r")

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, 7 * input_size // 2 if hidden_size is None else hidden_size)
        self.time_maa_k = nn.Parameter(1 - ramp(input_size))
        self.time_maa_r = nn.Parameter(1 - ramp(input_size))
        self.key = nn.Linear(input_size, self.hidden_size, bias=False)
        self.receptance = nn.Linear(input_size, input_size, bias=False)
        self.value = nn.Linear(self.hidden_size, input_size, bias=False)

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        delta = shifted(x, state) - x
        k = self.key(torch.addcmul(x, delta, self.time_maa_k)).relu().square()
        r = self.receptance(torch.addcmul(x, delta, self.time_maa_r)).sigmoid()
        return r * self.value(k), at_end(x, lengths)
