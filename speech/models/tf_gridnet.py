"""TF-GridNet (Wang et al. 2023, arXiv 2211.12433) as ESPnet's TFGridNetV2 has it, with any core unit inside.

    block on (B, C, T, F):  x + back(BiRNN of windows of bands);  x + back(BiRNN of windows of frames);
                            x + attention whose tokens are frames
    the network gives the spectra themselves, no mask

Windows of `emb_ks` at hop `emb_hs`; where they are equal the windows are laid out tap by tap, else channel by
channel, as the reference has it.
"""

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from speech.models.parts import long_enough
from speech.models.recurrence import Recurrence


class FrameNorm(nn.Module):
    """PReLU with a slope a head, then norm over (E, F) of each head and frame: (B, h, E, T, F)."""

    def __init__(self, heads: int, features: int, bins: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(1, heads, features, 1, bins))
        self.beta = nn.Parameter(torch.zeros(1, heads, features, 1, bins))
        self.act = nn.PReLU(heads, init=0.25)

    def forward(self, x: Tensor) -> Tensor:
        heads, features = self.gamma.shape[1:3]
        x = self.act(x.unflatten(1, (heads, features)))
        mean = x.mean((2, 4), keepdim=True)
        spread = x.var((2, 4), unbiased=False, keepdim=True)
        return (x - mean) / (spread + self.eps).sqrt() * self.gamma + self.beta


class WholeFrameNorm(nn.Module):
    """Mean and variance over (C, F) of each frame: (B, C, T, F)."""

    def __init__(self, channels: int, bins: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, bins))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, bins))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 3), keepdim=True)
        spread = x.var((1, 3), unbiased=False, keepdim=True)
        return (x - mean) / (spread + self.eps).sqrt() * self.gamma + self.beta


class GridBlock(nn.Module):
    """(B, C, T, F) -> the same shape."""

    def __init__(
        self,
        channels: int,
        bins: int,
        hidden: int,
        heads: int,
        features: int,
        window: int,
        hop: int,
        eps: float,
        unit: str,
    ) -> None:
        super().__init__()
        self.window, self.hop, self.heads = window, hop, heads
        for name in ("intra", "inter"):
            self.add_module(f"{name}_norm", nn.LayerNorm(channels, eps=eps))
            rnn = Recurrence(unit, channels * window, hidden, directions=2)
            self.add_module(f"{name}_rnn", rnn)
            back = (
                nn.Linear(rnn.output_size, channels * window)
                if window == hop
                else nn.ConvTranspose1d(rnn.output_size, channels, window, stride=hop)
            )
            self.add_module(f"{name}_linear", back)
        for name, width in (("Q", features), ("K", features), ("V", channels // heads)):
            self.add_module(f"attn_conv_{name}", nn.Conv2d(channels, heads * width, 1))
            self.add_module(f"attn_norm_{name}", FrameNorm(heads, width, bins, eps))
        self.attn_concat_proj = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.PReLU(), WholeFrameNorm(channels, bins, eps)
        )

    def forward(self, x: Tensor) -> Tensor:
        time, bins = x.shape[2:]
        before = self.window - self.hop

        def after(n: int) -> int:  # what the grid needs behind
            return ceil((n + 2 * before - self.window) / self.hop) * self.hop + self.window - n - before

        x = F.pad(x, (before, after(bins), before, after(time))).permute(0, 2, 3, 1)  # (B, T, F, C)
        x = self.along("intra", x)
        x = self.along("inter", x.transpose(1, 2)).transpose(1, 2)
        x = x[:, before : before + time, before : before + bins].permute(0, 3, 1, 2)
        return x + self.attention(x)

    def along(self, name: str, x: Tensor) -> Tensor:
        """x (B, R, N, C) + the recurrence along N."""
        norm, rnn, back = (getattr(self, f"{name}_{part}") for part in ("norm", "rnn", "linear"))
        channels = x.shape[-1]
        y = norm(x).flatten(0, 1)  # (B R, N, C)
        if self.window == self.hop:
            y, _ = rnn(y.unflatten(1, (-1, self.window)).flatten(2))
            y = back(y).unflatten(-1, (self.window, channels)).flatten(1, 2)
        else:
            y, _ = rnn(y.unfold(1, self.window, self.hop).flatten(2))  # (B R, L, C window)
            y = back(y.transpose(1, 2)).transpose(1, 2)
        return x + y.view_as(x)

    def attention(self, x: Tensor) -> Tensor:
        """Frames look at frames."""

        def tokens(name: str) -> Tensor:  # (B, h, T, E F)
            y = getattr(self, f"attn_norm_{name}")(getattr(self, f"attn_conv_{name}")(x))
            return y.transpose(2, 3).flatten(3)

        seen = F.scaled_dot_product_attention(tokens("Q"), tokens("K"), tokens("V"))
        seen = seen.unflatten(-1, (-1, x.shape[-1])).transpose(2, 3).flatten(1, 2)
        return self.attn_concat_proj(seen)


class TFGridNet(nn.Module):
    """Waves (B, N) or (B, N, microphones) -> (B, S, N)."""

    def __init__(
        self,
        n_srcs: int = 2,
        n_fft: int = 128,
        stride: int = 64,
        n_imics: int = 1,
        n_layers: int = 6,
        lstm_hidden_units: int = 192,
        attn_n_head: int = 4,
        attn_approx_qk_dim: int = 512,
        emb_dim: int = 48,
        emb_ks: int = 4,
        emb_hs: int = 1,
        eps: float = 1e-5,
        unit: str = "lstm",
    ) -> None:
        super().__init__()
        if emb_dim % attn_n_head:
            raise ConfigError(f"emb_dim ({emb_dim}) must be a multiple of attn_n_head ({attn_n_head}).")
        self.talkers, self.n_fft, self.stride = n_srcs, n_fft, stride
        bins = n_fft // 2 + 1
        features = ceil(attn_approx_qk_dim / bins)
        self.conv = nn.Sequential(
            nn.Conv2d(2 * n_imics, emb_dim, 3, padding=1), nn.GroupNorm(1, emb_dim, eps=eps)
        )
        self.blocks = nn.Sequential(
            *(
                GridBlock(emb_dim, bins, lstm_hidden_units, attn_n_head, features, emb_ks, emb_hs, eps, unit)
                for _ in range(n_layers)
            )
        )
        self.deconv = nn.ConvTranspose2d(emb_dim, 2 * n_srcs, 3, padding=1)

    def forward(self, wave: Tensor) -> Tensor:
        samples = wave.shape[1]
        x = (wave if wave.ndim == 3 else wave[..., None]).transpose(1, 2)  # (B, M, N)
        x = long_enough(x, self.n_fft // 2 + 1)  # the ends are reflected
        size = x.std((1, 2), keepdim=True).clamp(min=1e-9)
        window = torch.hann_window(self.n_fft, device=x.device, dtype=x.dtype)
        shape = {"n_fft": self.n_fft, "hop_length": self.stride, "window": window}
        spectra = torch.stft((x / size).flatten(0, 1), **shape, return_complex=True)
        spectra = spectra.unflatten(0, x.shape[:2]).transpose(2, 3)  # (B, M, T, F)
        y = self.deconv(self.blocks(self.conv(torch.cat([spectra.real, spectra.imag], 1))))
        y = y.unflatten(1, (self.talkers, 2)).flatten(0, 1)  # (B S, 2, T, F)
        clean = torch.complex(y[:, 0], y[:, 1]).transpose(1, 2)
        waves = torch.istft(clean, **shape, length=x.shape[-1])
        return waves.unflatten(0, (-1, self.talkers))[..., :samples] * size
