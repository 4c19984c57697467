"""Hawk and Griffin, residual networks of RG-LRU and local attention (De et al. 2024, arXiv 2402.19427).

    recurrent block   y = W_out (rg_lru(conv(W_x x)) * gelu(W_y x))         gelu in its tanh form
    residual block    x <- x + temporal(norm x)
                      x <- x + W_down (gelu(W_gate n) * W_up n),  n = norm x

Hawk has recurrent blocks only; Griffin repeats recurrent, recurrent, attention. Everything here keeps the
contract of a unit: explicit state in and out, one token at a time or a whole sequence.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.parts.conv import CausalConv
from core.parts.mlp import GatedMLP
from core.parts.norm import RMSNorm
from core.parts.options import sizes
from core.units.contract import Unit
from core.units.diagonal import rg_lru
from core.units.diagonal.rg_lru import RGLRU
from core.units.window.attention import LocalAttention

PAPER = "De et al. 2024, arXiv 2402.19427"
HAWK = ("recurrent",)
GRIFFIN = ("recurrent", "recurrent", "attention")


class RecurrentBlock(Unit):
    """x (B, T, I) -> y (B, T, H); state: window (B, K, W) of the convolution and that of the RG-LRU.

    The convolution has no activation.

    Args:
        lru_size: W; None is H.
        heads: blocks of the gates; None is one for every 64 channels.
        conv_width: K.
    """

    modes = ("step", "sequential", "scan")
    paper = PAPER
    freezes = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        lru_size: int | None = None,
        heads: int | None = None,
        conv_width: int = 4,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("a recurrent block", lru_size=lru_size, conv_width=conv_width)
        width = hidden_size if lru_size is None else lru_size
        self.linear_x = nn.Linear(input_size, width)
        self.linear_y = nn.Linear(input_size, width)
        self.conv = CausalConv(width, conv_width)
        self.rg_lru = RGLRU(width, width, heads=heads)
        self.linear_out = nn.Linear(width, hidden_size)

    def initial_state(self, x: Tensor) -> tuple[Tensor, rg_lru.State]:
        return self.conv.initial_state(x), self.rg_lru.initial_state(x)

    def step(
        self, x: Tensor, state: tuple[Tensor, rg_lru.State]
    ) -> tuple[Tensor, tuple[Tensor, rg_lru.State]]:
        u, window = self.conv.step(self.linear_x(x), state[0])
        h, memory = self.rg_lru.step(u, state[1])
        return self.finish(h, x), (window, memory)

    def run(
        self, x: Tensor, state: tuple[Tensor, rg_lru.State], mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, rg_lru.State]]:
        u, window = self.conv(self.linear_x(x), state[0], lengths)
        h, memory = self.rg_lru.run(u, state[1], mode, lengths)
        return self.finish(h, x), (window, memory)

    def finish(self, h: Tensor, x: Tensor) -> Tensor:
        return self.linear_out(h * F.gelu(self.linear_y(x), approximate="tanh"))


class ResidualBlock(Unit):
    """x (B, T, D) -> y (B, T, D) around a temporal unit of equal widths; the state is that of the unit.

    Args:
        temporal: the unit.
        mlp_size: inner width of the gated network.
        eps: of both norms.
    """

    modes = ("step", "sequential", "scan")
    paper = PAPER
    freezes = True

    def __init__(self, temporal: Unit, mlp_size: int, *, eps: float = 1e-6) -> None:
        width = temporal.input_size
        super().__init__(width, width)
        if temporal.output_size != width:
            raise ConfigError(f"a residual needs equal widths, got {width} in and {temporal.output_size} out")
        self.temporal_pre_norm = RMSNorm(width, eps, one_plus=True)
        self.temporal_block = temporal
        self.freezes, self.causal = temporal.freezes, temporal.causal
        self.channel_pre_norm = RMSNorm(width, eps, one_plus=True)
        self.mlp_block = GatedMLP(width, mlp_size, activation="gelu_tanh", bias=True)

    def initial_state(self, x: Tensor) -> Any:
        return self.temporal_block.initial_state(x)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.temporal_block.step(self.temporal_pre_norm(x), state)
        return self.channels(x + y), state

    def run(self, x: Tensor, state: Any, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        inner = mode if mode in self.temporal_block.modes else self.temporal_block.modes[-1]
        told = () if lengths is None else (lengths,)
        y, state = self.temporal_block.run(self.temporal_pre_norm(x), state, inner, *told)
        return self.channels(x + y), state

    def channels(self, x: Tensor) -> Tensor:
        return x + self.mlp_block(self.channel_pre_norm(x))


class Griffin(Unit):
    """x (B, T, D) -> y (B, T, D) through residual blocks and a last norm; state: one per block.

    Args:
        width: D.
        layers: residual blocks.
        pattern: their temporal blocks, repeated: `GRIFFIN` or `HAWK`.
        mlp_size: inner width of the gated networks; None is 3 D.
        lru_size: width of the recurrence; None is D.
        heads: blocks of the gates and heads of the attention; None is one for every 64 channels.
        window: of the attention.
    """

    modes = ("step", "sequential", "scan")
    paper = PAPER
    freezes = True

    def __init__(
        self,
        width: int,
        layers: int,
        *,
        pattern: Sequence[str] = GRIFFIN,
        mlp_size: int | None = None,
        lru_size: int | None = None,
        heads: int | None = None,
        window: int = 256,
    ) -> None:
        super().__init__(width, width)
        sizes("Griffin", mlp_size=mlp_size, lru_size=lru_size)
        if layers < 1 or not pattern or set(pattern) - set(GRIFFIN):
            raise ConfigError(
                f"Griffin needs layers and a pattern of {set(GRIFFIN)}, got {layers} and {pattern}"
            )
        self.layers = nn.ModuleList()
        for index in range(layers):
            if pattern[index % len(pattern)] == "recurrent":
                temporal: Unit = RecurrentBlock(width, width, lru_size=lru_size, heads=heads)
            else:
                temporal = LocalAttention(width, width, heads=heads, window=window)
            self.layers.append(ResidualBlock(temporal, 3 * width if mlp_size is None else mlp_size))
        self.final_norm = RMSNorm(width, one_plus=True)

    def initial_state(self, x: Tensor) -> tuple[Any, ...]:
        return tuple(layer.initial_state(x) for layer in self.layers)  # pyright: ignore[reportCallIssue]

    def step(self, x: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        final = []
        for layer, part in zip(self.layers, state, strict=True):
            x, end = layer.step(x, part)  # pyright: ignore[reportCallIssue]
            final.append(end)
        return self.final_norm(x), tuple(final)

    def run(
        self, x: Tensor, state: tuple[Any, ...], mode: str, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        final = []
        for layer, part in zip(self.layers, state, strict=True):
            x, end = layer.run(x, part, mode, lengths)  # pyright: ignore[reportCallIssue]
            final.append(end)
        return self.final_norm(x), tuple(final)
