"""Mamba-2, a state space with one decay per head, in its whole block (Dao and Gu 2024, arXiv 2405.21060).

    z, u;B;C, dt = W_in input
    u, B, C = silu(conv(u;B;C))                                  causal, depthwise
    delta_t = clamp(softplus(dt_t + dt_bias), limit)             per head
    S_t = exp(-exp(A_log) delta_t) S_{t-1} + B_t (delta_t u_t)^T S (N, P) per head
    y_t = S_t^T C_t + D u_t
    output = W_out (rms(y * silu(z)) * w)                        rms over each group of channels

Head j reads B and C of group j * G // h. The limit holds in every mode, one step included.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.matrix_scan import decay_scan, decay_step
from core.kernels.precision import at_least_single
from core.parts.conv import CausalConv
from core.parts.heads import empty_state, head_count, split
from core.parts.lengths import still
from core.parts.memory import Tokens, rate_for, time_constants
from core.parts.norm import GatedRMSNorm
from core.parts.options import above_zero, sizes
from core.parts.start import step_bias
from core.units.contract import Unit

State = tuple[Tensor, Tensor]


class Mamba2(Unit):
    """x (B, T, I) -> y (B, T, H); state: window (B, K, C) of the convolution, S (B, h, N, P).

    Args:
        heads: h; None is one for every 64 of the D = expand * hidden_size inner channels.
        state_size: N.
        groups: G, of heads that share B and C, and of channels that are normalised together.
        expand: inner channels per hidden one.
        conv_width: K; the convolution covers C = D + 2 G N channels.
        limit: smallest and largest step size.
        bias: whether the outer projections have one.
        conv_bias: whether the convolution has one.
        norm_eps: of the norm before the output.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    timed = "chunkwise"
    paper = "Dao and Gu 2024, arXiv 2405.21060"
    no_decay = ("D", "norm.weight")
    slow = ("A_log", "dt_bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        state_size: int = 64,
        groups: int = 1,
        expand: int = 2,
        conv_width: int = 4,
        limit: tuple[float, float] = (0.0, math.inf),
        bias: bool = False,
        conv_bias: bool = True,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("Mamba-2", expand=expand, conv_width=conv_width, state_size=state_size)
        above_zero("Mamba-2", norm_eps=norm_eps)
        self.inner_size = expand * hidden_size
        self.heads = head_count("Mamba-2", self.inner_size, heads)
        if groups < 1 or self.heads % groups or self.inner_size % groups:
            raise ConfigError(f"Mamba-2 needs groups that divide its {self.heads} heads, got {groups}")
        if state_size < 1 or not 0 <= limit[0] < limit[1]:
            raise ConfigError(
                f"Mamba-2 needs a positive state size and a rising limit, got {state_size}, {limit}"
            )
        self.state_size, self.groups, self.limit = state_size, groups, (float(limit[0]), float(limit[1]))
        shared = groups * state_size
        self.mixed_widths = (self.inner_size, shared, shared)
        self.widths = (self.inner_size, self.inner_size + 2 * shared, self.heads)
        self.in_proj = nn.Linear(input_size, sum(self.widths), bias)
        self.conv = CausalConv(self.widths[1], conv_width, bias=conv_bias)
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.dt_bias = nn.Parameter(step_bias(self.heads))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedRMSNorm(self.inner_size, norm_eps, groups=groups)
        self.out_proj = nn.Linear(self.inner_size, hidden_size, bias)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        self.A_log.copy_(rate_for(time_constants("Mamba-2", self.heads, tokens), self.dt_bias))

    def initial_state(self, x: Tensor) -> State:
        memory = empty_state(x, self.heads, self.state_size, self.inner_size // self.heads)
        return self.conv.initial_state(x), memory

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        window, memory = state
        z, mixed, dt = self.in_proj(x).split(self.widths, -1)
        mixed, window = self.conv.step(mixed, window)
        u, q, k, v, log_decay = self.inputs(F.silu(mixed), dt)
        o, memory = decay_step(q, k, v, log_decay, memory)
        return self.finish(o, u, z), (window, memory)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        return self.mix(x, state, lengths=lengths)

    def run_after(
        self, x: Tensor, state: State, gaps: Tensor, mode: str, lengths: Tensor | None
    ) -> tuple[Tensor, State]:
        return self.mix(x, state, lengths=lengths, gaps=gaps)

    def mix(
        self,
        x: Tensor,
        state: State,
        mask: Tensor | None = None,
        lengths: Tensor | None = None,
        gaps: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """The block on a sequence, chunkwise; `mask` (B, T) is 1 where a token counts.

        The mask is that of published models for left padding: it multiplies the input and the output of the
        convolution. `core.blocks.stack` skips masked tokens altogether.
        """
        window, memory = state
        keep = None if mask is None else mask.unsqueeze(-1).to(x.dtype)
        z, mixed, dt = self.in_proj(x if keep is None else x * keep).split(self.widths, -1)
        mixed, window = self.conv(mixed, window, lengths)
        mixed = F.silu(mixed) if keep is None else F.silu(mixed) * keep
        u, q, k, v, log_decay = self.inputs(mixed, dt, lengths, gaps)
        o, memory = decay_scan(q, k, v, log_decay, memory)
        return self.finish(o, u, z), (window, memory)

    def inputs(
        self, mixed: Tensor, dt: Tensor, lengths: Tensor | None = None, gaps: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """mixed (.., C), dt (.., h) -> u (.., h, P), q = C, k = B, v = delta u, log-decay (.., h)."""
        u, B, C = mixed.split(self.mixed_widths, -1)
        u, k, q = split(u, self.heads), split(B, self.groups), split(C, self.groups)
        q, k = spread(q, self.heads), spread(k, self.heads)
        delta = F.softplus(at_least_single(dt) + self.dt_bias)
        if self.limit != (0.0, math.inf):
            delta = delta.clamp(*self.limit)
        delta = still(delta if gaps is None else gaps.unsqueeze(-1) * delta, lengths)
        log_decay = -at_least_single(self.A_log).exp() * delta
        return u, q, k, delta.unsqueeze(-1) * u, log_decay

    def finish(self, o: Tensor, u: Tensor, z: Tensor) -> Tensor:
        y = torch.addcmul(o, self.D.to(o.dtype).unsqueeze(-1), u.to(o.dtype)).flatten(-2)
        return self.out_proj(self.norm(y, z).to(z.dtype))


def spread(part: Tensor, heads: int) -> Tensor:
    """(.., G, N) -> (.., h, N), each group repeated for its heads; one group is not copied."""
    shared = heads // part.shape[-2]
    return part.unsqueeze(-2).expand(*part.shape[:-1], shared, part.shape[-1]).flatten(-3, -2)
