"""SepFormer (Subakan et al. 2021, arXiv 2010.13154), speechbrain's names: transformers in chunks and across.

w = relu(encoder(wave));  chunks of K frames, half overlapping
twice: x + norm(intra(x)) inside each chunk;  that + norm(inter(that)) across chunks
masks = relu(W (tanh gate));  wave_s = decoder(mask_s w)
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from speech.models import sepformer_cpu
from speech.models.depthwise import compiled_here
from speech.models.parts import as_long_as, long_enough

POSITIONS = 2500


class Named(nn.Module):
    """A layer norm whose published name ends in `norm.norm`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Attention(nn.Module):
    """Self-attention of all tokens, `att` under its published name."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.att = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.att.out_proj(self.mixed(F.linear(x, self.att.in_proj_weight, self.att.in_proj_bias)))

    def mixed(self, qkv: Tensor) -> Tensor:
        """Values by their weights: queries, keys and values (B, T, 3 N) -> (B, T, N)."""
        by_head = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1)]
        mixed = F.scaled_dot_product_attention(by_head[0], by_head[1], by_head[2])
        return mixed.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Dropout(0.0), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(x)


class Layer(nn.Module):
    """Attention and feed-forward, each after its norm and beside its residual."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.self_att = Attention(width, heads)
        self.pos_ffn = FeedForward(width, hidden)
        self.norm1, self.norm2 = Named(width), Named(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_att(self.norm1(x)).add_(x)  # nobody else wants what the product gave
        return self.pos_ffn(self.norm2(x)).add_(x)


class Layers(nn.Module):
    """All layers of a transformer and a last norm; x is used up where no gradient is wanted."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.norm = Named(width)

    def forward(self, x: Tensor) -> Tensor:
        if compiled_here(x):
            return sepformer_cpu.layers(self, x)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Positions(nn.Module):
    """Interleaved sines and cosines for 2,500 tokens, stored in the checkpoint."""

    pe: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        place = torch.arange(POSITIONS).float()[:, None]
        rate = torch.exp(torch.arange(0, width, 2).float() * -(torch.log(torch.tensor(10000.0)) / width))
        table = torch.zeros(POSITIONS, width)
        table[:, 0::2], table[:, 1::2] = (place * rate).sin(), (place * rate).cos()
        self.register_buffer("pe", table[None])

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > POSITIONS:
            raise ValueError(
                f"this SepFormer knows {POSITIONS} places, got {x.shape[1]}; separate in windows"
            )
        return self.pe[:, : x.shape[1]]


class Transformer(nn.Module):
    """(B, T, N) -> the same."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.pos_enc = Positions(width)
        self.mdl = Layers(width, heads, hidden, layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.mdl(x + self.pos_enc(x))


class DualPath(nn.Module):
    """(B, N, K, S): K frames in each of S chunks; in memory the features lie together."""

    def __init__(self, width: int, heads: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.intra_mdl = Transformer(width, heads, hidden, layers)
        self.inter_mdl = Transformer(width, heads, hidden, layers)
        self.intra_norm = nn.GroupNorm(1, width, eps=1e-8)
        self.inter_norm = nn.GroupNorm(1, width, eps=1e-8)

    def forward(self, x: Tensor) -> Tensor:
        inside = x.permute(0, 3, 2, 1).contiguous()  # (B, S, K, N)
        y = self.intra_mdl(inside.flatten(0, 1)).view(inside.shape)
        across = (inside + whole_norm(self.intra_norm, y)).transpose(1, 2).contiguous()  # (B, K, S, N)
        y = self.inter_mdl(across.flatten(0, 1)).view(across.shape)
        return (across + whole_norm(self.inter_norm, y)).permute(0, 3, 1, 2)


def whole_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """A group norm of one group where features come last: (B, ..., N)."""
    y = F.group_norm(x.reshape(len(x), 1, -1), 1, eps=norm.eps).view(x.shape)
    return torch.addcmul(norm.bias, y, norm.weight)


def pointwise(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of kernel 1 where features come last; exact where other products are halved."""
    weight: Any = conv.weight
    y = torch.mm(x.flatten(0, -2), weight.flatten(1).T).view(*x.shape[:-1], -1)
    return y if conv.bias is None else y.add_(conv.bias)  # pyright: ignore[reportArgumentType]


class DualPathMaskNet(nn.Module):
    """w (B, N, L) -> masks (S, B, N, L)."""

    def __init__(
        self, width: int, heads: int, hidden: int, layers: int, talkers: int, paths: int, chunk: int
    ) -> None:
        super().__init__()
        self.talkers, self.chunk = talkers, chunk
        self.norm = nn.GroupNorm(1, width, eps=1e-8)
        self.conv1d = nn.Conv1d(width, width, 1, bias=False)
        self.dual_mdl = nn.ModuleList(DualPath(width, heads, hidden, layers) for _ in range(paths))
        self.prelu = nn.PReLU()
        self.conv2d = nn.Conv2d(width, width * talkers, 1)
        self.end_conv1x1 = nn.Conv1d(width, width, 1, bias=False)
        self.output = nn.Sequential(nn.Conv1d(width, width, 1), nn.Tanh())
        self.output_gate = nn.Sequential(nn.Conv1d(width, width, 1), nn.Sigmoid())

    def forward(self, w: Tensor) -> Tensor:
        x = self.conv1d(self.norm(w))
        length, K, P = x.shape[-1], self.chunk, self.chunk // 2
        gap = K - (P + length % K) % K
        x = F.pad(x, (P, gap + P)).unfold(-1, K, P).transpose(2, 3)  # (B, N, K, S)
        for path in self.dual_mdl:
            x = path(x)
        x = pointwise(self.conv2d, self.prelu(x.permute(0, 3, 2, 1)))  # (B, S, K, talkers N)
        early, late = x.unflatten(2, (2, P)).unbind(2)
        x = F.pad(early, (0, 0, 0, 0, 0, 1)) + F.pad(late, (0, 0, 0, 0, 1, 0))  # overlapping halves
        x = x.flatten(1, 2)[:, P : P + length].unflatten(2, (self.talkers, -1))  # (B, L, talkers, N)
        x = pointwise(self.output[0], x).tanh() * pointwise(self.output_gate[0], x).sigmoid()
        return pointwise(self.end_conv1x1, x).relu().permute(2, 0, 3, 1)


class FilterEncoder(nn.Module):
    """Waves (B, N) -> (B, filters, frames), not negative."""

    def __init__(self, filters: int, kernel: int) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(1, filters, kernel, stride=kernel // 2, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        kernel, stride = self.conv1d.kernel_size[0], self.conv1d.stride[0]
        frames = wave.unfold(-1, kernel, stride)
        features = torch.mm(frames.flatten(0, 1), self.conv1d.weight[:, 0].T)
        return features.relu().unflatten(0, frames.shape[:2]).transpose(1, 2)


def added_up(decoder: nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """Frames of a decoder whose stride is half its kernel, features (B, N, frames) -> waves (B, N)."""
    frames = torch.mm(x.transpose(1, 2).flatten(0, 1), decoder.weight[:, 0])  # (B frames, kernel)
    early, late = frames.view(len(x), x.shape[2], 2, -1).unbind(2)
    return (F.pad(early, (0, 0, 0, 1)) + F.pad(late, (0, 0, 1, 0))).flatten(1)


class SepFormer(nn.Module):
    """Waves (B, N) -> (B, S, N)."""

    def __init__(
        self,
        N: int = 256,
        layers: int = 8,
        nhead: int = 8,
        d_ffn: int = 1024,
        num_spks: int = 2,
        num_layers: int = 2,
        K: int = 250,
        kernel_size: int = 16,
    ) -> None:
        super().__init__()
        if N % nhead or K % 2:
            raise ConfigError(f"N ({N}) must be a multiple of nhead ({nhead}) and K ({K}) even.")
        self.kernel, self.talkers = kernel_size, num_spks
        self.encoder = FilterEncoder(N, kernel_size)
        self.masknet = DualPathMaskNet(N, nhead, d_ffn, layers, num_spks, num_layers, K)
        self.decoder = nn.ConvTranspose1d(N, 1, kernel_size, stride=kernel_size // 2, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        w = self.encoder(long_enough(wave, self.kernel))
        masked = self.masknet(w) * w  # (S, B, N, L)
        waves = added_up(self.decoder, masked.flatten(0, 1)).unflatten(0, (self.talkers, -1))
        return as_long_as(waves.transpose(0, 1), wave.shape[-1])
