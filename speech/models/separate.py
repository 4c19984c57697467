"""The separation network: recurrence over whole frames, then over bands and over time in turn, to masks.

    bands    the bins 1 ... N/2 in equal bands, each with a linear layer of its own to C features
    whole    layers of W unit over time on a few features of all bands together: they learn first and fast
    block    x + W unit over the bands of a frame;  x + W unit over time, one sequence a band
    masks    a complex factor for every talker and bin; together they are one, so the tracks add up

Offline all recurrences go in both directions. The causal form has its recurrences over time forward only and
a running level in place of that of the whole wave; it goes frame by frame, with the same numbers.

The blocks are those of TF-GridNet (Wang et al. 2023, arXiv 2211.12433) on bands, as Band-Split RNN has them
(Luo & Yu 2023, arXiv 2209.15174). The window is 64 ms: half the steps of 32 ms, and bins narrow enough to
tell the harmonics of two voices apart.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.config import Count, Range, Size
from core.errors import ConfigError
from speech.features import analyse, constant, smooth, smooth_step, synthesise
from speech.models.enhance import AcrossBands, OverTime, PerBand, sequence
from speech.models.recurrence import Recurrence

RATE = 16000
LEVEL_RATE = 0.03
"""Of the running level of the causal form, per frame."""
FLOOR = 1e-6
"""Added to the power of a bin; the mean power of all is one half."""


@dataclass(frozen=True)
class SeparateConfig:
    """Sizes of the network; the defaults train on a CPU, the bundled weights have the sizes of their card."""

    talkers: Count = 2
    window: Annotated[int, Range(16, 65_536)] = 1024
    """Samples of a frame at 16 kHz; half of it is the hop."""
    bands: Count = 16
    unit: str = "lstm"
    """Any unit of `recurra units`, over time."""
    band_unit: str = "lstm"
    """Over the bands of a frame, in both directions."""
    channels: Size = 64
    """Features of a band."""
    shared: Size = 24
    """Features that a band gives to the recurrence over whole frames."""
    layers: Annotated[int, Range(0, 100)] = 2
    """Of that recurrence; 0 leaves it out."""
    whole_hidden: Size = 112
    blocks: Annotated[int, Range(0, 100)] = 2
    hidden: Size = 64
    """Of the recurrences in a block, in each direction."""
    decoder: Size = 96
    causal: bool = False

    def __post_init__(self) -> None:
        sizes = (self.talkers, self.bands, self.channels, self.shared, self.whole_hidden, self.hidden)
        if min(*sizes, self.decoder) < 1 or min(self.layers, self.blocks) < 0:
            raise ConfigError(
                "sizes of the separation network must be at least 1, layers and blocks at least 0."
            )
        if self.layers + self.blocks < 1:
            raise ConfigError("a separation network needs layers or blocks.")
        if self.window % (2 * self.bands):
            raise ConfigError(f"half the window ({self.window}) must hold {self.bands} equal bands.")


class SeparateNet(nn.Module):
    """A mixture (B, N) at 16 kHz -> one wave for each talker (B, S, N)."""

    def __init__(self, config: SeparateConfig | None = None) -> None:
        super().__init__()
        self.config = config = SeparateConfig() if config is None else config
        self.window, self.hop = config.window, config.window // 2
        self.bins = self.hop  # the constant part is not among them
        self.input_size = 2 * (self.bins + 1)
        self.width = self.bins // config.bands
        bands, channels, ways = config.bands, config.channels, 1 if config.causal else 2
        self.encode = PerBand(bands, 3 * self.width, channels)
        sizes = [bands * config.shared] + [ways * config.whole_hidden] * config.layers
        self.whole = nn.ModuleList(
            Recurrence(config.unit, size, config.whole_hidden, directions=ways) for size in sizes[:-1]
        )
        if config.layers:
            self.share = nn.Linear(channels, config.shared)
            self.spread = nn.Linear(sizes[-1], bands * config.shared)
            self.widen = nn.Linear(config.shared, channels)
        self.across = nn.ModuleList(
            AcrossBands(config.band_unit, channels, config.hidden) for _ in range(config.blocks)
        )
        self.over = nn.ModuleList(
            OverTime(config.unit, channels, config.hidden, ways) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.hidden = nn.Linear(channels, config.decoder)
        self.decode = PerBand(bands, config.decoder, 2 * config.talkers * self.width)
        with torch.no_grad():
            self.decode.weight.mul_(0.3)

    @property
    def talkers(self) -> int:
        return self.config.talkers

    def forward(self, wave: Tensor) -> Tensor:
        """Separate whole waves; the scale of the input does not matter."""
        spectra = analyse(wave, self.window, self.hop)  # (B, T, F)
        tracks = self.tracks(spectra)[0]
        waves = synthesise(tracks.flatten(0, 1), self.window, self.hop, wave.shape[-1])
        return waves.view(len(wave), self.talkers, -1)

    def initial_state(self, x: Tensor) -> dict[str, Any]:
        """State of the causal form before the first frame of x (B, ...)."""
        batch, like = x.shape[0], torch.zeros((), device=x.device)
        bands = like.new_zeros(batch, self.config.bands, 1)
        return {
            "level": (like.new_zeros(batch, 1), like.new_zeros(batch, 1)),
            "whole": tuple(unit.initial_state(like.new_zeros(batch, 1)) for unit in self.whole),  # pyright: ignore
            "over": tuple(block.initial_state(bands) for block in self.over),  # pyright: ignore
        }

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """One frame of the causal form: x (B, 2 F), real parts then imaginary ones -> (B, S, 2 F)."""
        parts = x.view(len(x), 1, 2, -1).transpose(2, 3)
        tracks, state = self.tracks_of_parts(parts, state)
        return tracks[:, :, 0].transpose(2, 3).flatten(2), state

    def tracks(self, spectra: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Spectra of mixtures (B, T, F) -> of every talker (B, S, T, F), and the state at the end.

        Raises:
            ConfigError: a state for a network that needs the whole recording.
        """
        if state is not None and not self.config.causal:
            raise ConfigError("only the causal form carries a state.")
        tracks, state = self.tracks_of_parts(torch.view_as_real(spectra), state)
        return torch.view_as_complex(tracks), state

    def tracks_of_parts(self, parts: Tensor, state: dict[str, Any] | None) -> tuple[Tensor, dict[str, Any]]:
        """`tracks` on real and imaginary parts: (B, T, F, 2) -> (B, S, T, F, 2)."""
        first, rest = parts[:, :, :1], parts[:, :, 1:]
        scaled, level = self.scaled(rest, None if state is None else state["level"])
        masks, state = self.masks(scaled, state)
        constant = (first / self.talkers)[:, None].expand(-1, self.talkers, -1, -1, -1)
        return torch.cat([constant, masked(masks, rest)], 3), {"level": level, **state}

    def scaled(self, parts: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Spectra at a mean power of one half: of the whole wave, or of what was heard so far."""
        power = parts.square().mean((-1, -2))[..., None]  # (B, T, 1)
        if not self.config.causal:
            return parts * (2 * power.mean(1, keepdim=True) + 1e-20).rsqrt()[..., None], state
        if power.shape[1] == 1 and not torch.is_grad_enabled():
            level, state = smooth_step(power[:, 0], LEVEL_RATE, state)
            level = level[:, None]
        else:
            level, state = smooth(power, LEVEL_RATE, state)
        return parts * (2 * level + 1e-20).rsqrt()[..., None], state

    def masks(self, parts: Tensor, state: dict[str, Any] | None) -> tuple[Tensor, dict[str, Any]]:
        """Scaled spectra (B, T, F - 1, 2) -> complex factors (B, S, T, F - 1, 2) that add up to one."""
        batch, time = parts.shape[:2]
        power = parts.square().sum(-1, keepdim=True) + FLOOR
        features = torch.cat([0.5 * power.log(), parts * power**-0.35], -1)
        x = self.encode(features.view(batch, time, self.config.bands, -1))  # (B, T, K, C)
        whole, over = [], []
        if self.config.layers:
            y = self.share(x).flatten(2)
            for layer, before in zip(self.whole, past(state, "whole", self.whole), strict=True):
                z, after = sequence(layer, y, before)  # pyright: ignore[reportArgumentType]
                y = z + y if z.shape == y.shape else z
                whole.append(after)
            x = x + self.widen(self.spread(y).unflatten(-1, (self.config.bands, -1)))
        for across, along, before in zip(self.across, self.over, past(state, "over", self.over), strict=True):
            x, after = along(across(x), before)
            over.append(after)
        masks = self.decode(F.silu(self.hidden(self.norm(x))))  # (B, T, K, S width 2)
        masks = masks.float().view(batch, time, self.config.bands, self.talkers, self.width, 2)
        masks = masks.permute(0, 3, 1, 2, 4, 5).flatten(3, 4)
        share = equal_share(self.talkers, like=masks)
        return masks - masks.mean(1, keepdim=True) + share, {"whole": tuple(whole), "over": tuple(over)}


@constant
def equal_share(talkers: int) -> Tensor:
    """A complex factor, real part first."""
    return torch.tensor([1 / talkers, 0.0])


def masked(masks: Tensor, parts: Tensor) -> Tensor:
    """Complex products of (B, S, T, F, 2) and (B, T, F, 2), real and imaginary parts: (B, S, T, F, 2)."""
    a, b = masks.unbind(-1)
    u, v = (part[:, None] for part in parts.unbind(-1))
    return torch.stack([a * u - b * v, a * v + b * u], -1)


def past(state: dict[str, Any] | None, name: str, layers: nn.ModuleList) -> tuple[Any, ...]:
    """What layers remember; nothing before the first frame."""
    return (None,) * len(layers) if state is None else state[name]
