"""The causal enhancement network: recurrence over bands inside a frame, any core unit over time.

    level_t   running mean of a frame's power, which every input is divided by: no level, no difference
    bands     34 bands of 4 to 17 bins, each with a linear layer of its own to C features
    block     x + W BiLSTM over the bands of a frame; x + W unit over time, one sequence a band
    whole     two units over time on a few features of all bands together
    taps      per bin three complex factors for the frames t, t-1, t-2: out_t = sum_k M_k Y_{t-k}

Two blocks, the whole, one more recurrence over bands, then a linear layer a band to the taps. Nothing looks
ahead of its frame, so frame by frame gives the same numbers as a whole file.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.config import Count, Size
from core.errors import ConfigError
from speech.features import analyse, smooth, smooth_step, synthesise
from speech.models.recurrence import Recurrence

RATE = 16000
Turns = dict[str, tuple[Tensor, Tensor]]
"""Gains and shifts by the name of the place that they change."""
LEVEL_RATE, FLOOR_RATE = 0.02, 0.02
"""Per frame of 16 ms: 0.8 s of memory."""


@dataclass(frozen=True)
class EnhanceConfig:
    """Sizes of the network; the defaults are those of the bundled weights."""

    window: int = 512
    """Samples of a frame at 16 kHz, and the latency."""
    unit: str = "lstm"
    """Any unit of `recurra units`, over time."""
    band_unit: str = "lstm"
    """Over the bands of a frame, in both directions."""
    channels: Size = 40
    """Features of a band."""
    blocks: Count = 2
    band_hidden: Size = 40
    time_hidden: Size = 64
    shared: Size = 12
    """Features that a band gives to the recurrence over all bands."""
    whole_hidden: Size = 256
    taps: Count = 3

    def __post_init__(self) -> None:
        sizes = (self.channels, self.blocks, self.band_hidden, self.time_hidden, self.shared, self.taps)
        if min(*sizes, self.whole_hidden) < 1:
            raise ConfigError("sizes of the enhancement network must be at least 1.")
        if self.window not in (320, 512):
            raise ConfigError(f"window is 320 or 512 samples, got {self.window}.")


def band_widths(bins: int) -> list[int]:
    """Bins of each band: 4 up to 2 kHz, 8 up to 5 kHz, 16 above; the last one takes what is left."""
    spans = [4] * (bins // 16) + [8] * (bins * 3 // 64)
    while sum(spans) + 16 + 8 <= bins:
        spans.append(16)
    return [*spans, bins - sum(spans)]


class Bands(nn.Module):
    """Which bins a band has, as a rectangle: `places` (K, widest), a bin past the end where there is none."""

    places: Tensor
    where: Tensor

    def __init__(self, bins: int, widths: list[int] | None = None) -> None:
        super().__init__()
        widths = band_widths(bins) if widths is None else widths
        self.count, self.widest = len(widths), max(widths)
        places = torch.full((self.count, self.widest), bins)
        where, start = torch.empty(bins, dtype=torch.int64), 0
        for band, width in enumerate(widths):
            places[band, :width] = torch.arange(start, start + width)
            where[start : start + width] = band * self.widest + torch.arange(width)
            start += width
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("where", where, persistent=False)

    def split(self, x: Tensor) -> Tensor:
        """(..., F, D) -> (..., K, widest * D), zeros where a band is narrower."""
        padded = torch.cat([x, torch.zeros_like(x[..., :1, :])], -2)
        return padded[..., self.places.flatten(), :].unflatten(-2, (self.count, self.widest)).flatten(-2)

    def join(self, x: Tensor, parts: int) -> Tensor:
        """(..., K, widest * D) -> (..., F, D)."""
        return x.unflatten(-1, (self.widest, parts)).flatten(-3, -2)[..., self.where, :]


class PerBand(nn.Module):
    """A linear layer of its own for each band: (..., K, I) -> (..., K, O)."""

    def __init__(self, bands: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(bands, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(bands, outputs))
        nn.init.uniform_(self.weight, -(inputs**-0.5), inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[:-2]
        y = torch.bmm(x.reshape(-1, *x.shape[-2:]).transpose(0, 1), self.weight)  # (K, N, O)
        return y.transpose(0, 1).reshape(*lead, *y.shape[::2]) + self.bias


class AcrossBands(nn.Module):
    """x + W BiLSTM(norm x) along the bands of each frame: (B, T, K, C)."""

    def __init__(self, unit: str, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.recurrence = Recurrence(unit, channels, hidden, directions=2)
        self.out = nn.Linear(self.recurrence.output_size, channels)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.recurrence(x.flatten(0, 1), None, self.norm)
        return x + self.out(y).view_as(x)


class OverTime(nn.Module):
    """x + W unit(norm x) along time, one sequence a band, the same weights for all: (B, T, K, C)."""

    def __init__(self, unit: str, channels: int, hidden: int, directions: int = 1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.recurrence = Recurrence(unit, channels, hidden, directions=directions)
        self.out = nn.Linear(self.recurrence.output_size, channels)

    def initial_state(self, x: Tensor) -> Any:
        return self.recurrence.initial_state(x.flatten(0, 1))

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        batch, time, bands, _ = x.shape
        tokens = x.transpose(1, 2).flatten(0, 1)  # (B K, T, C)
        y, state = sequence(self.recurrence, tokens, state, self.norm)
        y = self.out(y).view(batch, bands, time, -1).transpose(1, 2)
        return x + y, state


def sequence(
    recurrence: Recurrence, x: Tensor, state: Any, norm: nn.LayerNorm | None = None
) -> tuple[Tensor, Any]:
    """A sequence of one token goes through `step`, which is what a stream calls."""
    if x.shape[1] == 1 and recurrence.directions == 1 and not torch.is_grad_enabled():
        token = x[:, 0] if norm is None else norm(x[:, 0])
        y, state = recurrence.step(token, state)
        return y[:, None], state
    return recurrence(x, state, norm)


class EnhanceNet(nn.Module):
    """Noisy waves (B, N) at 16 kHz -> clean ones (B, N). Streams by the contract of a unit on spectra."""

    def __init__(self, config: EnhanceConfig | None = None) -> None:
        super().__init__()
        self.config = config = EnhanceConfig() if config is None else config
        self.window, self.hop = config.window, config.window // 2
        self.bins = self.window // 2 + 1
        self.input_size = self.output_size = 2 * self.bins
        self.bands = Bands(self.bins)
        bands, width = self.bands.count, config.channels
        self.encode = PerBand(bands, 4 * self.bands.widest, width)
        self.across = nn.ModuleList(
            AcrossBands(config.band_unit, width, config.band_hidden) for _ in range(config.blocks)
        )
        self.over = nn.ModuleList(
            OverTime(config.unit, width, config.time_hidden) for _ in range(config.blocks)
        )
        self.share = nn.Linear(width, config.shared)
        self.whole = nn.ModuleList(
            Recurrence(config.unit, size, config.whole_hidden)
            for size in (bands * config.shared, config.whole_hidden)
        )
        self.spread = nn.Linear(config.whole_hidden, bands * config.shared)
        self.last = AcrossBands(config.band_unit, width + config.shared, config.band_hidden)
        self.hidden = nn.Linear(width + config.shared, 2 * width)
        self.decode = PerBand(bands, 2 * width, 2 * config.taps * self.bands.widest)
        with torch.no_grad():
            self.decode.weight.mul_(0.1)
            first = self.decode.bias.view(bands, self.bands.widest, 2 * config.taps)
            first[..., 0] = 0.9

    @property
    def turning(self) -> dict[str, int]:
        """Places that a voice may turn (`speech.models.voice`), and how many numbers each has."""
        together = self.bands.count * self.config.shared
        return {"bands": self.config.channels, "shared": together, "spread": together} | {
            "hidden": self.hidden.out_features
        }

    def forward(self, wave: Tensor, turns: Turns | None = None) -> Tensor:
        """Whole waves at once, from a fresh state."""
        spectra = analyse(wave, self.window, self.hop)
        parts = torch.view_as_real(spectra)
        clean, _ = self.filter_parts(parts, self.initial_state(spectra), turns)
        clean = torch.view_as_complex(clean.float().contiguous())
        return synthesise(clean, self.window, self.hop, wave.shape[-1])

    def initial_state(self, x: Tensor) -> dict[str, Any]:
        """State before the first frame of x (B, ...)."""
        batch, like = x.shape[0], torch.zeros((), device=x.device)
        bands = like.new_zeros(batch, self.bands.count, 1)
        return {
            "level": (like.new_zeros(batch, 1), like.new_zeros(batch, 1)),
            "floor": (like.new_zeros(batch, self.bins), like.new_zeros(batch, 1)),
            "over": tuple(block.initial_state(bands) for block in self.over),  # pyright: ignore
            "whole": tuple(unit.initial_state(like.new_zeros(batch, 1)) for unit in self.whole),  # pyright: ignore
            "past": like.new_zeros(batch, self.config.taps - 1, self.bins, 2),
        }

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """One frame: x (B, 2 F), real parts then imaginary ones -> the clean frame (B, 2 F)."""
        parts = x.view(len(x), 1, 2, self.bins).transpose(2, 3)
        clean, state = self.filter_parts(parts, state)
        return clean.transpose(2, 3).flatten(1), state

    def filter(self, spectra: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Noisy spectra (B, T, F) and a state -> clean spectra and the state after the last frame."""
        state = self.initial_state(spectra) if state is None else state
        clean, state = self.filter_parts(torch.view_as_real(spectra), state)
        return torch.view_as_complex(clean), state

    def filter_parts(
        self, parts: Tensor, state: dict[str, Any], turns: Turns | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """`filter` on real and imaginary parts (B, T, F, 2), which other runtimes can compute with."""
        turns = {} if turns is None else turns
        features, level, floor = self.features(parts, state)
        x = turned(self.encode(self.bands.split(features)), turns.get("bands"))  # (B, T, K, C)
        over = []
        for across, time, before in zip(self.across, self.over, state["over"], strict=True):
            x, after = time(across(x), before)
            over.append(after)
        shared = turned(self.share(x).flatten(2), turns.get("shared"))  # (B, T, K S)
        first, one = sequence(self.whole[0], shared, state["whole"][0])  # pyright: ignore[reportArgumentType]
        second, two = sequence(self.whole[1], first, state["whole"][1])  # pyright: ignore[reportArgumentType]
        together = turned(self.spread(first + second), turns.get("spread"))
        together = together.unflatten(-1, (self.bands.count, -1))
        x = self.last(torch.cat([x, together], -1))
        hidden = nn.functional.silu(turned(self.hidden(x), turns.get("hidden")))
        taps = self.bands.join(self.decode(hidden), 2 * self.config.taps)
        clean, past = self.apply(parts, taps, state["past"])
        state = {"level": level, "floor": floor, "over": tuple(over), "whole": (one, two), "past": past}
        return clean, state

    def features(self, parts: Tensor, state: dict[str, Any]) -> tuple[Tensor, Any, Any]:
        """Four numbers a bin, free of level: log magnitude, the same above its mean, compressed spectrum."""
        mean = one_or_many(parts.shape[1])
        real, imaginary = parts.unbind(-1)
        power = real.square() + imaginary.square()
        level, after = mean(power.mean(-1, keepdim=True), LEVEL_RATE, state["level"])
        level = (level + 1e-14).sqrt()
        relative = (power + 1e-20).sqrt() / level
        log = (relative + 1e-3).log10()
        usual, floor = mean(log, FLOOR_RATE, state["floor"])
        scale = (relative + 1e-3) ** -0.7 / level
        features = torch.stack([log, log - usual, real * scale, imaginary * scale], -1)
        return features, after, floor

    def apply(self, parts: Tensor, taps: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Weight each bin and its past: (B, T, F, 2), taps (B, T, F, 2 taps), past (B, taps - 1, F, 2)."""
        taps = 2 * (taps / 2).tanh()
        known = torch.cat([past, parts], 1)
        time, back = parts.shape[1], self.config.taps - 1
        real, imaginary = 0, 0
        for k in range(self.config.taps):
            a, b = taps[..., 2 * k], taps[..., 2 * k + 1]
            x, y = known[:, back - k : back - k + time].unbind(-1)
            real, imaginary = real + a * x - b * y, imaginary + a * y + b * x
        return torch.stack([real, imaginary], -1), known[:, known.shape[1] - back :]  # pyright: ignore


def turned(x: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
    """x (B, ..., D) with a gain and a shift (B, 1, D) of each row; None: as it is."""
    if turn is None:
        return x
    gain, shift = (part[:, None] if x.ndim == 4 else part for part in turn)
    return x * gain + shift


def one_or_many(time: int) -> Any:
    """The running mean for sequences, or its cheaper step for a single frame."""
    if time > 1:
        return smooth

    def single(x: Tensor, rate: float, state: Any) -> tuple[Tensor, Any]:
        y, state = smooth_step(x[:, 0], rate, state)
        return y[:, None], state

    return single
