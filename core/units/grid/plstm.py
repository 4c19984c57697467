"""pLSTM on a sequence (Poeppel et al. 2025, arXiv 2506.11997).

    c_t = causal depthwise convolution of x, width 4
    q, k = headwise projections of c_t,  v = headwise projection of x_t
    S, M, D = sigmoid(biases),  T_t = tanh(5 (w . c_t + b))             one number per head
    C_t = T_t C_{t-1} + S k v^T,  o_t = dk^(-1/2) q^T (M C_{t-1} + D k v^T)
    y_t = W norm(o_t) + scale * c_t                                     rms norm per head

`core.units.grid.plstm2d` is the layer on a grid.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.plstm.scan import plstm_scan
from core.kernels.precision import state_zeros, without_autocast
from core.parts.heads import default_heads, head_count
from core.parts.lengths import still, window_at_end
from core.parts.memory import Tokens, time_constants
from core.units.contract import Unit

State = tuple[Tensor, Tensor]
SHARPNESS = 5.0
"""Slope of the transition before tanh."""


class PLSTM(Unit):
    """x (B, T, I), state (inputs of the convolution (B, W-1, I), C (B, h, dk, dv)) -> y (B, T, H).

    The convolution skips to the output only where input and output are equally wide.

    Args:
        heads: must divide both widths; default one for 64 channels where that divides them.
        conv_width: W.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Poeppel et al. 2025, arXiv 2506.11997"
    no_decay = (
        "source",
        "mark",
        "direct",
        "norm",
        "conv_bias",
        "query_bias",
        "key_bias",
        "value_bias",
    )
    slow = ("transition_weight", "transition_bias")

    def __init__(
        self, input_size: int, hidden_size: int, *, heads: int | None = None, conv_width: int = 4
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = h = grid_heads("PLSTM", input_size, hidden_size, heads)
        if conv_width < 1:
            raise ConfigError(f"PLSTM needs a convolution of width 1 or more, got {conv_width}")
        self.conv_weight = nn.Parameter(torch.randn(input_size, 1, conv_width) * conv_width**-0.5)
        self.conv_bias = nn.Parameter(torch.zeros(input_size))
        width, inputs = hidden_size // h, input_size // h
        self.query_weight, self.query_bias = headwise(h, width, inputs)
        self.key_weight, self.key_bias = headwise(h, width, inputs)
        self.value_weight, self.value_bias = headwise(h, width, inputs)
        self.source = nn.Parameter(torch.zeros(h))
        self.mark = nn.Parameter(torch.zeros(h))
        self.direct = nn.Parameter(torch.zeros(h))
        self.transition_weight = nn.Parameter(torch.zeros(h, input_size))
        self.transition_bias = nn.Parameter(slow_to_fast(h))
        self.norm = nn.Parameter(torch.ones(h, width))
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        self.skip = nn.Parameter(torch.ones(hidden_size)) if input_size == hidden_size else None

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        tau = time_constants("a pLSTM", self.heads, tokens)
        self.transition_bias.copy_((1 - 1 / tau).atanh() / SHARPNESS)

    def initial_state(self, x: Tensor) -> State:
        batch, width = x.shape[0], self.hidden_size // self.heads
        cache = x.new_zeros(batch, self.conv_weight.shape[-1] - 1, self.input_size)
        return cache, state_zeros(x, batch, self.heads, width, width)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        cache, memory = state
        window = torch.cat([cache.to(x.dtype), x.unsqueeze(1)], 1)  # (B, W, I)
        c = (window * self.conv_weight.squeeze(1).mT).sum(1) + self.conv_bias
        q, k, v, transition = self.project(x, c, memory.dtype)
        o, memory = advance(q, k, v, transition, *self.constants(memory.dtype), memory)
        return self.finish(o, c), (window[:, 1:].clone(), memory)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        cache, memory = state
        window = torch.cat([cache.to(x.dtype), x], 1)
        c = F.conv1d(window.mT, self.conv_weight, self.conv_bias, groups=self.input_size).mT
        q, k, v, transition = self.project(x, c, memory.dtype)
        k, transition = still(k, lengths), still(transition, lengths, 1.0)
        # heads become batch rows
        q, k, v, t = (part.transpose(1, 2).flatten(0, 1).unsqueeze(-1) for part in (q, k, v, transition))
        constants = (part.repeat(len(x)).view(-1, 1, 1, 1, 1) for part in self.constants(memory.dtype))
        source, mark, direct = (part.expand(-1, x.shape[1], 1, 1, 1) for part in constants)
        start = memory.flatten(0, 1).unsqueeze(-1)
        y, end = plstm_scan(q, k, v, source, t.unsqueeze(-1), mark, direct.unsqueeze(-1), start)
        o = y.squeeze(-1).unflatten(0, (-1, self.heads)).transpose(1, 2)
        kept = window_at_end(window, cache.shape[1], lengths)
        return self.finish(o, c), (kept, end.view(memory.shape))

    def project(self, x: Tensor, c: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, c (.., I) -> q, k, v (.., h, width), transition (.., h)."""
        q = by_head(c, self.query_weight, self.query_bias).to(dtype)
        k = by_head(c, self.key_weight, self.key_bias).to(dtype)
        v = by_head(x, self.value_weight, self.value_bias).to(dtype)
        transition = F.linear(c, self.transition_weight, self.transition_bias)
        return q, k, v, (SHARPNESS * transition.to(dtype)).tanh()

    def constants(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Source, mark and direct gate (h,)."""
        source, mark, direct = torch.stack([self.source, self.mark, self.direct]).to(dtype).sigmoid().unbind()
        return source, mark, direct

    def finish(self, o: Tensor, c: Tensor) -> Tensor:
        y = self.output(head_rms(o, self.norm).flatten(-2).to(c.dtype))
        return y if self.skip is None else y + self.skip * c


@without_autocast
def advance(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    transition: Tensor,
    source: Tensor,
    mark: Tensor,
    direct: Tensor,
    memory: Tensor,
) -> tuple[Tensor, Tensor]:
    """One token: q, k, v (B, h, width), transition (B, h), gates (h,), memory -> o (B, h, width), memory."""
    batch, heads, width = q.shape
    now = memory.reshape(batch * heads, width, width)
    column, row = (batch * heads, width, 1), (batch * heads, 1, width)
    read = torch.bmm(q.reshape(row), now).view(q.shape)
    own = (q * k).sum(-1, keepdim=True) * direct[:, None]
    o = torch.addcmul(own * v, mark[:, None], read)
    kept = transition.reshape(-1, 1, 1) * now
    after = torch.baddbmm(kept, (source[:, None] * k).reshape(column), v.reshape(row))
    return o * width**-0.5, after.view(memory.shape)


def grid_heads(name: str, input_size: int, hidden_size: int, heads: int | None) -> int:
    """As `head_count`, with heads that divide the input too: the projections are headwise."""
    if heads is None:
        return default_heads(hidden_size, input_size)
    if heads >= 1 and input_size % heads:
        raise ConfigError(f"{name} needs heads that divide the input width {input_size}, got {heads}")
    return head_count(name, hidden_size, heads)


def headwise(heads: int, outputs: int, inputs: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight (h, outputs, inputs) and bias (h, outputs) of a projection that keeps heads apart."""
    weight = torch.empty(heads, outputs, inputs).uniform_(-1, 1) * inputs**-0.5
    return nn.Parameter(weight), nn.Parameter(torch.zeros(heads, outputs))


def by_head(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (.., h inputs) -> (.., h, outputs)."""
    heads, outputs, inputs = weight.shape
    tokens = x.reshape(-1, heads, inputs).transpose(0, 1)
    y = torch.baddbmm(bias.unsqueeze(1), tokens, weight.mT)
    return y.transpose(0, 1).reshape(*x.shape[:-1], heads, outputs)


def head_rms(o: Tensor, weight: Tensor) -> Tensor:
    """o (.., h, V) / root mean square per head, times weight (h, V)."""
    return o * (o.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def slow_to_fast(count: int) -> Tensor:
    """Biases for transitions 1 - 10^-3 .. 1 - 10^-1: memories of ten to a thousand tokens."""
    forget = torch.logspace(-3, -1, count) if count > 1 else torch.tensor([1e-2])
    return (1 - forget).atanh() / SHARPNESS
