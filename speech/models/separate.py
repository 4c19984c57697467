"""The offline separation network: recurrence over bands and over time in turn, with a look at all frames.

    bands    10 bins each, with a linear layer of its own to C features
    whole    x + W BiLSTM over time on a few features of all bands together: it learns first and fast
    block    x + W BiLSTM over bands;  x + W BiLSTM over time;  x + attention over whole frames
    taps     per talker and bin, complex factors for the frames t-1, t, t+1

The form of a block follows TF-GridNet (Wang et al. 2023, arXiv 2211.12433) on bands instead of bins, as
Band-Split RNN has them (Luo & Yu 2023, arXiv 2209.15174): far fewer steps in each direction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import Count, Size
from core.errors import ConfigError
from speech.features import analyse, synthesise
from speech.models.enhance import AcrossBands, Bands, PerBand
from speech.models.recurrence import Recurrence

RATE = 16000


@dataclass(frozen=True)
class SeparateConfig:
    """Sizes of the network; the defaults are those of the bundled weights."""

    talkers: Count = 2
    window: int = 512
    band: Count = 10
    """Bins of a band."""
    stride: Count = 2
    """Frames that one step over time takes."""
    unit: str = "lstm"
    """Any unit of `recurra units`, over time in both directions."""
    band_unit: str = "lstm"
    channels: Size = 64
    blocks: Count = 4
    hidden: Size = 80
    shared: Size = 12
    """Features that a band gives to the recurrence over whole frames."""
    whole_hidden: int = 128
    """Of that recurrence; 0 leaves it out."""
    heads: Count = 4
    keys: Count = 4
    """Features of a band in queries and keys, per head."""
    taps: Count = 3

    def __post_init__(self) -> None:
        if (
            min(
                self.talkers,
                self.band,
                self.stride,
                self.channels,
                self.blocks,
                self.hidden,
                self.heads,
                self.keys,
            )
            < 1
        ):
            raise ConfigError("sizes of the separation network must be at least 1.")
        if self.channels % self.heads:
            raise ConfigError(f"channels ({self.channels}) must be a multiple of heads ({self.heads}).")
        if self.taps % 2 == 0 or self.window % 2:
            raise ConfigError("taps must be odd and the window even.")


class AlongTime(nn.Module):
    """x + W unit(norm x) along time in both directions, one sequence a band: (B, T, K, C).

    A step of the recurrence takes and gives `stride` frames, so a sequence is that much shorter.
    """

    def __init__(self, unit: str, channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.norm = nn.LayerNorm(channels)
        self.recurrence = Recurrence(unit, stride * channels, hidden, directions=2)
        self.out = nn.Linear(self.recurrence.output_size, stride * channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, bands, channels = x.shape
        y = F.pad(self.norm(x), (0, 0, 0, 0, 0, -time % self.stride)).transpose(1, 2)  # (B, K, T, C)
        y, _ = self.recurrence(y.reshape(batch * bands, -1, self.stride * channels))
        y = self.out(y).view(batch, bands, -1, channels)[:, :, :time]
        return x + y.transpose(1, 2)


class AcrossFrames(nn.Module):
    """x + attention in which a token is a whole frame: (B, T, K, C)."""

    def __init__(self, channels: int, heads: int, keys: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.queries = nn.Linear(channels, heads * keys)
        self.keys = nn.Linear(channels, heads * keys)
        self.values = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, bands, _ = x.shape
        y = self.norm(x)

        def tokens(part: Tensor) -> Tensor:  # (B, T, K, heads * E) -> (B, heads, T, K E)
            return part.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4).flatten(3)

        seen = F.scaled_dot_product_attention(
            tokens(self.queries(y)), tokens(self.keys(y)), tokens(self.values(y))
        )
        seen = seen.unflatten(-1, (bands, -1)).permute(0, 2, 3, 1, 4).reshape(batch, time, bands, -1)
        return x + self.out(seen)


class SeparateNet(nn.Module):
    """A mixture (B, N) at 16 kHz -> one wave for each talker (B, S, N)."""

    def __init__(self, config: SeparateConfig | None = None) -> None:
        super().__init__()
        self.config = config = SeparateConfig() if config is None else config
        self.window, self.hop = config.window, config.window // 2
        bins = config.window // 2 + 1
        widths = [config.band] * (bins // config.band)
        self.bands = Bands(bins, [*widths, bins - sum(widths)] if bins > sum(widths) else widths)
        width = config.channels
        self.encode = PerBand(self.bands.count, 3 * self.bands.widest, width)
        self.whole = None
        if config.whole_hidden:
            self.share = nn.Linear(width, config.shared)
            self.whole = Recurrence(
                config.unit, self.bands.count * config.shared, config.whole_hidden, directions=2
            )
            self.spread = nn.Linear(self.whole.output_size, self.bands.count * config.shared)
            self.widen = nn.Linear(config.shared, width)
        self.across = nn.ModuleList(
            AcrossBands(config.band_unit, width, config.hidden) for _ in range(config.blocks)
        )
        self.along = nn.ModuleList(
            AlongTime(config.unit, width, config.hidden, config.stride) for _ in range(config.blocks)
        )
        self.look = nn.ModuleList(
            AcrossFrames(width, config.heads, config.keys) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width + width // 2)
        outputs = config.talkers * 2 * config.taps
        self.decode = PerBand(self.bands.count, width + width // 2, outputs * self.bands.widest)
        with torch.no_grad():
            first = self.decode.bias.view(self.bands.count, self.bands.widest, config.talkers, config.taps, 2)
            first[:, :, :, config.taps // 2, 0] = 1 / config.talkers

    def forward(self, wave: Tensor) -> Tensor:
        """Separate whole waves; the scale of the input does not matter."""
        size = wave.std(-1, keepdim=True).clamp(min=1e-7)
        spectra = analyse(wave / size, self.window, self.hop)  # (B, T, F)
        magnitude = (spectra.real.square() + spectra.imag.square() + 1e-10).sqrt()
        scale = magnitude**-0.7
        features = torch.stack([magnitude.log10(), spectra.real * scale, spectra.imag * scale], -1)
        x = self.encode(self.bands.split(features))  # (B, T, K, C)
        if self.whole is not None:
            y, _ = self.whole(self.share(x).flatten(2))
            x = x + self.widen(self.spread(y).unflatten(-1, (self.bands.count, -1)))
        for across, along, look in zip(self.across, self.along, self.look, strict=True):
            x = look(along(across(x)))
        taps = self.decode(F.silu(self.hidden(self.norm(x))))
        taps = self.bands.join(taps, self.config.talkers * 2 * self.config.taps)  # (B, T, F, S taps 2)
        clean = self.weigh(spectra, taps.unflatten(-1, (self.config.talkers, self.config.taps, 2)))
        waves = synthesise(clean.flatten(0, 1), self.window, self.hop, wave.shape[-1])
        return waves.view(len(wave), self.config.talkers, -1) * size[:, None]

    def weigh(self, spectra: Tensor, taps: Tensor) -> Tensor:
        """Sum of neighbouring frames with their factors: (B, T, F), (B, T, F, S, taps, 2) -> (B, S, T, F)."""
        side, time = self.config.taps // 2, spectra.shape[1]
        real, imaginary = (F.pad(part, (0, 0, side, side)) for part in (spectra.real, spectra.imag))
        a, b = 0, 0
        for k in range(self.config.taps):
            x, y = real[:, k : k + time, :, None], imaginary[:, k : k + time, :, None]
            u, v = taps[..., k, 0], taps[..., k, 1]  # (B, T, F, S)
            a, b = a + u * x - v * y, b + u * y + v * x
        return torch.complex(a, b).permute(0, 3, 1, 2)  # pyright: ignore[reportArgumentType]
