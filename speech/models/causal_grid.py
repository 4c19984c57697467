"""A causal TF-GridNet of ours: the published blocks, what looks ahead replaced, so it goes frame by frame.

    the clip's standard deviation   ->  a running level
    norm over the whole clip        ->  the published norm over (C, F) of each frame
    3 x 3 convolutions              ->  two frames of the past, none of the future
    BiRNN over time                 ->  forward, with a carried state
    padding of the grid in time     ->  in front only, zeros as the norm gives them
    attention over all frames       ->  over the last `look_back` frames
    centred spectra                 ->  zeros in front of the wave

Windows along time have hop 1 (`emb_hs` = 1 there): a frame must come out for each that goes in. Frequency
stays as published, in both directions. It is a network of its own: `train separate --set network=grid`.
"""

from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import Count, Range, Size
from core.errors import ConfigError
from speech.features import analyse, smooth, smooth_step, synthesise
from speech.models.recurrence import Recurrence
from speech.models.tf_gridnet import FrameNorm, WholeFrameNorm

LEVEL_RATE = 0.03
EPS = 1e-5


@dataclass(frozen=True)
class CausalGridConfig:
    """Sizes; the names are those of the published constructor."""

    n_srcs: Count = 2
    n_fft: Annotated[int, Range(16, 65_536)] = 256
    n_layers: Count = 3
    lstm_hidden_units: Size = 64
    attn_n_head: Count = 4
    attn_approx_qk_dim: Size = 256
    emb_dim: Size = 24
    emb_ks: Count = 4
    look_back: Count = 64
    unit: str = "lstm"

    def __post_init__(self) -> None:
        if self.emb_dim % self.attn_n_head:
            raise ConfigError(
                f"emb_dim ({self.emb_dim}) must be a multiple of attn_n_head ({self.attn_n_head})."
            )
        if self.n_fft % 2:
            raise ConfigError(f"n_fft must be even, got {self.n_fft}.")


