"""HSTU: pointwise attention with time and position biases (Zhai et al. 2024, arXiv 2402.17152).

    [u, v, q, k] = SiLU(LN(x) W);  A = SiLU(q k^T + rab) / N on the causal triangle, no softmax
    y = x + W_o (u * LN(A v)) + b
    rab[i, j] = w_pos[N - 1 + j - i] + w_time[bucket(t_{i+1} - t_j)]
    bucket = floor(ln(max(|dt|, 1)) / 0.301), at most the number of buckets

N is the padded length: trained with 50 and served with 200 it is another model. t_{i+1} of the last position
is its own time unless `following` (B, N) says otherwise: at serving, the time of the request. Tensor names
are those of generative-recommenders.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.models.next.attention import ahead

EPS = 1e-6


class PositionBias(nn.Module):
    """(1, N, N) from positions alone."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self._w = nn.Parameter(0.02 * torch.randn(2 * length - 1))

    def forward(self, time: Tensor, following: Tensor | None = None) -> Tensor:
        return self._w[distances(self.length, time.device)][None]


class TimeBias(nn.Module):
    """Times (B, N) in seconds, and those of the next events -> (B, N, N) from positions and times."""

    def __init__(self, length: int, buckets: int) -> None:
        super().__init__()
        self.length, self.buckets = length, buckets
        self._ts_w = nn.Parameter(0.02 * torch.randn(buckets + 1))
        self._pos_w = nn.Parameter(0.02 * torch.randn(2 * length - 1))

    def forward(self, time: Tensor, following: Tensor | None = None) -> Tensor:
        following = torch.cat([time[:, 1:], time[:, -1:]], 1) if following is None else following
        gap = (following[:, :, None] - time[:, None]).abs().clamp_min(1)
        bucket = (gap.double().log() / 0.301).floor().long().clamp(0, self.buckets)
        return self._pos_w[distances(self.length, time.device)] + self._ts_w[bucket]


def distances(length: int, device: torch.device) -> Tensor:
    """N - 1 + j - i for (i, j)."""
    place = torch.arange(length, device=device)
    return length - 1 + place[None] - place[:, None]


class HSTULayer(nn.Module):
    """x (B, N, D) -> (B, N, D)."""

    def __init__(
        self,
        width: int,
        heads: int,
        linear: int,
        attention: int,
        length: int,
        buckets: int | None,
        *,
        concat: bool = False,
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.linear, self.attention = heads, linear, attention
        self.concat, self.activation = concat, activation
        self._uvqk = nn.Parameter(0.02 * torch.randn(width, 2 * heads * (linear + attention)))
        self._rel_attn_bias = PositionBias(length) if buckets is None else TimeBias(length, buckets)
        self._o = nn.Linear(heads * linear * (3 if concat else 1), width)
        nn.init.xavier_uniform_(self._o.weight)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, time: Tensor, used: Tensor, following: Tensor | None = None) -> Tensor:
        length = x.shape[1]
        mixed = F.layer_norm(x, x.shape[-1:], eps=EPS) @ self._uvqk
        mixed = F.silu(mixed) if self.activation == "silu" else mixed
        wide, narrow = self.heads * self.linear, self.heads * self.attention
        u, v, q, k = mixed.split([wide, wide, narrow, narrow], -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        weight = F.silu(q @ k.mT + self._rel_attn_bias(time, following)[:, None]) / length
        weight = weight.masked_fill(ahead(x), 0.0) * used[:, None, None]
        o = F.layer_norm((weight @ v).transpose(1, 2).flatten(2), (wide,), eps=EPS)
        gated = torch.cat([u, o, u * o], -1) if self.concat else u * o
        return (x + self._o(self.drop(gated))) * used[..., None]


class HSTU(nn.Module):
    """Vectors (B, N, D), lengths (B,), times (B, N) -> the outputs of the layers; padding on the right."""

    def __init__(
        self,
        width: int,
        heads: int,
        linear: int,
        attention: int,
        layers: int,
        length: int,
        buckets: int | None = 128,
        *,
        concat: bool = False,
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.length = length
        self._attention_layers = nn.ModuleList(
            HSTULayer(
                width,
                heads,
                linear,
                attention,
                length,
                buckets,
                concat=concat,
                activation=activation,
                dropout=dropout,
            )
            for _ in range(layers)
        )

    def layers(
        self, x: Tensor, lengths: Tensor, time: Tensor, following: Tensor | None = None
    ) -> list[Tensor]:
        """The output of each layer, (B, N, D); rows beyond the lengths are 0."""
        used = (torch.arange(x.shape[1], device=x.device) < lengths[:, None]).to(x)
        x, outputs = x * used[..., None], []
        for layer in self._attention_layers:
            x = layer(x, time, used, following)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor, lengths: Tensor, time: Tensor, following: Tensor | None = None) -> Tensor:
        return self.layers(x, lengths, time, following)[-1]
