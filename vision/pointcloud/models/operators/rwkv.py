"""LION's RWKV-6: time mixing with data-dependent decay in both directions, and channel mixing.

    forward   y_t = r_t . (S + diag(u) k_t v_t^T),  S <- diag(w_t) S + k_t v_t^T
    backward  y_t += r_t . S',  S' <- diag(w_t) S' + k_t v_t^T, from the last token on; u counts once

The kernel is two-directional, the modules around it are not: a token's shift is its predecessor.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigError
from core.kernels.matrix_scan import decay_scan
from core.parts.drop_path import DropPath

MIX_RANK, DECAY_RANK = 32, 64


def previous(x: Tensor) -> Tensor:
    """The token before each, zeros before the first."""
    return functional.pad(x, (0, 0, 1, -1))


class TimeMix(nn.Module):
    """(G, T, C) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.time_maa_x = nn.Parameter(torch.full((1, 1, width), 0.5))
        for name in ("w", "k", "v", "r", "g"):
            self.register_parameter(f"time_maa_{name}", nn.Parameter(torch.full((1, 1, width), 0.5)))
        self.time_maa_w1 = nn.Parameter(torch.empty(width, 5 * MIX_RANK).uniform_(-1e-4, 1e-4))
        self.time_maa_w2 = nn.Parameter(torch.empty(5, MIX_RANK, width).uniform_(-1e-4, 1e-4))
        self.time_decay = nn.Parameter(torch.linspace(-6, -1, width).view(1, 1, -1))
        self.time_decay_w1 = nn.Parameter(torch.empty(width, DECAY_RANK).uniform_(-1e-4, 1e-4))
        self.time_decay_w2 = nn.Parameter(torch.empty(DECAY_RANK, width).uniform_(-1e-4, 1e-4))
        self.time_faaaa = nn.Parameter(torch.full((heads, width // heads), 0.5))
        self.key, self.value, self.receptance, self.gate, self.output = (
            nn.Linear(width, width, bias=False) for _ in range(5)
        )
        self.ln_x = nn.GroupNorm(heads, width)

    def forward(self, x: Tensor) -> Tensor:
        shift = previous(x) - x
        mixed = torch.tanh((x + shift * self.time_maa_x) @ self.time_maa_w1)
        mixed = mixed.unflatten(-1, (5, MIX_RANK)).permute(2, 0, 1, 3)  # (5, G, T, rank)
        mixed = mixed @ self.time_maa_w2[:, None]
        names = ("w", "k", "v", "r", "g")
        w, k, v, r, g = (
            x + shift * (getattr(self, f"time_maa_{name}") + part)
            for name, part in zip(names, mixed.unbind(0), strict=True)
        )
        decay = -torch.exp(
            (self.time_decay + torch.tanh(w @ self.time_decay_w1) @ self.time_decay_w2).float()
        )
        r, k, v, decay = (
            part.unflatten(-1, (self.heads, -1))
            for part in (self.receptance(r), self.key(k), self.value(v), decay)
        )
        forth, _ = decay_scan(r, k, v, decay, bonus=self.time_faaaa)
        back, _ = decay_scan(
            r.flip(1), k.flip(1), v.flip(1), decay.flip(1), bonus=torch.zeros_like(self.time_faaaa)
        )
        y = (forth + back.flip(1)).flatten(-2)
        y = self.ln_x(y.flatten(0, 1)).view_as(x)
        return self.output(y * functional.silu(self.gate(g)))


class ChannelMix(nn.Module):
    """(G, T, C) -> same. What the published mixing calls the mixed token is the difference at 1 - mix."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.spatial_mix_k = nn.Parameter(torch.full((1, 1, width), 0.5))
        self.spatial_mix_r = nn.Parameter(torch.full((1, 1, width), 0.5))
        self.key = nn.Linear(width, hidden, bias=False)
        self.receptance = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shift = previous(x) - x
        k = x * self.spatial_mix_k + shift * (1 - self.spatial_mix_k)
        r = x * self.spatial_mix_r + shift * (1 - self.spatial_mix_r)
        return self.receptance(r).sigmoid() * self.value(self.key(k).relu().square())


class RWKVOperator(nn.Module):
    """(G, T, C) -> same; the first block of a network (layer_id 0) normalises its input once more."""

    def __init__(
        self,
        width: int,
        *,
        n_head: int = 4,
        n_layer: int = 34,
        layer_id: int = 1,
        shift_mode: str = "time_shift",
        hidden_rate: int = 4,
        init_mode: str = "fancy",
        init_values: float = 1e-5,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if width % n_head or shift_mode != "time_shift":
            raise ConfigError(f"RWKV: heads that divide {width} and time_shift; got {n_head}, {shift_mode}.")
        self.ln0 = nn.LayerNorm(width) if layer_id == 0 else None
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.att = TimeMix(width, n_head)
        self.ffn = ChannelMix(width, hidden_rate * width)
        self.gamma1 = nn.Parameter(torch.full((width,), init_values))
        self.gamma2 = nn.Parameter(torch.full((width,), init_values))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, filled: Tensor | None = None) -> Tensor:
        x = x if self.ln0 is None else self.ln0(x)
        x = x + self.drop_path(self.gamma1 * self.att(self.ln1(x)))
        return x + self.drop_path(self.gamma2 * self.ffn(self.ln2(x)))
