"""LION's RetNet, as its kernel computes it: inside a chunk retention looks both ways.

o_i = sum_j w(i, j) (q_i . k_j / sqrt(K)) v_j
w(i, j) = gamma^|i - j| for j in the chunk of i, gamma^(i - j) for j in earlier chunks, 0 in later ones
gamma of head h is 1 - 2^(-5 - h), a chunk has 64 tokens
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import ConfigError
from core.kernels.matrix_scan import decay_scan
from core.parts.drop_path import DropPath

CHUNK = 64


class Retention(nn.Module):
    """(G, T, C) -> same; no rotation, no norm of heads, no gate."""

    def __init__(self, width: int, heads: int, expand_k: int, expand_v: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, expand_k * width, bias=False)
        self.k_proj = nn.Linear(width, expand_k * width, bias=False)
        self.v_proj = nn.Linear(width, expand_v * width, bias=False)
        self.o_proj = nn.Linear(expand_v * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1))  # (G, T, h, K)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q = q * q.shape[-1] ** -0.5
        log = torch.log1p(-(2.0 ** (-5.0 - torch.arange(self.heads, device=x.device, dtype=torch.float32))))
        past, _ = decay_scan(q, k, v, log.expand(*q.shape[:3]))
        return self.o_proj((past + self.ahead(q, k, v, log)).flatten(-2))

    @staticmethod
    def ahead(q: Tensor, k: Tensor, v: Tensor, log: Tensor) -> Tensor:
        """What tokens of the same chunk that come later give: (G, T, h, V)."""
        time = q.shape[1]
        chunk = min(CHUNK, time)
        spare = -time % chunk
        q, k, v = (
            functional.pad(part, (0, 0, 0, 0, 0, spare)).unflatten(1, (-1, chunk)).transpose(2, 3)
            for part in (q, k, v)
        )  # (G, chunks, h, chunk, K)
        place = torch.arange(chunk, device=q.device)
        distance = (place[None] - place[:, None]).clamp(min=0)
        weight = (log[:, None, None] * distance).exp() * (distance > 0)
        out = ((q @ k.mT) * weight.to(q.dtype)) @ v
        return out.transpose(2, 3).flatten(1, 2)[:, :time]


class FeedForward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class RetNetOperator(nn.Module):
    """(G, T, C) -> same; two residual branches, normalised before."""

    def __init__(
        self,
        width: int,
        *,
        mode: str = "chunk",
        n_head: int = 2,
        expand_k: int = 1,
        expand_v: int = 2,
        hidden_rate: int = 4,
        used_MLP: bool = True,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if mode != "chunk" or not used_MLP or width % n_head:
            raise ConfigError(
                f"RetNet: mode chunk with its MLP, heads that divide {width}; got {mode}, {n_head}."
            )
        self.retention_layer_norm = nn.LayerNorm(width, eps=1e-6)
        self.multi_scale_retention = Retention(width, n_head, expand_k, expand_v)
        self.final_layer_norm = nn.LayerNorm(width, eps=1e-6)
        self.ffn = FeedForward(width, hidden_rate * width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, filled: Tensor | None = None) -> Tensor:
        x = x + self.drop_path(self.multi_scale_retention(self.retention_layer_norm(x)))
        return x + self.drop_path(self.ffn(self.final_layer_norm(x)))
