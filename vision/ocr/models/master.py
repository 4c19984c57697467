"""MASTER (Lu et al. 2021, arXiv 1910.02562): multi-aspect global context attention, a pre-norm transformer.

Names are those of the public PyTorch class. One LayerNorm (eps 1e-6) serves every sub-layer and the output;
scores are filled with -1e9 where masked, so a query row of padding attends evenly over everything.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiAspectGCAttention(nn.Module):
    """x (B, C, H, W) -> the same: context of h heads over the plane, fused by add, mul or concat.

    The published class never scales its scores, whatever `att_scale` says; nor does this one.
    """

    def __init__(
        self,
        inplanes: int,
        ratio: float,
        headers: int,
        att_scale: bool = False,
        fusion_type: str = "channel_add",
    ) -> None:
        super().__init__()
        self.headers, self.fusion_type = headers, fusion_type
        planes = int(inplanes * ratio)
        self.conv_mask = nn.Conv2d(inplanes // headers, 1, 1)
        bottleneck = nn.Sequential(
            nn.Conv2d(inplanes, planes, 1),
            nn.LayerNorm([planes, 1, 1]),
            nn.ReLU(),
            nn.Conv2d(planes, inplanes, 1),
        )
        self.add_module(f"{fusion_type}_conv", bottleneck)
        if fusion_type == "channel_concat":
            self.cat_conv = nn.Conv2d(2 * inplanes, inplanes, 1)

    def context(self, x: Tensor) -> Tensor:
        """(B, C, 1, 1)."""
        B, C, H, W = x.shape
        parts = x.view(B * self.headers, C // self.headers, H, W)
        weights = self.conv_mask(parts).view(B * self.headers, 1, H * W).softmax(2)
        return torch.einsum("bct,bqt->bcq", parts.flatten(2), weights).reshape(B, C, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = dict(self.named_children())[f"{self.fusion_type}_conv"](self.context(x))
        if self.fusion_type == "channel_add":
            return x + found
        if self.fusion_type == "channel_mul":
            return x * found.sigmoid()
        both = self.cat_conv(torch.cat([x, found.expand_as(x)], 1))
        return F.layer_norm(both, both.shape[1:]).relu()


class MultiHeadAttention(nn.Module):
    """query, key, value (B, T, D), mask (B, 1, T, S) -> (B, T, D)."""

    def __init__(self, heads: int, dimensions: int) -> None:
        super().__init__()
        self.heads = heads
        self.linears = nn.ModuleList(nn.Linear(dimensions, dimensions) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return self.attend(query, *self.keys_of(key, value), mask)

    def split(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return x.view(x.shape[0], -1, self.heads, x.shape[2] // self.heads).transpose(1, 2)

    def keys_of(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, which spelling keeps from step to step."""
        return self.split(self.linears[1](key)), self.split(self.linears[2](value))

    def attend(self, query: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """query (B, T, D) over kept keys and values."""
        B, _, D = query.shape
        q = self.split(self.linears[0](query))
        scores = q @ k.transpose(-2, -1) / math.sqrt(D // self.heads)
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        return self.linears[3]((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, -1, D))


class FeedForward(nn.Module):
    def __init__(self, dimensions: int, inner: int) -> None:
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(dimensions, inner), nn.Linear(inner, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(self.w_1(x).relu())


class Position(nn.Module):
    """x (B, T, D) with the sinusoidal table added."""

    def __init__(self, dimensions: int, longest: int = 5000) -> None:
        super().__init__()
        place = torch.arange(longest)[:, None].float()
        rate = torch.exp(torch.arange(0, dimensions, 2).float() * -(math.log(10000.0) / dimensions))
        table = torch.zeros(longest, dimensions)
        table[:, 0::2], table[:, 1::2] = (place * rate).sin(), (place * rate).cos()
        self.register_buffer("pe", table[None])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]]  # pyright: ignore[reportIndexIssue]


class Layers(nn.Module):
    """What encoder and decoder share; with `_share_parameter` one layer serves every stack."""

    def __init__(
        self, heads: int, dimensions: int, stacks: int, inner: int, shared: bool, sources: bool
    ) -> None:
        super().__init__()
        kept = 1 if shared else stacks
        self.stacks, self.kept = stacks, kept
        self.attention = nn.ModuleList(MultiHeadAttention(heads, dimensions) for _ in range(kept))
        if sources:
            self.source_attention = nn.ModuleList(MultiHeadAttention(heads, dimensions) for _ in range(kept))
        self.position_feed_forward = nn.ModuleList(FeedForward(dimensions, inner) for _ in range(kept))
        self.position = Position(dimensions)
        self.layer_norm = nn.LayerNorm(dimensions, eps=1e-6)


class Encoder(Layers):
    """Memory x (B, S, D) -> (B, S, D); without layers only the positions are added."""

    def __init__(
        self,
        _multi_heads_count: int = 8,
        _dimensions: int = 512,
        _stacks: int = 3,
        _dropout: float = 0.2,
        _feed_forward_size: int = 2048,
        _share_parameter: bool = True,
        _with_encoder: bool = True,
    ) -> None:
        inner, shared = _feed_forward_size, _share_parameter
        super().__init__(_multi_heads_count, _dimensions, _stacks, inner, shared, False)
        self.dropout, self.layers_on = nn.Dropout(_dropout), _with_encoder

    def forward(self, x: Tensor) -> Tensor:
        x = self.position(x)
        if not self.layers_on:
            return x
        for stack in range(self.stacks):
            own = stack % self.kept
            y = self.layer_norm(x)
            x = x + self.dropout(self.attention[own](y, y, y, None))
            x = x + self.dropout(self.position_feed_forward[own](self.layer_norm(x)))
        return self.layer_norm(x)


class Decoder(Layers):
    """ids (B, T), memory (B, S, D) -> logits-to-be (B, T, D); the read-out is the caller's."""

    def __init__(
        self,
        _multi_heads_count: int = 8,
        _dimensions: int = 512,
        _stacks: int = 3,
        _dropout: float = 0.2,
        _feed_forward_size: int = 2048,
        _n_classes: int = 100,
        _padding_symbol: int = 0,
        _share_parameter: bool = True,
    ) -> None:
        inner, shared = _feed_forward_size, _share_parameter
        super().__init__(_multi_heads_count, _dimensions, _stacks, inner, shared, True)
        self.dropout = nn.Dropout(_dropout)
        self.embedding = nn.Embedding(_n_classes, _dimensions)
        self.padding, self.scale = _padding_symbol, math.sqrt(_dimensions)

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        T = ids.shape[1]
        kept = (ids != self.padding)[:, None, :, None]  # rows of queries, as published
        mask = kept & torch.ones(T, T, dtype=torch.bool, device=ids.device).tril()
        x = self.position(self.embedding(ids) * self.scale)
        for stack in range(self.stacks):
            own = stack % self.kept
            y = self.layer_norm(x)
            x = x + self.dropout(self.attention[own](y, y, y, mask))
            y = self.layer_norm(x)
            x = x + self.dropout(self.source_attention[own](y, memory, memory, None))
            x = x + self.dropout(self.position_feed_forward[own](self.layer_norm(x)))
        return self.layer_norm(x)
