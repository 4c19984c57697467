"""Enhancement by networks that need whole waves, such as FRCRN: files in overlapping windows.

    stream = WindowStream(network, 48000, channels=2, own_rate=16000)
    out = stream.feed(block)                  # (n, C) in; what is final comes out, at its own time
    rest = stream.flush()

Windows and fades are those of `speech.separation`. What lies above the network's band is added back, scaled
by how much quieter the network made the band below over the last 50 ms.
"""

from typing import Any

import numpy as np
from torch import Tensor, nn

from core.errors import ConfigError
from speech.resample import Resampler
from speech.separation import WINDOW_S, SeparateStream
from speech.stream import Channels, wet_share, whole_rate

MEMORY_S = 0.05


class Single(nn.Module):
    """A network of one output as one that gives tracks: (B, N) -> (B, 1, N)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, wave: Tensor) -> Tensor:
        return self.network(wave)[:, None]


class WindowStream:
    """Noisy samples (n,) or (n, C) in, clean ones out, as many in all.

    Raises:
        ConfigError: a word or a number that a stream cannot have.
    """

    latency_samples = 0
    """Samples come at their own time, but only when their window is complete."""

    def __init__(
        self,
        network: nn.Module,
        rate: int,
        channels: int = 1,
        *,
        own_rate: int = 16000,
        mode: Channels = "each",
        limit_db: float | None = None,
        mix: float = 1.0,
        window_s: float = WINDOW_S,
        level_db: float | None = None,
        half: bool = False,
    ) -> None:
        if mode not in ("each", "mono"):
            raise ConfigError("a network that needs whole waves treats channels each or mono.")
        self.rate, self.own_rate, self.mode = whole_rate(rate), own_rate, mode
        inside = 1 if mode == "mono" else channels
        self.wet_share = wet_share(limit_db, mix)
        words: dict[str, Any] = {"consistent": False, "gate_db": None, "window_s": window_s, "half": half}
        self.streams = [
            SeparateStream(Single(network), 1, own_rate, own_rate=own_rate, level_db=level_db, **words)
            for _ in range(inside)
        ]
        self.down = self.up = self.through = None
        if self.rate != own_rate:
            self.down = Resampler(self.rate, own_rate, inside, half_s=0.006)
            self.up, self.through = (Resampler(own_rate, self.rate, inside, half_s=0.006) for _ in range(2))
        self.dry, self.low, self.wet = (np.zeros((inside, 0), np.float32) for _ in range(3))
        self.power = np.full((2, inside), 1e-9)

    def feed(self, samples: Any) -> np.ndarray:
        """Take a block; gives what is final."""
        x = np.asarray(samples, np.float32)
        x = np.ascontiguousarray((x[:, None] if x.ndim == 1 else x).T)
        x = x.mean(0, keepdims=True) if self.mode == "mono" else x
        self.dry = np.concatenate([self.dry, x], 1)
        if self.down is None or self.up is None or self.through is None:
            return self.give(self.network(x))
        low = self.down.feed(x)
        self.low = np.concatenate([self.low, self.through.feed(low)], 1)
        return self.give(self.up.feed(self.network(low)))

    def flush(self) -> np.ndarray:
        """The rest."""
        if self.down is None or self.up is None or self.through is None:
            return self.give(self.rest())
        low = self.down.flush()
        self.low = np.concatenate([self.low, self.through.feed(low), self.through.flush()], 1)
        parts = [self.up.feed(self.network(low)), self.up.feed(self.rest()), self.up.flush()]
        return self.give(np.concatenate(parts, 1))

    def network(self, x: np.ndarray) -> np.ndarray:
        """Every channel through its own windows."""
        return np.concatenate([stream.feed(row) for stream, row in zip(self.streams, x, strict=True)])

    def rest(self) -> np.ndarray:
        """What the windows of every channel still hold, (C, m)."""
        return np.concatenate([stream.flush() for stream in self.streams])

    def give(self, clean: np.ndarray) -> np.ndarray:
        """Clean samples that are final, with what lies above the network's band, and the dry share."""
        self.wet = np.concatenate([self.wet, clean], 1)
        count = min(self.wet.shape[1], self.dry.shape[1])
        wet, self.wet = self.wet[:, :count], self.wet[:, count:]
        dry, self.dry = self.dry[:, :count], self.dry[:, count:]
        if self.down is not None:
            low, self.low = self.low[:, :count], self.low[:, count:]
            wet = wet + self.gain(wet, low) * (dry - low)
        out = (self.wet_share * wet + (1 - self.wet_share) * dry).astype(np.float32)
        return out[0] if len(out) == 1 else np.ascontiguousarray(out.T)

    def gain(self, wet: np.ndarray, low: np.ndarray) -> np.ndarray:
        """How much quieter the band below became, smoothed, at most 1: (C, n)."""
        size = max(1, int(MEMORY_S * self.rate))
        gains = np.ones_like(wet)
        for start in range(0, wet.shape[1], size):
            piece = slice(start, start + size)
            now = np.stack([np.square(part[:, piece]).mean(1) for part in (wet, low)])
            before, self.power = self.power, 0.5 * self.power + 0.5 * now
            ends = [np.sqrt((p[0] + 1e-12) / (p[1] + 1e-12)).clip(max=1.0) for p in (before, self.power)]
            ramp = np.linspace(0, 1, wet[:, piece].shape[1])
            gains[:, piece] = ends[0][:, None] * (1 - ramp) + ends[1][:, None] * ramp
        return gains
