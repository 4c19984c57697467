"""Aaren, attention as a recurrent network: one learned query per head (Feng et al. 2024, arXiv 2405.13956).

    k_t, v_t = K x_t, V x_t
    s_t = q . k_t / sqrt(K)                       per head
    o_t = softmax average of v_1 .. v_t under s_1 .. s_t
    y_t = W o_t

The state holds the running maximum of the scores, the denominator and the numerator of the average.
"""

import torch
from torch import Tensor, nn

from core.kernels.precision import state_zeros
from core.kernels.prefix_attention import State, prefix_attention, prefix_attention_step
from core.parts.heads import head_count
from core.parts.lengths import still
from core.parts.packed import packed
from core.units.contract import Unit


class Aaren(Unit):
    """x (B, T, I), state (m (B, h), u (B, h), w (B, h, H/h)) -> y (B, T, H).

    Args:
        heads: default one for 64 channels.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Feng et al. 2024, arXiv 2405.13956"
    no_decay = ("query",)
    packs = True

    def __init__(self, input_size: int, hidden_size: int, *, heads: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = head_count("Aaren", hidden_size, heads)
        self.query = nn.Parameter(torch.randn(self.heads, hidden_size // self.heads))
        # no bias: the same number on every score changes nothing
        self.key = nn.Linear(input_size, hidden_size, bias=False)
        self.value = nn.Linear(input_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, x: Tensor) -> State:
        batch, heads = x.shape[0], self.heads
        m = state_zeros(x, batch, heads, fill=-torch.inf)
        return m, torch.zeros_like(m), state_zeros(x, batch, heads, self.hidden_size // heads)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        o, state = prefix_attention_step(*self.project(x, state[0].dtype), state)
        return self.output(o.flatten(1).to(x.dtype)), state

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        rows = packed(x, lengths)
        s, v = self.project(x if rows is None else rows.pack(x), state[0].dtype)
        if rows is not None:
            s, v = rows.unpack(s), rows.unpack(v.flatten(1)).unflatten(2, v.shape[1:])
        o, state = prefix_attention(still(s, lengths, -torch.inf), v, state)
        o = o.flatten(2).to(x.dtype)
        return self.output(o) if rows is None else rows.unpack(self.output(rows.pack(o))), state

    def project(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """x (.., I) -> scores (.., h), values (.., h, V)."""
        k, v = (part.to(dtype).unflatten(-1, (self.heads, -1)) for part in (self.key(x), self.value(x)))
        return (k * self.query).sum(-1) * self.query.shape[-1] ** -0.5, v
