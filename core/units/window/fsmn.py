"""Feed-forward sequential memory (DFSMN; Zhang et al. 2015, 2018, arXiv 1512.08301, 1803.05030).

    p_t = V relu(U x_t + b)
    y_t = p_t + sum_{i=0..N1} a_i * p_{t - i s1} + sum_{j=1..N2} c_j * p_{t + j s2}       elementwise

A window of memory in place of recurrence: a depthwise convolution with learned taps. The memory skip of
deep networks, y^l + y^{l-1}, is `core.stack("fsmn", ..., residual=True)`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.precision import widen, without_autocast
from core.parts.lengths import window_at_end
from core.parts.options import sizes
from core.parts.packed import packed
from core.units.contract import Unit


class FSMN(Unit):
    """x (B, T, I), state: the last memories (B, N1 s1, H) -> y (B, T, H).

    Args:
        order, stride: N1 and s1, how far back the memory reaches and in which strides.
        look_ahead, look_ahead_stride: N2 and s2. With look-ahead a call sees the future of its own
            tokens, zeros after them, and the unit cannot go step by step.
        inner_size: width of the relu layer, by default twice H.
    """

    modes = ("step", "sequential", "convolution")
    freezes = True
    paper = "Zhang et al. 2018, arXiv 1803.05030"
    no_decay = ("taps",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        order: int = 20,
        stride: int = 1,
        look_ahead: int = 0,
        look_ahead_stride: int = 1,
        inner_size: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if min(order, look_ahead) < 0 or min(stride, look_ahead_stride) < 1:
            raise ConfigError(
                "FSMN needs orders of 0 or more and strides of 1 or more, got "
                f"{order}, {look_ahead} and {stride}, {look_ahead_stride}"
            )
        sizes("FSMN", inner_size=inner_size)
        self.order, self.stride = order, stride
        self.look_ahead, self.look_ahead_stride = look_ahead, look_ahead_stride
        self.causal = self.packs = not look_ahead
        inner_size = 2 * hidden_size if inner_size is None else inner_size
        self.expand = nn.Linear(input_size, inner_size)
        self.project = nn.Linear(inner_size, hidden_size, bias=False)
        self.taps = nn.Parameter(torch.randn(hidden_size, order + 1) * (order + 1) ** -0.5)  # a_0 .. a_N1
        # a parameter of no elements would get no gradient, at which distributed training stops
        ahead = torch.randn(hidden_size, look_ahead) * (look_ahead + 1) ** -0.5
        self.future_taps = nn.Parameter(ahead) if look_ahead else None
        self.no_decay = ("taps", "future_taps") if look_ahead else ("taps",)

    def memory(self, x: Tensor, state: Tensor) -> Tensor:
        """p in the type of the state, which autocast would halve."""
        return self.project(self.expand(x).relu()).to(state.dtype)

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.order * self.stride, self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.look_ahead:
            raise ValueError(f"this FSMN looks {self.look_ahead} tokens ahead; it cannot go step by step")
        p = self.memory(x, state)
        window = torch.cat([state, p.unsqueeze(1)], 1)  # (B, N1 s1 + 1, H)
        y = p + (window[:, :: self.stride] * self.taps.flip(1).mT).sum(1)
        return y.to(x.dtype), window[:, 1:].clone()

    def run(
        self, x: Tensor, state: Tensor, mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        rows = packed(x, lengths) if self.packs else None
        tokens = self.memory(x if rows is None else rows.pack(x), state)
        p = tokens if rows is None else rows.unpack(tokens)
        window = torch.cat([state, p], 1)
        past = convolved(window.mT, self.taps.flip(1), self.stride)
        if rows is not None:
            y = rows.unpack(tokens + rows.pack(past.mT))
            return y.to(x.dtype), window_at_end(window, state.shape[1], lengths)
        y = p + past.mT
        if self.future_taps is not None:
            reach = self.look_ahead * self.look_ahead_stride
            ahead = F.pad(p.mT, (0, reach))[..., self.look_ahead_stride :]  # from the first future token on
            y = y + convolved(ahead, self.future_taps, self.look_ahead_stride).mT
        return y.to(x.dtype), window_at_end(window, state.shape[1], lengths)


@without_autocast
def convolved(x: Tensor, taps: Tensor, stride: int) -> Tensor:
    """x (B, H, T), taps (H, N), in float32 at least: in float16 torch may not come back on a CPU."""
    x, taps = widen(x, taps)
    return F.conv1d(x, taps.unsqueeze(1), dilation=stride, groups=len(taps))
