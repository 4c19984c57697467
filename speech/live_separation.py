"""Two talkers sample by sample, by a causal separation network: tracks that are a constant delay late.

    stream = LiveSeparation(model.network, 16000)
    tracks = stream.feed(block)               # (n,) in, (n, S) out, `latency_samples` late
    rest = stream.flush()

The tracks of every moment add up to the mixture. At other rates the part above the network's band goes to
each track by its share of the power below.
"""

from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError, DataError
from speech.models.causal_grid import CausalGrid
from speech.resample import Resampler
from speech.sound import odd_samples
from speech.stream import RATE, FrameStream, whole_rate

MEMORY_S = 0.05
"""Of the power that shares out what lies above the network's band."""


class Talkers(FrameStream):
    """Frames of one mixture -> frames of every talker: (1, n) -> (S, m)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, 1, link=False, top_hz=RATE / 2, gains=False)
        self.tail = np.zeros((self.network.talkers, self.hop), np.float32)

    def filter(self, spectra: Tensor) -> Tensor:
        talkers = self.network.talkers
        if self.bypass:
            return spectra.expand(talkers, -1, -1) / talkers
        tracks, self.state = self.network.tracks(spectra, self.state)
        return tracks[0]


class LiveSeparation:
    """A mixture (n,) -> as many samples of every talker (n, S); several channels (n, C) are averaged.

    Raises:
        ConfigError: the network needs the whole recording, or the rate is none.
    """

    def __init__(self, network: nn.Module, rate: int = RATE, channels: int = 1, *, name: str = "") -> None:
        config: Any = getattr(network, "config", None)
        if not (getattr(config, "causal", False) or isinstance(network, CausalGrid)):
            raise ConfigError(f"{name or 'this network'} needs the whole recording and cannot go live.")
        self.rate, self.channels, self.name = whole_rate(rate), channels, name
        self.core = Talkers(network)
        self.talkers: int = self.core.network.talkers
        self.latency_samples = self.core.latency
        self.down = self.up = self.through = None
        if self.rate != RATE:
            self.down, self.through = Resampler(self.rate, RATE), Resampler(RATE, self.rate)
            self.up = Resampler(RATE, self.rate, self.talkers)
            late = (self.core.latency + self.up.half) * self.rate / RATE
            self.latency_samples = ceil(late) + self.down.half + 1
        self.dry = np.zeros((1, 0), np.float32)
        self.low = np.zeros((1, 0), np.float32)
        self.power = np.full(self.talkers, 1e-9)
        self.ready = np.zeros((self.talkers, self.latency_samples), np.float32)
        self.bad_samples = 0
        """Samples that were no finite numbers and went in as silence."""
        self.ended = False

    def warm(self) -> None:
        """Load and compile what the first block would wait for; the stream stays as it is."""
        like = torch.zeros(1, 1)
        spectra = torch.zeros(1, 1, self.core.window // 2 + 1, dtype=torch.complex64)
        with torch.inference_mode():
            self.core.network.tracks(spectra, self.core.network.initial_state(like))

    def feed(self, samples: Any, *, dry: bool = False) -> np.ndarray:
        """Take (n,) or (n, C) samples; gives (n, S). `dry`: the mixture in equal parts, at no cost.

        Raises:
            DataError: another number of channels, or the stream was flushed.
        """
        if self.ended:
            raise DataError("this stream has ended; open another one.")
        x = np.asarray(samples, np.float32)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise DataError(f"this stream takes (n, {self.channels}) samples, got {x.shape}.")
        odd = odd_samples(x)
        self.bad_samples += int(odd.sum())
        wave = np.where(odd, np.float32(0), x).mean(1)[None]
        self.core.bypass = dry
        self.ready = np.concatenate([self.ready, self.advance(wave)], 1)
        return self.give(wave.shape[1])

    def flush(self) -> np.ndarray:
        """The last `latency_samples` samples of every track; the stream has ended then."""
        if not self.ended:
            self.ended = True
            self.ready = np.concatenate([self.ready, self.finish()], 1)
        return self.give(self.ready.shape[1])

    def give(self, count: int) -> np.ndarray:
        out, self.ready = self.ready[:, :count], self.ready[:, count:]
        return np.ascontiguousarray(out.T)

    def advance(self, wave: np.ndarray) -> np.ndarray:
        """Whatever is final after these samples, (S, m)."""
        if self.down is None or self.up is None or self.through is None:
            return self.core.feed(wave)
        self.dry = np.concatenate([self.dry, wave], 1)
        low = self.down.feed(wave)
        self.low = np.concatenate([self.low, self.through.feed(low)], 1)
        return self.complete(self.up.feed(self.core.feed(low)))

    def finish(self) -> np.ndarray:
        """The rest of every track."""
        if self.down is None or self.up is None or self.through is None:
            return self.core.flush()
        low = self.down.flush()
        self.low = np.concatenate([self.low, self.through.feed(low), self.through.flush()], 1)
        parts = [self.core.feed(low), self.core.flush()]
        tracks = [self.up.feed(part) for part in parts] + [self.up.flush()]
        return self.complete(np.concatenate(tracks, 1)[:, : self.dry.shape[1]])

    def complete(self, tracks: np.ndarray) -> np.ndarray:
        """Add what lies above the network's band, shared out by power."""
        count = tracks.shape[1]
        above = self.dry[:, :count] - self.low[:, :count]
        self.dry, self.low = self.dry[:, count:], self.low[:, count:]
        if not count:
            return tracks
        keep = np.exp(-count / (MEMORY_S * self.rate))
        before, self.power = self.power, keep * self.power + (1 - keep) * np.square(tracks).mean(1)
        ramp = (np.arange(count) + 1) / count
        power = before[:, None] * (1 - ramp) + self.power[:, None] * ramp + 1e-12
        return (tracks + above * (power / power.sum(0))).astype(np.float32)
