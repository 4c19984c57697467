"""RG-LRU, the real-gated linear recurrent unit of Griffin (De et al. 2024, arXiv 2402.19427).

    i_t = sigmoid(W_i x_t + b_i)       r_t = sigmoid(W_r x_t + b_r)        block-diagonal, one block a head
    log a_t = -8 r_t softplus(decay)
    h_t = a_t * h_{t-1} + sqrt(1 - a_t^2) * i_t * x_t
    h_t = i_t * x_t                                                        at the first token of a document

The first token has no past to be weighed against, so its factor is 1; the state remembers whether a token was
seen. The derivative of the root is bounded by 1000, since it has none where a = 1.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.linear_scan import linear_scan
from core.kernels.precision import at_least_single
from core.parts.heads import head_count
from core.parts.lengths import at_end
from core.parts.memory import Tokens, log_keep, time_constants
from core.units.contract import Unit

State = tuple[Tensor, Tensor]
RATE = 8.0
STEEPEST = 1000.0  # largest derivative of the root


class RGLRU(Unit):
    """x (B, T, I) -> h (B, T, H); state: h (B, H) in float32 at least, seen (B,) whether a token went before.

    Where I differs from H a linear map comes first.

    Args:
        heads: blocks of the gates, that divide the width; None is one for every 64 channels.
    """

    modes = ("step", "sequential", "scan")
    freezes = True
    paper = "De et al. 2024, arXiv 2402.19427"
    no_decay = ("gate_bias",)
    slow = ("decay",)

    def __init__(self, input_size: int, hidden_size: int, *, heads: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = head_count("RG-LRU", hidden_size, heads)
        block = hidden_size // self.heads
        self.proj = nn.Identity() if input_size == hidden_size else nn.Linear(input_size, hidden_size)
        # both gates read the same blocks, so they are one product: (h, in, out) with columns i;r
        self.gate_weight = nn.Parameter(torch.randn(self.heads, block, 2 * block) * block**-0.5)
        self.gate_bias = nn.Parameter(torch.zeros(self.heads, 2 * block))
        self.decay = nn.Parameter(initial_decay(hidden_size))

    def initial_state(self, x: Tensor) -> State:
        inner = torch.promote_types(x.dtype, torch.float32)
        h = x.new_zeros(x.shape[0], self.hidden_size, dtype=inner)
        return h, torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        rate = -log_keep(time_constants("an RG-LRU", self.hidden_size, tokens))
        self.decay.copy_((rate / (RATE / 2)).expm1().log())  # r is 1/2 at zero input

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        h, seen = state
        fresh = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        fresh[:, 0] = ~seen
        return self.scan(x, h, fresh, lengths)

    def scan(
        self, x: Tensor, h: Tensor, fresh: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """A whole sequence in which a document starts at each token where `fresh` (B, T) holds."""
        a, write = self.decay_and_write(self.proj(x), fresh)
        y = linear_scan(a, write, h.to(write.dtype))
        return y.to(x.dtype), (at_end(y, lengths, h), torch.ones_like(fresh[:, 0]))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, seen = state
        a, write = self.decay_and_write(self.proj(x), ~seen)
        h = torch.addcmul(write, a, h.to(write.dtype))
        return h.to(x.dtype), (h, torch.ones_like(seen))

    def decay_and_write(self, x: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """x (.., H), fresh (..) -> a_t and what the token adds to h, in float32 at least."""
        parts = x.reshape(-1, *self.gate_weight.shape[:2])  # (tokens, h, D)
        gates = torch.baddbmm(self.gate_bias.unsqueeze(1), parts.transpose(0, 1), self.gate_weight)
        i, r = at_least_single(gates).sigmoid().transpose(0, 1).chunk(2, -1)
        rate = F.softplus(at_least_single(self.decay)) * -RATE
        log_a = r * rate.view(parts.shape[1:])
        fresh = fresh.reshape(-1, 1, 1)
        a = log_a.exp()
        # 1 - a^2 without cancellation where a is near 1; expm1 would be exact too, but is slow
        rest = -torch.tanh(log_a) * (1 + a.square())
        root = bounded_sqrt(rest) if torch.is_grad_enabled() else rest.sqrt()
        factor = root.masked_fill(fresh, 1)
        return a.masked_fill(fresh, 0).reshape(x.shape), (factor * i * parts).reshape(x.shape)


def bounded_sqrt(x: Tensor) -> Tensor:
    """sqrt(x) for x >= 0, with a derivative of at most `STEEPEST`: below the point of that slope a line."""
    bend = 0.25 / STEEPEST**2
    line = x.detach().sqrt() + STEEPEST * (x - x.detach())
    return torch.where(x < bend, line, x.clamp(min=bend).sqrt())


def initial_decay(width: int, shortest: float = 0.9, longest: float = 0.999) -> Tensor:
    """(width,) values for which a, at r = 1, is uniform on the ring between two radii."""
    ring = torch.empty(width).uniform_(shortest**2, longest**2)
    return torch.log(torch.expm1(-ring.log() / (2 * RATE)))
