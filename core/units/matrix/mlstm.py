"""mLSTM: matrix memory with exponential gates, from xLSTM (Beck et al. 2024, arXiv 2405.04517).

    q, k, v = Q x, K x, V x                       per head
    i~, f~ = cap(w_i . x + b_i), cap(w_f . x + b_f),  one number per head, cap(z) = 15 tanh(z / 15)
    C_t = f C_{t-1} + i k v^T,  n_t = f n_{t-1} + i k,  h = C^T q / max(|n . q|, 1)
    y = W (sigmoid(o) * norm(h)),  o = O x, norm per head

`core.kernels.mlstm_chunk` has the gates, the running maximum that keeps exp(i~) finite, and the scale of k.
With `input_gate="sigmoid"` i = sigmoid(i~), no maximum is needed (arXiv 2503.14376).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.mlstm_chunk import mlstm_chunkwise, mlstm_sigmoid, mlstm_sigmoid_step, mlstm_step
from core.kernels.precision import state_zeros
from core.parts.heads import head_count
from core.parts.lengths import still
from core.parts.memory import Tokens, keep_logit, time_constants
from core.parts.options import above_zero, one_of
from core.units.contract import Unit

State = tuple[Tensor, ...]
CAP = 15.0
SHUT = 1e4


class MLSTM(Unit):
    """x (B, T, I), state (C (B, h, K, V), n (B, h, K), m (B, h)) -> y (B, T, H); V = H/h.

    Args:
        heads: default one for 64 channels.
        key_factor: width of queries and keys relative to the values.
        input_gate: "exponential", or "sigmoid" (then the state is (C, n)).
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Beck et al. 2024, arXiv 2405.04517"
    no_decay = ("norm",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        key_factor: float = 1.0,
        input_gate: str = "exponential",
    ) -> None:
        super().__init__(input_size, hidden_size)
        one_of("MLSTM", "input_gate", input_gate, ("exponential", "sigmoid"))
        above_zero("MLSTM", key_factor=key_factor)
        self.heads = head_count("MLSTM", hidden_size, heads)
        self.key_width = max(1, round(hidden_size // self.heads * key_factor))
        self.input_gate = input_gate
        inner = self.heads * self.key_width
        self.query = nn.Linear(input_size, inner, bias=False)
        self.key = nn.Linear(input_size, inner, bias=False)
        self.value = nn.Linear(input_size, hidden_size, bias=False)
        self.output_gate = nn.Linear(input_size, hidden_size, bias=False)
        self.gates = nn.Linear(input_size, 2 * self.heads)  # i of every head, then f
        self.norm = nn.Parameter(torch.ones(hidden_size))
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        with torch.no_grad():
            self.gates.weight.zero_()
            self.gates.bias[: self.heads].normal_(0, 0.1)
            self.gates.bias[self.heads :] = torch.linspace(3, 6, self.heads)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        keep = keep_logit(time_constants("an mLSTM", self.heads, tokens))
        self.gates.bias[self.heads :] = CAP * (keep / CAP).atanh()

    def initial_state(self, x: Tensor) -> State:
        batch, heads = x.shape[0], self.heads
        memory = state_zeros(x, batch, heads, self.key_width, self.hidden_size // heads)
        n = state_zeros(x, batch, heads, self.key_width)
        return (memory, n) if self.input_gate == "sigmoid" else (memory, n, state_zeros(x, batch, heads))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        advance: Callable[..., Any] = mlstm_step if self.input_gate == "exponential" else mlstm_sigmoid_step
        h, state = advance(*self.project(x, state[0].dtype), state)
        return self.finish(x, h), state

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        scan: Callable[..., Any] = mlstm_chunkwise if self.input_gate == "exponential" else mlstm_sigmoid
        q, k, v, i, f = self.project(x, state[0].dtype)
        # far below and above zero: nothing written, nothing forgotten
        i, f = still(i, lengths, -SHUT), still(f, lengths, SHUT)
        h, state = scan(q, k, v, i, f, state)
        return self.finish(x, h), state

    def project(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """x (.., I) -> q, k, v (.., h, width), capped gates i, f (.., h)."""
        q, k, v = (
            part(x).to(dtype).unflatten(-1, (self.heads, -1)) for part in (self.query, self.key, self.value)
        )
        i, f = (CAP * (self.gates(x).to(dtype) / CAP).tanh()).chunk(2, -1)
        return q, k, v, i, f

    def finish(self, x: Tensor, h: Tensor) -> Tensor:
        h = F.layer_norm(h, h.shape[-1:], eps=1e-6).flatten(-2).to(x.dtype) * self.norm
        return self.output(self.output_gate(x).sigmoid() * h)
