"""Enhancement sample by sample: as many out as in, a constant delay, memory that does not grow.

    stream = open_stream()                    # bundled weights, 16 kHz
    for block in blocks:                      # any sizes
        play(stream.feed(block))              # as many samples, `latency_samples` late
    play(stream.flush())                      # the last `latency_samples` of them

Files go through the same stream in large blocks. At other rates than the network's the stream changes the
rate inside; what the change takes away (all above 7.4 kHz) is added back, scaled by the gain of the
network's top bands.
"""

from collections.abc import Mapping
from math import ceil
from typing import Any, Literal

import numpy as np
import torch
from scipy.fft import irfft, rfft
from torch import Tensor, nn

from core.errors import ConfigError, DataError
from speech.fast import quick_of
from speech.features import root_hann
from speech.resample import Resampler
from speech.sound import odd_samples

RATE = 16000
VERSION = 1
"""Of saved states."""
FEW = 3
"""Frames up to which compiled single steps are faster."""
AT_ONCE = 512
"""Frames that go through the network in one call."""
Channels = Literal["each", "link", "mono"]


class FrameStream:
    """Waves (C, n) at the network's rate -> those samples that are final, and the gain of its top bands."""

    def __init__(
        self, network: nn.Module, channels: int, *, link: bool, top_hz: float, gains: bool = True
    ) -> None:
        self.network: Any = network
        self.window, self.hop = int(self.network.window), int(self.network.hop)
        self.reflect = getattr(network, "ends", "zeros") == "reflect"
        self.channels, self.link = channels, link and channels > 1
        self.want_gains = gains
        self.device = next(network.parameters()).device
        bins = self.window // 2 + 1
        last = min(bins, int(top_hz / (RATE / 2) * (bins - 1)) + 1)
        self.top = slice(int(0.75 * last), last)
        like = torch.zeros(1 if self.link else channels, 1, device=self.device)
        self.quick = quick_of(network, len(like))
        self.bound: dict[str, Any] | None = None
        self.state = self.network.initial_state(like)
        self.shape = root_hann(self.window, like=torch.zeros(1)).numpy()
        self.buffer = np.zeros((channels, 0 if self.reflect else self.hop), np.float32)
        self.recent = self.buffer[:, :0]
        self.begun = not self.reflect
        self.tail = np.zeros((channels, self.hop), np.float32)
        self.heard = self.frames = 0
        self.bypass = False
        """Let frames through as they are: for blocks that come too late to be computed."""
        self.gains = np.ones((channels, 1), np.float32)
        """Smoothed gain of the top bands at the frames from number `self.gain_from` on."""
        self.gain_from = 0

    @property
    def latency(self) -> int:
        """Samples until a sample is final, at the worst."""
        return self.window - 1

    @torch.inference_mode()
    def feed(self, x: np.ndarray) -> np.ndarray:
        """Take samples (C, n), float32; gives those that are final, (C, m)."""
        self.heard += x.shape[1]
        self.buffer = np.concatenate([self.buffer, x], 1)
        if not self.begun:
            if self.buffer.shape[1] <= self.hop:
                return x[:, :0]
            self.recent, x = self.buffer[:, :0], self.buffer
            self.buffer = np.concatenate([self.buffer[:, self.hop : 0 : -1], self.buffer], 1)
            self.begun = True
        if self.reflect:  # what a reflected end is made of
            self.recent = np.concatenate([self.recent, x], 1)[:, -(self.hop + 1) :]
        return self.work((self.buffer.shape[1] - self.window) // self.hop + 1)

    @torch.inference_mode()
    def flush(self) -> np.ndarray:
        """The rest, so that as many samples came out as went in."""
        if not self.begun:  # too short to be reflected
            self.buffer = np.pad(self.buffer, ((0, 0), (self.hop, 0)))
            self.begun = True
        done = self.hop * max(0, self.frames - 1)
        total = (1 + self.heard // self.hop) if self.reflect else -(-self.heard // self.hop) + 1
        if self.reflect and self.heard > self.hop:
            self.buffer = np.concatenate([self.buffer, self.recent[:, -2::-1]], 1)
        missing = (total - self.frames - 1) * self.hop + self.window - self.buffer.shape[1]
        self.buffer = np.pad(self.buffer, ((0, 0), (0, max(0, missing))))
        out = self.work(total - self.frames)
        if self.reflect:  # behind the middle of the last frame there is one window only
            weight = np.square(self.shape[self.hop :])
            out = np.concatenate([out, self.tail / weight.clip(min=1e-9)], 1)
        return out[:, : self.heard - done]

    def work(self, count: int) -> np.ndarray:
        """The next frames through the network, overlapped and added."""
        outputs = []
        while count > 0:
            now = min(count, AT_ONCE)
            halves = self.buffer[:, : (now + 1) * self.hop].reshape(-1, now + 1, self.hop)
            pieces = np.concatenate([halves[:, :-1], halves[:, 1:]], 2)  # (C, T, window)
            spectra = torch.from_numpy(rfft(pieces * self.shape)).to(self.device)  # (C, T, F)
            clean = self.filter(spectra).cpu().numpy()
            waves = np.asarray(irfft(clean, n=self.window)) * self.shape  # (C, T, window)
            first, second = waves[..., : self.hop], waves[..., self.hop :]
            first[:, 0] += self.tail
            first[:, 1:] += second[:, :-1]
            self.tail = second[:, -1].copy()
            # frame 0 ends at sample `hop`; its first half lies before the wave
            whole = first[:, 1:] if self.frames == 0 else first
            outputs.append(whole.reshape(len(whole), whole.shape[1] * self.hop))
            self.frames += now
            self.buffer = self.buffer[:, now * self.hop :]
            count -= now
        return np.concatenate(outputs, 1) if outputs else self.tail[:, :0]

    def filter(self, spectra: Tensor) -> Tensor:
        """Spectra (C, T, F) through the network, with one gain for all channels where they are linked."""
        if self.bypass:
            clean = spectra
        elif self.link:
            middle = spectra.mean(0, keepdim=True)
            clean = self.through_network(middle)
            gain = clean.abs() / middle.abs().clamp(min=1e-9)
            clean = spectra * gain.clamp(max=1.0)
        else:
            clean = self.through_network(spectra)
        if not self.want_gains:
            return clean
        before, after = (self.top_power(part) for part in (spectra, clean))
        gains = np.sqrt(after / before).clip(max=1.0)  # (C, T)
        for gain in gains.T:  # 50 ms of memory
            last = gain if self.frames == 0 and self.gains.shape[1] == 1 else self.gains[:, -1]
            self.gains = np.concatenate([self.gains, (last + 0.3 * (gain - last))[:, None]], 1)
        if self.frames == 0:
            self.gains = self.gains[:, 1:]
        return clean

    def top_power(self, spectra: Tensor) -> np.ndarray:
        """Power of the top bands of spectra (C, T, F), (C, T)."""
        part: Any = spectra[..., self.top].cpu().numpy()
        return (np.square(part.real) + np.square(part.imag)).sum(-1) + np.float32(1e-12)

    def through_network(self, spectra: Tensor) -> Tensor:
        """Single frames through the compiled form, many at once through torch."""
        if self.quick is not None and spectra.shape[1] <= FEW:
            if self.bound is None:
                self.bound = self.quick.bind(self.state)
            return self.quick.frames(spectra, self.bound)
        self.settle()
        clean, self.state = self.network.filter(spectra, self.state)
        return clean

    def settle(self) -> None:
        """The state in the network's own form."""
        if self.quick is not None and self.bound is not None:
            self.state, self.bound = self.quick.unbind(self.bound), None

    def gain_at(self, place: np.ndarray) -> np.ndarray:
        """Gain of the top bands (C, n) at rising times in samples of 16 kHz; the past is forgotten."""
        at = np.clip(place / self.hop - self.gain_from, 0, self.gains.shape[1] - 1)
        low = np.minimum(at.astype(np.int64), self.gains.shape[1] - 1)
        high = np.minimum(low + 1, self.gains.shape[1] - 1)
        share = (at - low).astype(np.float32)
        gain = self.gains[:, low] * (1 - share) + self.gains[:, high] * share
        if len(low) and low[-1] > 0:
            self.gains = self.gains[:, low[-1] :]
            self.gain_from += int(low[-1])
        return gain


def whole_rate(rate: float) -> int:
    """A rate that a stream can have.

    Raises:
        ConfigError: it is none.
    """
    if not 4000 <= rate <= 384_000 or rate != int(rate):
        raise ConfigError(f"a rate is a whole number of 4000 to 384000 Hz, got {rate}.")
    return int(rate)


def wet_share(limit_db: float | None, mix: float) -> float:
    """The share of a network's output in what is given, beside the input.

    Raises:
        ConfigError: a limit below 0 dB, or a mix outside of 0 to 1.
    """
    if limit_db is not None and not limit_db >= 0:
        raise ConfigError(f"limit-db is the largest attenuation, at least 0; got {limit_db}.")
    if not 0 <= mix <= 1:
        raise ConfigError(f"mix lies between 0 (dry) and 1 (wet), got {mix}.")
    return mix if limit_db is None else mix * (1 - 10 ** (-limit_db / 20))


class EnhanceStream:
    """Noisy samples in, as many clean ones out. One channel takes and gives (n,), several (n, C)."""

    def __init__(
        self,
        network: nn.Module,
        rate: int = RATE,
        channels: int = 1,
        *,
        name: str = "",
        mode: Channels = "each",
        limit_db: float | None = None,
        mix: float = 1.0,
    ) -> None:
        if channels < 1:
            raise ConfigError(f"a stream has at least one channel, got {channels}.")
        if mode not in ("each", "link", "mono"):
            raise ConfigError(f"channels are treated each, link or mono, got {mode!r}.")
        self.rate, self.channels, self.mode, self.name = whole_rate(rate), channels, mode, name
        inside = 1 if mode == "mono" else channels
        self.wet_share = wet_share(limit_db, mix)
        self.core = FrameStream(
            network, inside, link=mode == "link", top_hz=min(rate, RATE) / 2, gains=self.rate != RATE
        )
        self.latency_samples = self.core.latency
        self.down = self.up = self.through = None
        if self.rate != RATE:
            self.down = Resampler(self.rate, RATE, inside)
            self.up, self.through = (Resampler(RATE, self.rate, inside) for _ in range(2))
            late = (self.core.latency + self.up.half) * self.rate / RATE
            self.latency_samples = ceil(late) + self.down.half + 1
        self.dry = np.zeros((inside, 0), np.float32)
        self.lost = np.zeros((inside, 0), np.float32)
        self.ready = np.zeros((inside, self.latency_samples), np.float32)
        self.made = 0
        self.bad_samples = 0
        """Samples that were no finite numbers and went in as silence."""
        self.ended = False

    def warm(self) -> None:
        """Compile and load what the first block would wait for; the stream stays as it is."""
        core = self.core
        like = torch.zeros(1 if core.link else core.channels, 1, device=core.device)
        spectra = torch.zeros(len(like), 1, core.window // 2 + 1, dtype=torch.complex64, device=core.device)
        with torch.inference_mode():
            state = core.network.initial_state(like)
            if core.quick is None:
                core.network.filter(spectra, state)
            else:
                core.quick.frames(spectra, core.quick.bind(state))

    def feed(self, samples: Any, *, dry: bool = False) -> np.ndarray:
        """Take (n,) or (n, C) samples, -1..1; gives as many, `latency_samples` late.

        `dry`: the frames that end in this block pass as they are, at no cost.

        Raises:
            DataError: another number of channels, or the stream was flushed.
        """
        if self.ended:
            raise DataError("this stream has ended; open another one.")
        x = self.arrange(samples)
        self.core.bypass = dry
        self.ready = np.concatenate([self.ready, self.advance(x)], 1)
        return self.give(x.shape[1])

    def flush(self) -> np.ndarray:
        """The last `latency_samples` samples; the stream has ended then."""
        if not self.ended:
            self.ended, self.core.bypass = True, False
            self.ready = np.concatenate([self.ready, self.finish()], 1)
        return self.give(self.ready.shape[1])

    def arrange(self, samples: Any) -> np.ndarray:
        """Samples as (C, n), float32, silence where they are no sound.

        Raises:
            DataError: another number of channels.
        """
        x = np.asarray(samples, np.float32)
        if x.ndim == 1:
            x = x[:, None]
        if x.ndim != 2 or x.shape[1] != self.channels:
            raise DataError(f"this stream takes (n, {self.channels}) samples, got {x.shape}.")
        x = np.ascontiguousarray(x.T)
        odd = odd_samples(x)
        if odd.any():
            self.bad_samples += int(odd.sum())
            x = np.where(odd, 0, x)
        return x.mean(0, keepdims=True) if self.mode == "mono" else x

    def give(self, count: int) -> np.ndarray:
        """The next samples in the caller's shape."""
        out, self.ready = self.ready[:, :count], self.ready[:, count:]
        return out[0] if len(out) == 1 else np.ascontiguousarray(out.T)

    def advance(self, x: np.ndarray) -> np.ndarray:
        """Whatever is final after these samples, (C, m)."""
        self.dry = np.concatenate([self.dry, x], 1)
        if self.down is None:
            return self.blend(self.core.feed(x))
        low = self.down.feed(x)
        self.lost = np.concatenate([self.lost, self.through.feed(low)], 1)  # pyright: ignore
        clean = self.core.feed(low)
        return self.blend(self.up.feed(clean))  # pyright: ignore

    def finish(self) -> np.ndarray:
        """The rest of the wave."""
        if self.down is None:
            return self.blend(self.core.flush())
        low = self.down.flush()
        rest = [self.through.feed(low), self.through.flush()]  # pyright: ignore
        self.lost = np.concatenate([self.lost, *rest], 1)
        clean = [self.core.feed(low), self.core.flush()]
        wet = [self.up.feed(part) for part in clean] + [self.up.flush()]  # pyright: ignore
        return self.blend(np.concatenate(wet, 1)[:, : self.dry.shape[1]])

    def blend(self, wet: np.ndarray) -> np.ndarray:
        """Add the band above the network's, keep what must stay, mix with the input: (C, m)."""
        count = wet.shape[1]
        dry, self.dry = self.dry[:, :count], self.dry[:, count:]
        if self.down is not None:
            place = (self.made + np.arange(count)) * (RATE / self.rate)
            above = dry - self.lost[:, :count]
            self.lost = self.lost[:, count:]
            wet = wet + self.core.gain_at(place) * above
        self.made += count
        return (self.wet_share * wet + (1 - self.wet_share) * dry).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """All that the stream remembers, as plain arrays and numbers."""
        core = self.core
        core.settle()
        parts = {name: part.state() for name, part in self.resamplers()}
        return {
            "version": VERSION,
            "weights": self.name,
            "rate": self.rate,
            "channels": self.channels,
            "network": plain(core.state),
            "core": plain([core.buffer, core.tail, core.recent, core.gains]),
            "at": [core.heard, core.frames, core.gain_from, self.made, int(core.begun)],
            "waves": plain([self.dry, self.lost, self.ready]),
            "resamplers": parts,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where another stream of the same weights, rate and channels stood.

        Raises:
            DataError: it is of something else.
        """
        own = {"version": VERSION, "weights": self.name, "rate": self.rate, "channels": self.channels}
        for key, value in own.items():
            if state.get(key) != value:
                raise DataError(f"this state has {key} {state.get(key)!r}, the stream {value!r}.")
        core = self.core
        core.state, core.bound = revived(state["network"], core.device), None
        core.buffer, core.tail, core.recent, core.gains = (np.array(part) for part in state["core"])
        core.heard, core.frames, core.gain_from, self.made, begun = (int(number) for number in state["at"])
        core.begun = bool(begun)
        self.dry, self.lost, self.ready = (np.array(part) for part in state["waves"])
        for name, part in self.resamplers():
            part.load_state(state["resamplers"][name])

    def resamplers(self) -> list[tuple[str, Resampler]]:
        """Those there are."""
        found = {"down": self.down, "up": self.up, "through": self.through}
        return [(name, part) for name, part in found.items() if part is not None]


def plain(value: Any) -> Any:
    """Tensors in any nesting as numpy arrays of their own."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy().copy()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else tuple(plain(p) for p in value)


def revived(value: Any, device: torch.device) -> Any:
    """The inverse of `plain`."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy()).to(device)
    if isinstance(value, dict):
        return {key: revived(part, device) for key, part in value.items()}
    return type(value)(revived(part, device) for part in value)
