"""RWKV-4 time mixing: an exponentially fading average instead of attention (arXiv 2305.13048).

    x^_c = x_t * mix_c + x_{t-1} * (1 - mix_c)        c in key, value, receptance
    k, v, r = K x^_key, V x^_value, R x^_receptance
    y = W (sigmoid(r) * wkv(k, v))                    wkv in core.kernels.wkv

with decay exp(-exp(time_decay)) a step and weight exp(k + time_first) for the current token. Parameters have
the names and shapes of published checkpoints.
"""

import torch
from torch import Tensor, nn

from core.kernels.precision import state_zeros, widen
from core.kernels.wkv import LOWEST, wkv, wkv_step
from core.parts.lengths import at_end
from core.parts.memory import Tokens, log_keep, time_constants
from core.parts.options import sizes
from core.parts.shift import ramp, shifted
from core.units.contract import Unit
from core.units.matrix.channel_mix import ChannelMix

State = tuple[Tensor, Tensor, Tensor, Tensor]


class RWKV4(Unit):
    """x (B, T, I), state (x_prev (B, I), a, b, p (B, D)) -> y (B, T, H).

    Args:
        inner_size: width D of the average; default H.
    """

    modes = ("step", "sequential", "scan")
    freezes = True
    paper = "Peng et al. 2023, arXiv 2305.13048"
    no_decay = ("time_first", "time_mix_key", "time_mix_value", "time_mix_receptance")
    slow = ("time_decay",)

    def __init__(self, input_size: int, hidden_size: int, *, inner_size: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        sizes("RWKV4", inner_size=inner_size)
        self.inner_size = inner = hidden_size if inner_size is None else inner_size
        self.time_decay = nn.Parameter(-5 + 8 * ramp(inner) ** 0.7)
        zigzag = ((torch.arange(inner) + 1) % 3 - 1) * 0.5
        self.time_first = nn.Parameter(zigzag + torch.tensor(0.3).log())
        self.time_mix_key = nn.Parameter(ramp(input_size).view(1, 1, -1))
        self.time_mix_value = nn.Parameter(ramp(input_size).view(1, 1, -1))
        self.time_mix_receptance = nn.Parameter((ramp(input_size) ** 0.5).view(1, 1, -1))
        self.key = nn.Linear(input_size, inner, bias=False)
        self.value = nn.Linear(input_size, inner, bias=False)
        self.receptance = nn.Linear(input_size, inner, bias=False)
        self.output = nn.Linear(inner, hidden_size, bias=False)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        rate = -log_keep(time_constants("an RWKV-4", self.inner_size, tokens))
        self.time_decay.copy_(rate.log())

    def initial_state(self, x: Tensor) -> State:
        a, b = (state_zeros(x, x.shape[0], self.inner_size) for _ in range(2))
        return x.new_zeros(x.shape[0], self.input_size), a, b, torch.full_like(a, LOWEST)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        x_prev, a, b, p = state
        k, v, r = self.project(x.unsqueeze(1), x_prev.unsqueeze(1))
        k, v, w, u = widen(k.squeeze(1), v.squeeze(1), -self.time_decay.to(p.dtype).exp(), self.time_first)
        y, sums = wkv_step(k, v, w, u, (a, b, p))
        return self.output(r.squeeze(1).sigmoid() * y.to(r.dtype)), (x.clone(), *sums)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        x_prev, a, b, p = state
        k, v, r = self.project(x, shifted(x, x_prev))
        y, sums = wkv(k, v, -self.time_decay.to(p.dtype).exp(), self.time_first, (a, b, p), lengths)
        return self.output(r.sigmoid() * y.to(r.dtype)), (at_end(x, lengths), *sums)

    def project(self, x: Tensor, previous: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, previous (B, T, I) -> k, v, r (B, T, D)."""
        k = self.key(torch.lerp(previous, x, self.time_mix_key))
        v = self.value(torch.lerp(previous, x, self.time_mix_value))
        return k, v, self.receptance(torch.lerp(previous, x, self.time_mix_receptance))


class RWKV4ChannelMix(ChannelMix):
    """y = sigmoid(R x^_receptance) * V relu(K x^_key)^2; state: the previous token (B, I).

    hidden_size is the width of the squared layer, four times the input by default; y is as wide as x.
    """

    paper = RWKV4.paper
    no_decay = ("time_mix_key", "time_mix_receptance")

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, 4 * input_size if hidden_size is None else hidden_size)
        self.time_mix_key = nn.Parameter(ramp(input_size).view(1, 1, -1))
        self.time_mix_receptance = nn.Parameter(ramp(input_size).view(1, 1, -1))
        self.key = nn.Linear(input_size, self.hidden_size, bias=False)
        self.receptance = nn.Linear(input_size, input_size, bias=False)
        self.value = nn.Linear(self.hidden_size, input_size, bias=False)

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        previous = shifted(x, state)
        k = self.key(torch.lerp(previous, x, self.time_mix_key)).relu().square()
        r = self.receptance(torch.lerp(previous, x, self.time_mix_receptance)).sigmoid()
        return r * self.value(k), at_end(x, lengths)
