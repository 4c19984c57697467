"""Who is to be heard: a clip of a voice turns the enhancement network into one that keeps that voice alone.

    e      = V mean_t softmax(v h_t) h_t,   h two layers of BiGRU over log spectra of the clip
    y      <- (1 + A e) * y + B e           of four linear layers' inputs or outputs

The layers are the one that reads the bands, what enters and leaves the recurrence over whole frames, and the
one before the taps. A gain and a shift around a linear layer are another linear layer, so what a clip makes
is an `EnhanceNet` like any other: it streams, compiles and costs as much as without a voice. (Conditioning by
gains and shifts: Perez et al. 2018, arXiv 1709.07871; of a filter by a voice: Wang et al. 2019, arXiv
1810.04826.)
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from core.config import Range, Size
from core.errors import ConfigError
from speech.features import analyse
from speech.models.enhance import EnhanceConfig, EnhanceNet, Turns
from speech.models.recurrence import Recurrence

RATE = 16000
WINDOW, HOP = 512, 256
LOW, HIGH = 64, 24
"""Bins up to 2 kHz, which hold the pitch, and bands above."""
LONGEST_S = 30.0


@dataclass(frozen=True)
class VoiceConfig:
    """Sizes of the network that hears the clip."""

    unit: str = "gru"
    inputs: Size = 48
    hidden: Size = 40
    layers: Annotated[int, Range(1, 8)] = 2
    size: Size = 32
    """Numbers that a voice is told by."""


class VoiceEncoder(nn.Module):
    """A clip (B, M) at 16 kHz -> the voice (B, size); level does not matter."""

    def __init__(self, config: VoiceConfig) -> None:
        super().__init__()
        self.reduce = nn.Linear(LOW + HIGH, config.inputs)
        widths = [config.inputs] + [2 * config.hidden] * (config.layers - 1)
        self.layers = nn.ModuleList(
            Recurrence(config.unit, width, config.hidden, directions=2) for width in widths
        )
        self.weigh = nn.Linear(2 * config.hidden, 1)
        self.tell = nn.Linear(2 * config.hidden, config.size)

    def forward(self, clip: Tensor) -> Tensor:
        spectra = analyse(clip, WINDOW, HOP)
        power = spectra.real.square() + spectra.imag.square()
        level = power.mean((1, 2), keepdim=True) + 1e-12
        grouped = power[..., LOW + 1 :].unflatten(-1, (HIGH, -1)).mean(-1)
        log = (torch.cat([power[..., 1 : LOW + 1], grouped], -1) / level + 1e-3).log()
        x = torch.nn.functional.silu(self.reduce(0.3 * log))
        for layer in self.layers:
            x, _ = layer(x)
        share = self.weigh(x).softmax(1)
        return self.tell((share * x).sum(1))


class VoiceNet(nn.Module):
    """Noisy waves (B, N) and a clip of each wanted voice (B, M) -> the wanted voices (B, N)."""

    def __init__(self, config: EnhanceConfig | None = None, voice: VoiceConfig | None = None) -> None:
        super().__init__()
        self.base = EnhanceNet(config)
        config, self.config = self.base.config, VoiceConfig() if voice is None else voice
        if not hasattr(self.base.whole[0].units[0], "weight_ih"):  # pyright: ignore
            raise ConfigError(f"a voice cannot turn the unit {config.unit}; take lstm or gru.")
        self.encoder = VoiceEncoder(self.config)
        self.turns = nn.ModuleDict(
            {name: nn.Linear(self.config.size, 2 * width) for name, width in self.base.turning.items()}
        )
        with torch.no_grad():
            for turn in self.turns.values():  # at first no voice changes anything
                turn.weight.mul_(0.02)  # pyright: ignore
                turn.bias.zero_()  # pyright: ignore

    def forward(self, wave: Tensor, clip: Tensor) -> Tensor:
        return self.base(wave, self.turned_by(clip))

    def turned_by(self, clip: Tensor) -> Turns:
        """Gains and shifts by the name of their place, (B, 1, width) each."""
        voice = self.encoder(clip)
        parts = {name: turn(voice)[:, None].chunk(2, -1) for name, turn in self.turns.items()}
        return {name: (1 + gain, shift) for name, (gain, shift) in parts.items()}

    @torch.no_grad()
    def personal(self, clip: Tensor) -> EnhanceNet:
        """The network for the voice of one clip (M,)."""
        turns = {name: (g[0, 0], s[0, 0]) for name, (g, s) in self.turned_by(clip[None]).items()}
        network = deepcopy(self.base)
        gain, shift = turns["bands"]
        network.encode.weight.mul_(gain)
        network.encode.bias.mul_(gain).add_(shift)
        gain, shift = turns["shared"]
        unit = network.whole[0].units[0]  # pyright: ignore
        unit.bias_ih.add_(unit.weight_ih @ shift)  # pyright: ignore
        unit.weight_ih.mul_(gain)  # pyright: ignore
        for name, layer in (("spread", network.spread), ("hidden", network.hidden)):
            gain, shift = turns[name]
            layer.weight.mul_(gain[:, None])
            layer.bias.mul_(gain).add_(shift)
        return network
