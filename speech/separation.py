"""Talkers of a recording of any length: windows that overlap, voices kept apart from one to the next.

    window 6 s, next one 4.5 s later, faded into each other by raised cosines that add up to one

Which output of a window continues which track is told by the spectra over the overlap; where nobody speaks
there, by the memory of each voice's mean spectrum. When all has been heard, `sorted_out` gives the tracks
again, each with one voice from begin to end (`speech.conversation`). The tracks add up to the mixture: what
the network left over goes to each in proportion to its power per bin and frame. At other rates the same holds
for what lies above the network's band.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from speech.conversation import Traits, routed
from speech.counting import crowded
from speech.features import analyse, mel_bands, synthesise
from speech.passes import checked_passes, several
from speech.precision import HalfProducts
from speech.resample import Resampler
from speech.turns import hushed

RATE = 16000
WINDOW_S, OVERLAP = 6.0, 0.25
QUIET_DB = -50.0
"""Tracks below this level in an overlap cannot be told apart there."""
STILL = 2**-15
"""Peak of a pause that no window is spent on, one step of 16 bits: what a muted call leaves."""
GATE_DB = -20.0
"""A track that stays this far below the other over a whole window is leakage, not a talker. Set on mixtures
of validation talkers (`tests.speech.count`): of two within 5 dB the weaker track lies above -7, of one talker
alone the bundled network leaves -28 dB and less in three of four."""

LOOK_EVERY, LOOK_S = 4, 1.5
"""A window in so many is looked at for further talkers, one in 18 s, if it is so long."""


@dataclass
class VoicePrint:
    """Mean log spectrum of a voice over its loud frames."""

    total: np.ndarray
    weight: float = 0.0

    def hear(self, wave: Tensor) -> None:
        """Take in a window of the voice."""
        mean, frames = voice(wave)
        self.total = self.total + mean * frames
        self.weight += frames

    @property
    def mean(self) -> np.ndarray:
        return self.total / max(self.weight, 1e-9)


class SeparateStream:
    """Mixture samples (n,) in, finished samples of each talker (S, m) out; `flush` gives the rest."""

    def __init__(
        self,
        network: nn.Module,
        talkers: int,
        rate: int = RATE,
        *,
        consistent: bool = True,
        gate_db: float | None = GATE_DB,
        window_s: float = WINDOW_S,
        own_rate: int = RATE,
        level_db: float | None = None,
        half: bool = False,
        passes: int = 1,
        count: bool = False,
    ) -> None:
        """`own_rate`: of the network; `level_db`: RMS that its windows are brought to and back from; `half`:
        products in bfloat16; `passes`: how often each window goes through, see `speech.passes`; `count`: look
        for further talkers in a window of four."""
        if window_s < 0.5:
            raise ConfigError(f"a window has at least 0.5 s, got {window_s}.")
        if gate_db is not None and not gate_db < 0:
            raise ConfigError(
                f"gate-db is a level below that of the other track, less than 0; got {gate_db}."
            )
        self.network, self.talkers, self.rate, self.own_rate = network, talkers, rate, own_rate
        self.level_db, self.half, self.passes = level_db, half, checked_passes(passes)
        self.consistent, self.gate_db, self.count = consistent, gate_db, count
        self.window = int(window_s * own_rate) // 4 * 4
        self.overlap = int(self.window * OVERLAP)
        self.device = next(network.parameters()).device
        other = rate != own_rate
        self.down = Resampler(rate, own_rate, 1, half_s=0.006) if other else None
        self.ups = Resampler(own_rate, rate, talkers + 1, half_s=0.006) if other else None
        self.buffer = torch.zeros(0)
        """The last window and what came behind it."""
        self.first = 0  # place of the buffer's first sample
        self.start = 0  # where the next window begins
        self.heard = 0
        self.pending: Tensor | None = None  # the last window's overlap with the next, not faded yet
        self.voices = [VoicePrint(np.zeros(40)) for _ in range(talkers)]
        self.traits = Traits(talkers, own_rate)
        self.mix_out = np.zeros((1, 0), np.float32)
        self.silenced = np.zeros(talkers)
        """Seconds that each track was gated."""
        self.swaps = 0
        self.windows = self.looked = self.crowded = 0
        """Windows so far, those looked at for further talkers, and those that hold some."""

    def feed(self, samples: np.ndarray) -> np.ndarray:
        """Take samples (n,) at the stream's rate; gives what is final, (S, m)."""
        wave = np.asarray(samples, np.float32)
        if self.down is None:
            return self.feed_network(torch.from_numpy(wave)).numpy()
        self.mix_out = np.concatenate([self.mix_out, wave[None]], 1)
        low = self.down.feed(wave[None])[0]
        return self.raise_rate(self.feed_network(torch.from_numpy(low)), last=False)

    def flush(self) -> np.ndarray:
        """The rest of every track."""
        if self.down is None:
            return self.end_network().numpy()
        low = self.down.flush()[0]
        parts = [self.feed_network(torch.from_numpy(low)), self.end_network()]
        return self.raise_rate(torch.cat(parts, 1), last=True)

    def state(self) -> dict[str, Any]:
        """All that the stream remembers, as plain arrays and numbers."""
        return {
            "buffer": self.buffer.numpy().copy(),
            "at": [self.first, self.start, self.heard, self.swaps, self.windows, self.looked, self.crowded],
            "pending": None if self.pending is None else self.pending.numpy().copy(),
            "voices": [(memory.total, memory.weight) for memory in self.voices],
            "mix": self.mix_out.copy(),
            "silenced": self.silenced.copy(),
            "traits": self.traits.state(),
            "resamplers": [part.state() for part in (self.down, self.ups) if part is not None],
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where another stream of the same network, rate and words stood."""
        self.buffer = torch.from_numpy(np.array(state["buffer"], np.float32))
        at = [int(number) for number in state["at"]]
        at += [0] * (7 - len(at))  # states of before windows were counted
        self.first, self.start, self.heard, self.swaps, self.windows, self.looked, self.crowded = at
        pending = state["pending"]
        self.pending = None if pending is None else torch.from_numpy(np.array(pending, np.float32))
        self.voices = [VoicePrint(np.array(total), float(weight)) for total, weight in state["voices"]]
        self.mix_out, self.silenced = np.array(state["mix"], np.float32), np.array(state["silenced"])
        self.traits.load_state(state["traits"])
        parts = [part for part in (self.down, self.ups) if part is not None]
        for part, kept in zip(parts, state["resamplers"], strict=True):
            part.load_state(kept)

    def raise_rate(self, tracks: Tensor, last: bool) -> np.ndarray:
        """Tracks at 16 kHz -> at the stream's rate, with the rest of the mixture shared out."""
        assert self.ups is not None
        both = np.concatenate([tracks.numpy(), tracks.sum(0, keepdim=True).numpy()])
        high = self.ups.feed(both)
        if last:
            high = np.concatenate([high, self.ups.flush()], 1)
        count = min(high.shape[1], self.mix_out.shape[1])
        tracks_high, mix = high[: self.talkers, :count], self.mix_out[:, :count]
        self.mix_out = self.mix_out[:, count:]
        if not self.consistent:
            return tracks_high
        left = mix - tracks_high.sum(0, keepdims=True)
        power = np.square(tracks_high) + 1e-12
        size = max(1, self.rate // 20)
        kernel = np.ones(size) / size
        smooth = np.stack([np.convolve(row, kernel, "same")[:count] if count else row for row in power])
        return (tracks_high + left * (smooth / smooth.sum(0))).astype(np.float32)

    def talkers_heard(self, spans: Sequence[Sequence[Any]]) -> int:
        """Talkers of all that was fed, by the spans in which tracks speak; one more where these hold more."""
        talkers = sum(bool(part) for part in spans)
        return talkers + (talkers == self.talkers and 2 * self.crowded > self.looked)

    def feed_network(self, wave: Tensor) -> Tensor:
        """At 16 kHz: every window that is complete, faded into the one before."""
        self.buffer = torch.cat([self.buffer, wave])
        self.heard += len(wave)
        done = []
        while self.heard - self.start > self.window:  # a window that ends the wave ends unfaded
            pause = self.pause()
            done.append(
                self.passed(pause) if pause else self.work(self.start, self.start + self.window, last=False)
            )
        tracks = torch.cat(done, 1) if done else torch.zeros(self.talkers, 0)
        if self.talkers > 1:
            self.traits.hear(tracks)
        return tracks

    def end_network(self) -> Tensor:
        """The last window, which reaches back for a full length where there is one."""
        if self.start == self.heard:
            tracks = torch.zeros(self.talkers, 0) if self.pending is None else self.pending
        else:
            tracks = self.work(max(0, min(self.start, self.heard - self.window)), self.heard, last=True)
        if self.talkers > 1:
            self.traits.hear(tracks)
        return tracks

    def sorted_out(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """All that this stream gave, once more, with every voice on one track: see `speech.conversation`."""
        routes = self.traits.routes(merge=self.gate_db is not None)
        return routed(pieces, routes, self.traits.block * self.rate / self.own_rate, self.rate)

    def pause(self) -> int:
        """Samples of silence that the next window would begin with, if they are as many as an overlap."""
        if self.talkers < 2:
            return 0
        low = self.start - self.first
        sound = (self.buffer[low : low + self.window].abs() > STILL).nonzero()
        if not len(sound):  # so much is left that the next look sees where it ends
            return self.window - self.overlap
        silent = int(sound[0])
        return silent if silent >= max(1, self.overlap) else 0

    def passed(self, pause: int) -> Tensor:
        """Let a pause pass in equal parts, so that the next window begins with speech, wherever that is."""
        low = self.start - self.first
        tracks = (self.buffer[low : low + pause] / self.talkers).repeat(self.talkers, 1)
        if self.pending is not None:
            tracks[:, : self.pending.shape[1]] = self.pending
        self.pending = tracks[:, :0]
        self.move(self.start + pause)
        return tracks

    def move(self, start: int) -> None:
        """The next window begins there."""
        self.start = start
        keep = max(self.first, start - self.window)  # the last window may reach back this far
        self.buffer = self.buffer[keep - self.first :]
        self.first = keep

    def work(self, low: int, high: int, *, last: bool) -> Tensor:
        """Separate [low, high), join it to what came before; gives the tracks from `self.start` on."""
        piece = self.buffer[low - self.first : high - self.first]
        tracks = self.separate(piece)[:, self.start - low :]
        if self.pending is not None:
            shared = min(self.pending.shape[1], tracks.shape[1])
            before = self.pending[:, :shared]
            order = self.order(before, tracks, shared)
            tracks = tracks[list(order)]
            fade = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(shared) + 0.5) / shared)
            tracks[:, :shared] = before * (1 - fade) + tracks[:, :shared] * fade
        for memory, track in zip(self.voices, tracks, strict=True):
            memory.hear(track)
        if last:
            return tracks
        step = self.window - self.overlap
        self.pending = tracks[:, step:]
        self.move(low + step)
        return tracks[:, :step]

    @torch.inference_mode()
    def separate(self, piece: Tensor) -> Tensor:
        """One window through the network: (n,) -> (S, n), with the tracks adding up to it if asked."""
        if not bool(piece.abs().max() > 0):
            return torch.zeros(self.talkers, len(piece))
        whole, offset = piece, piece.mean()
        if self.consistent and 0 < float(piece.var(correction=0)) < float(offset.square()):
            piece = piece - offset  # nobody's voice, and louder than all that is heard; shared out below
        size = piece.square().mean().clamp(min=1e-12).sqrt()
        scale = 1.0 if self.level_db is None else 10 ** (self.level_db / 20) / size
        with HalfProducts() if self.half else nullcontext():
            tracks = (
                several(self.network, (piece * scale)[None].to(self.device), self.passes)[0].cpu() / scale
            )
        if self.gate_db is not None:
            tracks = self.gated(tracks)
        heard = self.windows % LOOK_EVERY == 0 and len(piece) >= LOOK_S * self.own_rate
        if self.count and heard and bool((tracks.abs().amax(-1) > 0).all()) and sounds(piece):
            self.looked += 1
            self.crowded += crowded(self.network, tracks.to(self.device))
        self.windows += 1
        if self.gate_db is not None:
            tracks = hushed(tracks, self.own_rate)
        return consistent(tracks, whole) if self.consistent else tracks

    def gated(self, tracks: Tensor) -> Tensor:
        """Tracks that are nothing but leakage are silenced."""
        power = tracks.square().mean(-1)
        leak = power < power.max() * 10 ** (float(self.gate_db or 0) / 10)
        self.silenced += leak.numpy() * (tracks.shape[1] / self.own_rate)
        return tracks * ~leak[:, None]

    def order(self, before: Tensor, tracks: Tensor, shared: int) -> tuple[int, ...]:
        """Which output continues which track."""
        now = tracks[:, :shared]
        quiet = 10 ** (QUIET_DB / 10)
        loud = (
            shared > 0
            and min(float(before.square().mean(-1).min()), float(now.square().mean(-1).min())) > quiet
        )
        if loud and shared >= 0.3 * self.own_rate:
            a, b = (spectrum(part) for part in (before, now))
            score = (a[:, None] * b[None]).sum((-1, -2)) / (
                a.square().sum((-1, -2)).sqrt()[:, None] * b.square().sum((-1, -2)).sqrt()[None] + 1e-9
            )
            table = score.numpy()
        else:
            heard = [voice(track) for track in tracks]
            table = np.array(
                [
                    [cosine(memory.mean, mean) if frames and memory.weight else 0.0 for mean, frames in heard]
                    for memory in self.voices
                ]
            )
            if loud or (shared and float(before.square().mean() + now.square().mean()) > quiet):
                power = before[:, None] - now[None, :]
                away = power.square().mean(-1) / (before.square().mean() + now.square().mean() + 1e-12)
                table = table + 2.0 * (1 - away.numpy())
        orders = permutations(range(self.talkers))
        best = max(orders, key=lambda order: sum(table[k, chosen] for k, chosen in enumerate(order)))
        self.swaps += best != tuple(range(self.talkers))
        return best


def sounds(piece: Tensor) -> bool:
    """Whether a window is more than an offset."""
    return bool(piece.var(correction=0) > 0.1 * piece.square().mean())


def consistent(tracks: Tensor, mixture: Tensor) -> Tensor:
    """Share out what the tracks (S, n) lack of the mixture (n,), by power per bin and frame."""
    window, hop = 512, 256
    spectra = analyse(tracks, window, hop)
    left = analyse((mixture - tracks.sum(0))[None], window, hop)
    power = spectra.abs().square() + 1e-14
    power = power + 1e-10 * power.mean()
    share = power / power.sum(0, keepdim=True)
    tracks = tracks + synthesise(left * share, window, hop, len(mixture))
    return tracks + (mixture - tracks.sum(0)) / len(tracks)  # rounding


def spectrum(waves: Tensor) -> Tensor:
    """Compressed magnitudes (S, T, F)."""
    return analyse(waves, 512, 256).abs() ** 0.5


def voice(wave: Tensor) -> tuple[np.ndarray, float]:
    """Mean log spectrum of the loud frames of a track (n,), its mean removed, and how many there are."""
    power = analyse(wave[None], 512, 256)[0].abs().square().numpy()
    level = power.sum(1)
    loud = level > max(level.max() * 1e-3, 1e-6)
    if not loud.any():
        return np.zeros(40), 0.0
    log = np.log(power[loud] @ mel_bands(40, 257, RATE) + 1e-8)
    mean = log.mean(0)
    return mean - mean.mean(), float(loud.sum())


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two vectors."""
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-9))


def speaking(tracks: Any, rate: int) -> list[list[tuple[float, float]]]:
    """Who speaks when: for each track of (S, N) its spans in seconds.

    A track speaks where its level over 0.1 s is within 35 dB of the loudest and 15 dB of the other tracks;
    gaps under 0.3 s are closed, spans under 0.15 s left out.
    """
    tracks = np.asarray(tracks)
    if not tracks.shape[1]:
        return [[] for _ in tracks]
    hop = max(1, rate // 50)
    count = -(-tracks.shape[1] // hop)
    padded = np.pad(tracks, ((0, 0), (0, count * hop - tracks.shape[1])))
    power = np.square(padded).reshape(len(tracks), count, hop).mean(-1) + 1e-12
    smooth = np.stack([np.convolve(row, np.ones(5) / 5, "same") for row in power])
    loud = smooth > smooth.max() * 10**-3.5
    clear = smooth > smooth.max(0) * 10**-1.5
    return [spans(row, hop / rate, tracks.shape[1] / rate) for row in loud & clear & (smooth > 1e-9)]


def spans(active: np.ndarray, step: float, end: float) -> list[tuple[float, float]]:
    """Runs of true as (begin, end) in seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    found: list[tuple[float, float]] = []
    for low, high in zip(edges[::2], edges[1::2], strict=True):
        if found and low * step - found[-1][1] < 0.3:
            found[-1] = (found[-1][0], min(end, high * step))
        else:
            found.append((low * step, min(end, high * step)))
    return [(round(a, 3), round(b, 3)) for a, b in found if b - a >= 0.15]
