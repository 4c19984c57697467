"""Mamba, a selective state space in its whole block (Gu and Dao 2023, arXiv 2312.00752).

    x, z = W_in input
    u_t = silu(conv(x)_t)                                   causal, depthwise
    r_t, B_t, C_t = W_x u_t
    delta_t = softplus(W_dt r_t + b_dt)
    h_t = exp(delta_t A) * h_{t-1} + delta_t u_t B_t        A = -exp(A_log), h (D, N)
    y_t = C_t h_t + D u_t
    output = W_out (y * silu(z))

A second piece continues exactly: the state carries both the window of the convolution and h.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.selective_scan import selective_scan, selective_step
from core.kernels.selective_scan.definition import selective_scan_loop
from core.parts.conv import CausalConv
from core.parts.lengths import still
from core.parts.memory import Tokens, rate_for, time_constants
from core.parts.options import sizes
from core.parts.start import step_bias
from core.units.contract import Unit

State = tuple[Tensor, Tensor]
NO_STEP = -1e4
"""Before its softplus: a step of size zero."""


class Mamba(Unit):
    """x (B, T, I) -> y (B, T, H); state: window (B, K, D) of the convolution, h (B, D, N).

    Args:
        state_size: N, numbers kept per channel.
        expand: D = expand * hidden_size inner channels.
        conv_width: K.
        rank: of the projection to the step sizes; None is hidden_size / 16, rounded up.
        bias: whether the outer projections have one.
        conv_bias: whether the convolution has one.
    """

    modes = ("step", "sequential", "scan")
    freezes = True
    timed = "scan"
    paper = "Gu and Dao 2023, arXiv 2312.00752"
    no_decay = ("D",)
    slow = ("A_log", "dt_proj.bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 16,
        expand: int = 2,
        conv_width: int = 4,
        rank: int | None = None,
        bias: bool = False,
        conv_bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.rank = math.ceil(hidden_size / 16) if rank is None else rank
        self.state_size, self.inner_size = state_size, expand * hidden_size
        sizes("Mamba", state_size=state_size, expand=expand, conv_width=conv_width, rank=rank)
        self.in_proj = nn.Linear(input_size, 2 * self.inner_size, bias)
        self.conv = CausalConv(self.inner_size, conv_width, bias=conv_bias)
        self.x_proj = nn.Linear(self.inner_size, self.rank + 2 * state_size, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.inner_size)
        self.A_log = nn.Parameter(torch.arange(1.0, state_size + 1).log().repeat(self.inner_size, 1))
        self.D = nn.Parameter(torch.ones(self.inner_size))
        self.out_proj = nn.Linear(self.inner_size, hidden_size, bias)
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(step_bias(self.inner_size))

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        tau = time_constants("Mamba", self.inner_size, tokens)
        slowest = rate_for(
            tau, self.dt_proj.bias
        )  # of the N states of a channel; the others are n times as fast
        n = torch.arange(1.0, self.state_size + 1, device=slowest.device, dtype=slowest.dtype)
        self.A_log.copy_(slowest.unsqueeze(1) + n.log())

    def initial_state(self, x: Tensor) -> State:
        inner = torch.promote_types(x.dtype, torch.float32)
        h = x.new_zeros(x.shape[0], self.inner_size, self.state_size, dtype=inner)
        return self.conv.initial_state(x), h

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        return self.mix(x, state, mode, lengths=lengths)

    def mix(
        self,
        x: Tensor,
        state: State,
        mode: str = "scan",
        mask: Tensor | None = None,
        lengths: Tensor | None = None,
        gaps: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """The block on a sequence; `mask` (B, T) is 1 where a token counts.

        The mask is that of published models for left padding: it multiplies the input and the output of the
        convolution. `core.blocks.stack` skips masked tokens altogether.
        """
        window, h = state
        keep = None if mask is None else mask.unsqueeze(-1).to(x.dtype)
        x, z = self.in_proj(x if keep is None else x * keep).chunk(2, -1)
        u, window = self.conv(x, window, lengths)
        u = F.silu(u) if keep is None else F.silu(u) * keep
        delta, B, C = self.selection(u, h.dtype)
        delta = still(delta if gaps is None else over(delta, gaps), lengths, NO_STEP)
        if mode == "scan":
            y, h = selective_scan(u, delta, self.rates(h), B, C, self.D, z, h)
        else:
            u, B, C = (part.to(h.dtype) for part in (u, B, C))
            y, h = selective_scan_loop(u, delta, self.rates(h), B.unsqueeze(2), C.unsqueeze(2), h)
            y = (y + self.D * u) * F.silu(z)
        return self.out_proj(y.to(x.dtype)), (window, h)

    def run_after(
        self, x: Tensor, state: State, gaps: Tensor, mode: str, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        return self.mix(x, state, mode, lengths=lengths, gaps=gaps)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, h = state
        x, z = self.in_proj(x).chunk(2, -1)
        u, window = self.conv.step(x, window)
        u = F.silu(u)
        delta, B, C = self.selection(u, h.dtype)
        u, B, C = (part.to(h.dtype) for part in (u, B, C))
        y, h = selective_step(u, delta, self.rates(h), B, C, h)
        y = torch.addcmul(y, u, self.D.to(h.dtype)) * F.silu(z)
        return self.out_proj(y.to(x.dtype)), (window, h)

    def selection(self, u: Tensor, inner: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """What each token chooses: step sizes (..., D) before softplus, of type `inner`, B and C (..., N)."""
        r, B, C = self.x_proj(u).split([self.rank, self.state_size, self.state_size], -1)
        return self.dt_proj(r).to(inner), B, C

    def rates(self, h: Tensor) -> Tensor:
        """A (D, N) in the precision of the state."""
        return -torch.exp(self.A_log.to(h.dtype))


def over(delta: Tensor, gaps: Tensor) -> Tensor:
    """Step sizes before their softplus, for steps that last gaps (B, T) times as long."""
    step = gaps.unsqueeze(-1) * F.softplus(delta)
    # the inverse of softplus; a step of zero is one far below
    found = torch.where(step > 0, step + torch.log(-torch.expm1(-step.clamp(min=1e-30))), NO_STEP)
    return torch.where(gaps.unsqueeze(-1) == 1, delta, found)
