"""RWKV-7 time mixing: a delta rule with vector decay and an in-context learning rate (arXiv 2503.14456).

    x^_c = x_t + (x_{t-1} - x_t) * mix_c                          c in r, w, k, v, a, g
    w = exp(-0.606531 sigmoid(w0 + tanh(x^_w W1) W2))             decay of each key channel
    a = sigmoid(a0 + x^_a A1 A2),  g = sigmoid(x^_g G1) G2
    r, k, v = R x^_r, K x^_k, V x^_v
    kappa = unit length per head of k * k_k,  k <- k * (1 + (a - 1) * k_a)
    v <- v + (v_first - v) * sigmoid(v0 + x^_v V1 V2)             layers above the first only
    S_t = diag(w) S_{t-1} - (a * kappa) (kappa^T S_{t-1}) + k v^T
    o = group_norm(S_t^T r) + (r . (k * r_k)) v per head,  y = W (o * g)

Parameters have the names of published checkpoints (`blocks.N.att.*`), whose (1, 1, C) are (C,) here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.dplr_scan import dplr_scan, dplr_step
from core.kernels.precision import state_zeros
from core.parts.heads import head_count
from core.parts.lengths import at_end, still
from core.parts.memory import Tokens, log_keep, time_constants
from core.parts.options import sizes
from core.parts.shift import group_norm, ramp, shifted
from core.units.contract import Unit
from core.units.matrix.channel_mix import ChannelMix

State = tuple[Tensor, Tensor]

LEAST = -0.606531
"""Lowest log decay of a token."""


class RWKV7(Unit):
    """x (B, T, I), state (x_prev (B, I), S (B, h, K, K)) -> y (B, T, H).

    Args:
        heads: default one for 64 channels.
        value_residual: mix the value with that of the first layer, which `mix` then needs.
        decay_rank, rate_rank, value_rank, gate_rank: widths of the low-rank gates w, a, v, g.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Peng et al. 2025, arXiv 2503.14456"
    no_decay = ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "a0", "k_k", "k_a", "r_k")
    slow = ("w0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        value_residual: bool = False,
        decay_rank: int = 32,
        rate_rank: int = 32,
        value_rank: int = 32,
        gate_rank: int = 32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        ranks = {"decay_rank": decay_rank, "rate_rank": rate_rank, "value_rank": value_rank}
        sizes("RWKV7", **ranks, gate_rank=gate_rank)
        self.heads = head_count("RWKV7", hidden_size, heads)
        self.value_residual = value_residual
        i, h = input_size, hidden_size
        self.x_r = nn.Parameter(1 - ramp(i) ** 0.2)
        self.x_w = nn.Parameter(1 - ramp(i) ** 0.9)
        self.x_k = nn.Parameter(1 - ramp(i) ** 0.7)
        self.x_v = nn.Parameter(1 - ramp(i) ** 0.7)
        self.x_a = nn.Parameter(1 - ramp(i) ** 0.9)
        self.x_g = nn.Parameter(1 - ramp(i) ** 0.2)
        self.w0 = nn.Parameter(-6.5 + 5 * ramp(h) ** 0.85)
        self.w1, self.w2 = low_rank(i, decay_rank, h)
        self.a0 = nn.Parameter(torch.zeros(h))
        self.a1, self.a2 = low_rank(i, rate_rank, h)
        self.g1, self.g2 = low_rank(i, gate_rank, h)
        if value_residual:
            self.v0 = nn.Parameter(torch.ones(h))
            self.v1, self.v2 = low_rank(i, value_rank, h)
        self.k_k = nn.Parameter(torch.full((h,), 0.85))
        self.k_a = nn.Parameter(torch.ones(h))
        self.r_k = nn.Parameter(torch.zeros(self.heads, h // self.heads))
        self.receptance = nn.Linear(i, h, bias=False)
        self.key = nn.Linear(i, h, bias=False)
        self.value = nn.Linear(i, h, bias=False)
        self.output = nn.Linear(h, h, bias=False)
        self.ln_x = nn.GroupNorm(self.heads, h, eps=64e-5)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        share = log_keep(time_constants("an RWKV-7", self.hidden_size, tokens)) / LEAST
        self.w0.copy_(share.clamp(max=0.99).logit())  # it always keeps more than half

    def initial_state(self, x: Tensor) -> State:
        width = self.hidden_size // self.heads
        return x.new_zeros(x.shape[0], self.input_size), state_zeros(x, x.shape[0], self.heads, width, width)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, _, state = self.mix(x, state, mode="step")
        return y, state

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        y, _, state = self.mix(x, state, lengths=lengths)
        return y, state

    def mix(
        self,
        x: Tensor,
        state: State,
        v_first: Tensor | None = None,
        mode: str = "chunkwise",
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Tokens x (B, T, I), or one token (B, I) in mode "step", with the values of the first layer.

        Args:
            v_first: (B, T, H) or (B, H), what the layer without value residual returned.
            lengths: (B,) as in `Unit.forward`.

        Returns:
            y, v_first, state.

        Raises:
            ValueError: a layer with value residual got no v_first.
        """
        x_prev, memory = state
        one = mode == "step"
        delta = (x_prev if one else shifted(x, x_prev)) - x
        mixes = torch.stack([self.x_r, self.x_w, self.x_k, self.x_v, self.x_a, self.x_g])
        x_r, x_w, x_k, x_v, x_a, x_g = torch.addcmul(
            x, delta, mixes.view(6, *[1] * (x.ndim - 1), -1)
        ).unbind()
        r, k, v = self.receptance(x_r), self.key(x_k), self.value(x_v)
        w = F.linear((x_w @ self.w1).tanh(), self.w2.mT, self.w0)
        a = F.linear(x_a @ self.a1, self.a2.mT, self.a0).sigmoid()
        g = (x_g @ self.g1).sigmoid() @ self.g2
        first = v
        if self.value_residual:
            if v_first is None:
                raise ValueError("RWKV7 with value_residual needs v_first, the values of the first layer")
            first = v_first
            v = v + (v_first - v) * F.linear(x_v @ self.v1, self.v2.mT, self.v0).sigmoid()

        decay = LEAST * w.to(memory.dtype).sigmoid()
        kappa = k * self.k_k
        k = k * (1 + (a - 1) * self.k_a)
        heads = (*x.shape[:-1], self.heads, -1)
        r, k, v, a, decay, kappa = (part.view(heads) for part in (r, k, v, a, decay, kappa))
        # not by the norm, whose second derivative at zero (padding) is NaN
        kappa = kappa * kappa.square().sum(-1, keepdim=True).clamp(min=1e-24).rsqrt()
        if one:
            o, memory = dplr_step(r, k, v, -kappa, a * kappa, decay, memory)
        else:
            kept, rate, decay = still(k, lengths), still(a * kappa, lengths), still(decay, lengths)
            o, memory = dplr_scan(r, kept, v, -kappa, rate, decay, memory, bound=LEAST)
        o = group_norm(o.to(x.dtype), self.ln_x)
        bonus = (r * k * self.r_k).sum(-1, keepdim=True) * v
        y = self.output((o + bonus.flatten(-2)) * g)
        return y, first, (x.clone() if one else at_end(x, lengths), memory)


def low_rank(inputs: int, rank: int, outputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Factors (inputs, rank) and (rank, outputs) of a small initial product."""
    first = torch.empty(inputs, rank).uniform_(-1, 1) * inputs**-0.5
    return nn.Parameter(first), nn.Parameter(0.1 * nn.init.orthogonal_(torch.empty(rank, outputs)))


class RWKV7ChannelMix(ChannelMix):
    """y = V relu(K (x_t + (x_{t-1} - x_t) * x_k))^2; state: the previous token (B, I)."""

    paper = RWKV7.paper
    no_decay = ("x_k",)

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, 4 * input_size if hidden_size is None else hidden_size)
        self.x_k = nn.Parameter(1 - ramp(input_size) ** 4)
        self.key = nn.Linear(input_size, self.hidden_size, bias=False)
        self.value = nn.Linear(self.hidden_size, input_size, bias=False)

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        k = self.key(torch.addcmul(x, shifted(x, state) - x, self.x_k))
        return self.value(k.relu().square()), at_end(x, lengths)
