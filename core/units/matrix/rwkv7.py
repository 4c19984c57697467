"""RWKV-7 time mixing: a delta rule with vector decay and an in-context learning rate (arXiv 2503.14456).

    x^_c = x_t + (x_{t-1} - x_t) * mix_c                          c in r, w, k, v, a, g
    w = exp(-0.606531 sigmoid(w0 + tanh(x^_w W1) W2))             decay of each key channel
    a = sigmoid(a0 + x^_a A1 A2),  g = sigmoid(x^_g G1) G2
    r, k, v = R x^_r, K x^_k, V x^_v
    kappa = unit length per head of k * k_k,  k <- k * (1 + (a - 1) * k_a)
    v <- v + (v_first - v) * sigmoid(v0 + x^_v V1 V2)             layers above the first only
    S_t = diag(w) S_{t-1} - (a * kappa) (kappa^T S_{t-1}) + k v^T
    o = group_norm(S_t^T r) + (r . (k * r_k)) v per head,  y = W (o * g)

Parameters have the names and shapes of published checkpoints (`blocks.N.att.*`).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from core.kernels.dplr_scan import dplr_ref, dplr_scan
from core.kernels.precision import state_zeros
from core.units.contract import Unit
from core.units.matrix.token_shift import head_count, ramp, shifted

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

    modes: ClassVar = ("step", "sequential", "chunkwise")
    paper: ClassVar = "Peng et al. 2025, arXiv 2503.14456"
    no_decay: ClassVar = ("x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "a0", "k_k", "k_a", "r_k")
    slow: ClassVar = ("w0",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int | None = None,
        *,
        value_residual: bool = False,
        decay_rank: int = 32,
        rate_rank: int = 32,
        value_rank: int = 32,
        gate_rank: int = 32,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = head_count("RWKV7", hidden_size, heads)
        self.value_residual = value_residual
        i, h = input_size, hidden_size
        for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
            setattr(self, f"x_{name}", nn.Parameter(1 - ramp(i) ** power))
        self.w0 = nn.Parameter(-6.5 + 5 * ramp(h) ** 0.85)
        self.a0 = nn.Parameter(torch.zeros(1, 1, h))
        ranks = {"w": decay_rank, "a": rate_rank, "g": gate_rank}
        ranks |= {"v": value_rank} if value_residual else {}
        for name, rank in ranks.items():
            setattr(self, f"{name}1", nn.Parameter(torch.empty(i, rank).uniform_(-1, 1) * i**-0.5))
            setattr(self, f"{name}2", nn.Parameter(0.1 * nn.init.orthogonal_(torch.empty(rank, h))))
        if value_residual:
            self.v0 = nn.Parameter(torch.ones(1, 1, h))
        self.k_k = nn.Parameter(torch.full((1, 1, h), 0.85))
        self.k_a = nn.Parameter(torch.ones(1, 1, h))
        self.r_k = nn.Parameter(torch.zeros(self.heads, h // self.heads))
        self.receptance = nn.Linear(i, h, bias=False)
        self.key = nn.Linear(i, h, bias=False)
        self.value = nn.Linear(i, h, bias=False)
        self.output = nn.Linear(h, h, bias=False)
        self.ln_x = nn.GroupNorm(self.heads, h, eps=64e-5)

    def initial_state(self, x: Tensor) -> State:
        width = self.hidden_size // self.heads
        return x.new_zeros(x.shape[0], self.input_size), state_zeros(x, x.shape[0], self.heads, width, width)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.run(x.unsqueeze(1), state, "sequential")
        return y.squeeze(1), state

    def run(self, x: Tensor, state: State, mode: str) -> tuple[Tensor, State]:
        y, _, state = self.mix(x, state, mode=mode)
        return y, state

    def mix(
        self, x: Tensor, state: State, v_first: Tensor | None = None, mode: str = "chunkwise"
    ) -> tuple[Tensor, Tensor, State]:
        """As `forward`, with the value of the first layer v_first (B, T, H) in and out.

        Raises:
            ValueError: a layer with value residual got no v_first.
        """
        x_prev, memory = state
        delta = shifted(x, x_prev) - x
        r = self.receptance(torch.addcmul(x, delta, self.x_r))
        k = self.key(torch.addcmul(x, delta, self.x_k))
        x_v = torch.addcmul(x, delta, self.x_v)
        v = self.value(x_v)
        w = self.w0 + (torch.addcmul(x, delta, self.x_w) @ self.w1).tanh() @ self.w2
        a = (self.a0 + (torch.addcmul(x, delta, self.x_a) @ self.a1) @ self.a2).sigmoid()
        g = (torch.addcmul(x, delta, self.x_g) @ self.g1).sigmoid() @ self.g2
        if not self.value_residual:
            v_first = v
        elif v_first is None:
            raise ValueError(
                "RWKV7 with value_residual needs the values of the first layer: call mix(..., v_first)"
            )
        else:
            v = v + (v_first - v) * (self.v0 + (x_v @ self.v1) @ self.v2).sigmoid()

        kappa = normalize(self.per_head(k * self.k_k), dim=-1)
        rate, k, r, v, w = (self.per_head(part) for part in (a, k * (1 + (a - 1) * self.k_a), r, v, w))
        decay = LEAST * w.to(memory.dtype).sigmoid()
        if mode == "chunkwise":
            o, memory = dplr_scan(r, k, v, -kappa, rate * kappa, decay, memory, bound=LEAST)
        else:
            o, memory = dplr_ref(r, k, v, -kappa, rate * kappa, decay, memory)
        o = self.ln_x(o.reshape(-1, self.hidden_size).to(x.dtype)).view(v.shape)
        o = o + (r * k * self.r_k).sum(-1, keepdim=True) * v
        y = self.output(o.flatten(2) * g)
        return y, v_first, (x[:, -1], memory)

    def per_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class RWKV7ChannelMix(Unit):
    """y = V relu(K (x_t + (x_{t-1} - x_t) * x_k))^2; state: the previous token (B, I)."""

    paper: ClassVar = RWKV7.paper
    no_decay: ClassVar = ("x_k",)

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, 4 * input_size if hidden_size is None else hidden_size)
        self.x_k = nn.Parameter(1 - ramp(input_size) ** 4)
        self.key = nn.Linear(input_size, self.hidden_size, bias=False)
        self.value = nn.Linear(self.hidden_size, input_size, bias=False)

    @property
    def output_size(self) -> int:
        return self.input_size

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.input_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.run(x.unsqueeze(1), state, "sequential")
        return y.squeeze(1), state

    def run(self, x: Tensor, state: Tensor, mode: str) -> tuple[Tensor, Tensor]:
        k = self.key(torch.addcmul(x, shifted(x, state) - x, self.x_k))
        return self.value(k.relu().square()), x[:, -1]
