"""LION's TTT-Linear (Sun et al. 2024, arXiv 2407.04620): a linear model per head that learns while it reads.

The inner model is core.kernels.ttt_scan with mini-batches of 16; a_i = max(0, 1/i + learned_i), l_j the
learned step, o = Q + LN(out). Rotary pairs are (2 i, 2 i + 1), other than in core.units.matrix.ttt.
One direction only, as published.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigError
from core.kernels.ttt_scan import Learned, ttt_scan
from core.parts.drop_path import DropPath
from core.parts.norm import RMSNorm

MINI, BASE, EPS = 16, 10000.0, 1e-6


def rotate(x: Tensor, place: Tensor) -> Tensor:
    """Rotary code on pairs (2 i, 2 i + 1): x (..., T, K), place (T,)."""
    half = x.shape[-1] // 2
    rate = BASE ** (-torch.arange(half, device=x.device, dtype=x.dtype) / half)
    angle = place[:, None].to(x.dtype) * rate
    c, s = angle.cos(), angle.sin()
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * c - odd * s, even * s + odd * c], -1).flatten(-2)


class TTTLinear(nn.Module):
    """(G, T, C) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, head = heads, width // heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.W1 = nn.Parameter(torch.randn(heads, head, head) * 0.02)
        self.b1 = nn.Parameter(torch.zeros(heads, 1, head))
        self.learnable_token_idx = nn.Parameter(torch.zeros(MINI))
        self.learnable_ttt_lr_weight = nn.Parameter(torch.randn(heads, 1, width) * 0.02)
        self.learnable_ttt_lr_bias = nn.Parameter(torch.zeros(heads, 1))
        self.ttt_norm_weight = nn.Parameter(torch.ones(heads, head))
        self.ttt_norm_bias = nn.Parameter(torch.zeros(heads, head))
        self.post_norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (G, h, T, K)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        place = torch.arange(x.shape[1], device=x.device) % MINI
        q, k = rotate(q, place), rotate(k, place)
        rate = torch.einsum("gtc,hc->ght", x, self.learnable_ttt_lr_weight[:, 0])
        rate = (rate + self.learnable_ttt_lr_bias).sigmoid() / q.shape[-1]
        token = (
            1 / torch.arange(1, MINI + 1, device=x.device, dtype=x.dtype) + self.learnable_token_idx
        ).clamp(min=0)
        state = Learned(
            self.W1.expand(len(x), -1, -1, -1),
            self.b1[:, 0].expand(len(x), -1, -1),
            q.new_zeros(len(x), *self.W1.shape),
            q.new_zeros(len(x), *self.W1.shape[:2]),
        )
        gain, offset = self.ttt_norm_weight, self.ttt_norm_bias
        out, _ = ttt_scan(q, k, v, token[place].expand_as(rate), rate, gain, offset, state, MINI)
        o = q + functional.layer_norm(out, out.shape[-1:], eps=EPS) * gain[:, None] + offset[:, None]
        return self.o_proj(self.post_norm(o.transpose(1, 2).flatten(-2)))


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x), hidden width 2 C."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, 2 * width, bias=False)
        self.up_proj = nn.Linear(width, 2 * width, bias=False)
        self.down_proj = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class TTTOperator(nn.Module):
    """(G, T, C) -> same; two residual branches, normalised before."""

    def __init__(
        self,
        width: int,
        *,
        n_head: int = 4,
        layer_id: int = 0,
        use_gate: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if width % (2 * n_head) or use_gate:
            raise ConfigError(
                f"TTT: heads of even width that divide {width}, no gate; got {n_head}, {use_gate}."
            )
        self.seq_norm, self.ffn_norm = RMSNorm(width, EPS), RMSNorm(width, EPS)
        self.seq_modeling_block = TTTLinear(width, n_head)
        self.mlp = SwiGLU(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, filled: Tensor | None = None) -> Tensor:
        x = x + self.drop_path(self.seq_modeling_block(self.seq_norm(x)))
        return x + self.drop_path(self.mlp(self.ffn_norm(x)))