class CausalBlock(nn.Module):
    """(B, C, T, F) and its state -> the same shape and the state after the last frame."""

    def __init__(self, config: CausalGridConfig, bins: int) -> None:
        super().__init__()
        channels, heads, self.window = config.emb_dim, config.attn_n_head, config.emb_ks
        self.heads, self.look_back = heads, config.look_back
        features = ceil(config.attn_approx_qk_dim / bins)
        self.intra_norm, self.inter_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        wide = channels * self.window
        self.intra_rnn = Recurrence(config.unit, wide, config.lstm_hidden_units, directions=2)
        self.intra_linear = nn.Linear(self.intra_rnn.output_size, wide)
        self.inter_rnn = Recurrence(config.unit, wide, config.lstm_hidden_units)
        self.inter_linear = nn.Linear(self.inter_rnn.output_size, channels)
        for name, width in (("Q", features), ("K", features), ("V", channels // heads)):
            self.add_module(f"attn_conv_{name}", nn.Conv2d(channels, heads * width, 1))
            self.add_module(f"attn_norm_{name}", FrameNorm(heads, width, bins, EPS))
        self.attn_concat_proj = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.PReLU(), WholeFrameNorm(channels, bins, EPS)
        )

    def initial_state(self, x: Tensor, bins: int) -> dict[str, Any]:
        """Before the first frame of x (B, ...): the window over time, the recurrence, keys and values."""
        zeros = x.new_zeros
        channels = self.inter_norm.normalized_shape[0]
        return {
            "past": zeros(len(x), self.window - 1, bins, channels),
            "rnn": self.inter_rnn.initial_state(zeros(len(x) * bins, 1)),
            "keys": zeros(len(x), self.heads, 0, 0),
            "values": zeros(len(x), self.heads, 0, 0),
        }

    def forward(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        batch, channels, time, bins = x.shape
        x = self.over_bins(x.permute(0, 2, 3, 1))  # (B, T, F, C)
        normed = torch.cat([state["past"], self.inter_norm(x)], 1)
        windows = normed.unfold(1, self.window, 1)  # (B, T, F, C, window)
        tokens = windows.transpose(1, 2).reshape(batch * bins, time, -1)
        y, after = self.inter_rnn(tokens, state["rnn"])
        x = x + self.inter_linear(y).view(batch, bins, time, channels).transpose(1, 2)
        x = x.permute(0, 3, 1, 2)
        seen, keys, values = self.attention(x, state["keys"], state["values"])
        past = normed[:, normed.shape[1] - (self.window - 1) :]
        return x + seen, {"past": past, "rnn": after, "keys": keys, "values": values}

    def over_bins(self, x: Tensor) -> Tensor:
        """x (B, T, F, C) + the recurrence over windows of bins, as published with equal window and hop."""
        batch, time, bins, channels = x.shape
        y = F.pad(self.intra_norm(x), (0, 0, 0, -bins % self.window)).flatten(0, 1)
        y, _ = self.intra_rnn(y.reshape(len(y), -1, self.window * channels))
        y = self.intra_linear(y).reshape(batch, time, -1, channels)[:, :, :bins]
        return x + y

    def attention(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A frame looks at itself and those before it, `look_back` in all."""

        def tokens(name: str) -> Tensor:  # (B, h, T, E F)
            y = getattr(self, f"attn_norm_{name}")(getattr(self, f"attn_conv_{name}")(x))
            return y.transpose(2, 3).flatten(3)

        q, k, v = (tokens(name) for name in "QKV")
        if keys.shape[2]:
            k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        ahead = k.shape[2] - q.shape[2]
        here, there = (torch.arange(part.shape[2], device=x.device) for part in (q, k))
        lag = here[:, None] + ahead - there
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=(lag >= 0) & (lag < self.look_back))
        seen = seen.unflatten(-1, (-1, x.shape[-1])).transpose(2, 3).flatten(1, 2)
        kept = max(0, k.shape[2] - (self.look_back - 1))
        return self.attn_concat_proj(seen), k[:, :, kept:], v[:, :, kept:]


class CausalGrid(nn.Module):
    """A mixture (B, N) -> one wave for each talker (B, S, N); `filter` goes on from a state."""

    def __init__(self, config: CausalGridConfig | None = None) -> None:
        super().__init__()
        self.config = config = CausalGridConfig() if config is None else config
        self.window, self.hop = config.n_fft, config.n_fft // 2
        self.bins = self.hop + 1
        self.conv = nn.Conv2d(2, config.emb_dim, 3, padding=(0, 1))
        self.norm = WholeFrameNorm(config.emb_dim, self.bins, EPS)
        self.blocks = nn.ModuleList(CausalBlock(config, self.bins) for _ in range(config.n_layers))
        self.deconv = nn.Conv2d(config.emb_dim, 2 * config.n_srcs, 3, padding=(0, 1))

    @property
    def talkers(self) -> int:
        return self.config.n_srcs

    def forward(self, wave: Tensor) -> Tensor:
        tracks, _ = self.tracks(analyse(wave, self.window, self.hop))
        waves = synthesise(tracks.flatten(0, 1), self.window, self.hop, wave.shape[-1])
        return waves.view(len(wave), self.talkers, -1)

    def initial_state(self, x: Tensor) -> dict[str, Any]:
        """Before the first frame of x (B, ...)."""
        zeros = torch.zeros(len(x), 1, device=x.device).new_zeros
        return {
            "level": (zeros(len(x), 1), zeros(len(x), 1)),
            "conv": zeros(len(x), 2, 2, self.bins),
            "blocks": tuple(
                block.initial_state(zeros(len(x), 1), self.bins)  # pyright: ignore[reportCallIssue]
                for block in self.blocks
            ),
            "deconv": zeros(len(x), self.config.emb_dim, 2, self.bins),
        }

    def tracks(self, spectra: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Spectra (B, T, F) and a state -> of every talker (B, S, T, F), and the state at the end."""
        state = self.initial_state(spectra) if state is None else state
        power = (spectra.real.square() + spectra.imag.square()).mean(-1, keepdim=True)
        if spectra.shape[1] == 1:
            level, after = smooth_step(power[:, 0], LEVEL_RATE, state["level"])
            level = level[:, None]
        else:
            level, after = smooth(power, LEVEL_RATE, state["level"])
        size = (level + 1e-20).sqrt()  # (B, T, 1)
        x = torch.stack([spectra.real / size, spectra.imag / size], 1)  # (B, 2, T, F)
        x = torch.cat([state["conv"], x], 2)
        first, x = x[:, :, -2:], self.norm(self.conv(x))
        blocks = []
        for block, before in zip(self.blocks, state["blocks"], strict=True):
            x, last = block(x, before)
            blocks.append(last)
        x = torch.cat([state["deconv"], x], 2)
        end, y = x[:, :, -2:], self.deconv(x)
        y = y.unflatten(1, (self.talkers, 2)) * size[:, None, None]
        tracks = torch.complex(y[:, :, 0], y[:, :, 1])
        return tracks, {"level": after, "conv": first, "blocks": tuple(blocks), "deconv": end}
