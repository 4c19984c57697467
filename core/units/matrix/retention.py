"""Retention, the multi-scale layer of RetNet (Sun et al. 2023, arXiv 2307.08621).

    q_t, k_t = R^t W_q x_t, K^(-1/2) R^t W_k x_t       v_t = W_v x_t
    S_t = gamma S_{t-1} + k_t v_t^T                    gamma = 1 - 2^(-5 - head), fixed
    o_t = S_t^T q_t
    y_t = W_o (swish(W_g x_t) * norm(o_t))             norm: layer norm per head, nothing learned

R^t rotates pairs (i, i + K/2) of channels by the angle t * 10000^(-2 i / K), so that q_t . k_s depends on
t - s; an odd last channel does not turn. The xPos damping of the paper is left out: gamma does its work.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.kernels.matrix_scan import decay_scan, decay_step
from core.parts.heads import empty_state, head_count, split
from core.parts.lengths import still
from core.parts.memory import Tokens, log_keep, time_constants
from core.parts.rotary import rotate
from core.units.contract import Unit

State = tuple[Tensor, Tensor]


class Retention(Unit):
    """x (B, T, I), state: S (B, h, K, V) and tokens seen (B,) -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is one for every 64 channels.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    paper = "Sun et al. 2023, arXiv 2307.08621"

    def __init__(self, input_size: int, hidden_size: int, *, heads: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = head_count("retention", hidden_size, heads)
        # no buffers: a change of type must not round these, 1 - 2^-12 is 1 in bfloat16
        self.tables = {"cpu": (retention_log_decay(self.heads), frequencies(hidden_size // self.heads))}
        self.qkvg = nn.Linear(input_size, 4 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        # its decays are no parameters: who loads weights builds with the same option
        decay = log_keep(time_constants("a retention", self.heads, tokens))
        self.tables = {"cpu": (decay, self.tables["cpu"][1])}

    def initial_state(self, x: Tensor) -> State:
        width = self.hidden_size // self.heads
        seen = torch.zeros(x.shape[0], dtype=torch.long, device=x.device)
        return empty_state(x, self.heads, width, width), seen

    def project(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (.., I), position (..,) -> rotated q, k and v (.., h, D), gate (.., H)."""
        q_k_v, gate = self.qkvg(x).split([3 * self.hidden_size, self.hidden_size], -1)
        qk, v = split(q_k_v, 3 * self.heads).split([2 * self.heads, self.heads], -2)
        q, k = rotate(qk, position[..., None, None] * self.constants(x)[1]).chunk(2, -2)
        return q, k * k.shape[-1] ** -0.5, v, gate

    def log_decay(self, memory: Tensor) -> Tensor:
        """(h,) in the type of the state."""
        return self.constants(memory)[0].to(memory.dtype)

    def constants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log gamma (h,) and angles (K // 2,) in float64 on the device of x."""
        place = str(x.device)
        if place not in self.tables:
            log_decay, frequency = self.tables["cpu"]
            self.tables[place] = log_decay.to(x.device), frequency.to(x.device)
        return self.tables[place]

    def finish(self, o: Tensor, gate: Tensor) -> Tensor:
        return self.output(F.silu(gate) * F.layer_norm(o, o.shape[-1:]).flatten(-2))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        memory, seen = state
        q, k, v, gate = self.project(x, seen)
        log_decay = self.log_decay(memory).expand(q.shape[:2])
        o, memory = decay_step(q, k, v, log_decay, memory)
        return self.finish(o, gate), (memory, seen + 1)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        memory, seen = state
        time = x.shape[1]
        q, k, v, gate = self.project(x, seen.unsqueeze(1) + torch.arange(time, device=x.device))
        log_decay = self.log_decay(memory).expand(q.shape[:3])
        o, memory = decay_scan(q, still(k, lengths), v, still(log_decay, lengths), memory)
        return self.finish(o, gate), (memory, seen + (time if lengths is None else lengths))


def retention_log_decay(heads: int) -> Tensor:
    """log(1 - 2^(-5 - head)), (h,) in float64."""
    return torch.log1p(-torch.exp2(-5 - torch.arange(heads, dtype=torch.float64)))


def frequencies(width: int) -> Tensor:
    """Angle per token of each channel pair: 10000^(-2 i / width), (width // 2,) in float64."""
    return 10000 ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
