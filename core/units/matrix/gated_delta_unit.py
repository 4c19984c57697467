"""What Gated DeltaNet and DeltaProduct share: projection, convolution, decay per head and gated norm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.precision import at_least_single
from core.parts.conv import CausalConv
from core.parts.heads import split
from core.parts.lengths import still
from core.parts.memory import Tokens, rate_for, time_constants
from core.parts.norm import GatedRMSNorm
from core.parts.start import step_bias
from core.units.contract import Unit

State = tuple[Tensor, Tensor]
"""Conv window (B, conv_width, C) and S (B, h, K, V)."""


class GatedDeltaUnit(Unit):
    """A subclass sets `heads`, calls `add_parts`, and has `inputs`, `step`, `scan`, `title` and `paper`."""

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    no_decay = ("norm.weight",)
    slow = ("A_log", "dt_bias")
    title: str
    """The unit in a sentence."""
    scan: Callable[..., Any]
    """(q, k, v, beta, log-decay, S) -> o, S over a sequence."""
    heads: int

    def add_parts(
        self, widths: tuple[int, int, int, int], value_size: int, conv_width: int, eps: float
    ) -> None:
        """widths: of the convolved channels, the gate of the output, b and a."""
        self.widths = widths
        self.qkvzba = nn.Linear(self.input_size, sum(widths), bias=False)
        self.conv = CausalConv(widths[0], conv_width, bias=False)
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.dt_bias = nn.Parameter(step_bias(self.heads))
        self.norm = GatedRMSNorm(value_size, eps, norm_first=True)
        self.output = nn.Linear(self.heads * value_size, self.hidden_size, bias=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        self.A_log.copy_(rate_for(time_constants(f"a {self.title}", self.heads, tokens), self.dt_bias))

    def log_decay(self, a: Tensor) -> Tensor:
        """-exp(A) softplus(a + b) per head, in float32 at least."""
        return -at_least_single(self.A_log).exp() * F.softplus(at_least_single(a) + self.dt_bias)

    def inputs(self, mixed: Tensor, b: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Convolved channels, b, a -> q, k, v, beta, log-decay."""
        raise NotImplementedError

    def finish(self, o: Tensor, z: Tensor) -> Tensor:
        return self.output(self.norm(o, split(z, self.heads)).flatten(-2))

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        window, memory = state
        mixed, z, b, a = self.qkvzba(x).split(self.widths, -1)
        mixed, window = self.conv(mixed, window, lengths)
        q, k, v, beta, log_decay = self.inputs(mixed, b, a)
        o, memory = self.scan(q, k, v, still(beta, lengths), still(log_decay, lengths), memory)
        return self.finish(o, z), (window, memory)
