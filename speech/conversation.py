"""A recording as a whole: which track a voice is on at every moment, told when all of it has been heard.

Windows are joined one after the other, so a network that puts a voice on the other track after a pause, or in
the middle of a window, is believed. Here every 0.13 s of every track keep the mean of the log spectrum over
mel bands, its level taken off, and of the autocorrelation at the lags of pitch; and the most likely order of
the tracks is searched for the whole recording at once:

    x[b, j] ~ N(m[k], C / temper)      block b of track j, held by talker k
    order   = Viterbi over b; a change costs little in a pause, much within speech
    m[k]    = mean of what talker k holds by that order; again until nothing changes

C is how spectra change from one block to the next inside a track, so what sounds do to a spectrum weighs
little and what a voice does weighs much (whitening within classes, as in linear discriminant analysis). It
is begun from the order of the windows and from the direction in which stretches differ most, and the better
end is taken. Where one voice explains the recording as well as several do, all of it goes to one track.

All numbers were set on conversations of validation talkers.
"""

from collections.abc import Iterable, Iterator
from itertools import permutations
from typing import Any

import numpy as np
from torch import Tensor

from speech.features import mel_bands

BANDS, BLOCK = 40, 8
LAGS, HIGHEST, LOWEST = 24, 400.0, 70.0
"""Lags of the autocorrelation that are kept beside the bands, and the pitches that they lie between in Hz."""
PERIODIC = 12.0
"""What lags are multiplied with, to vary as much as bands do."""
TRAITS = BANDS + LAGS
RANGE = 1e-3
"""Blocks this far below the loud ones are pauses."""
LEAKAGE = 10**-1.5
"""A frame this far below that of another track is its leakage."""
DEEP = 1e-5
"""Bands this far below the whole spectrum tell of the room and the microphone."""
ACTIVE = 0.2
"""Share of its frames that makes a block one of speech."""
TEMPER = 0.25
"""Blocks count for so much of what independent ones would: neighbours are alike."""
BOTH = 0.5
"""What a block counts for while another track is active, too: it holds some of it."""
MOVE, MOVE_IN_PAUSE = 8.0, 1.5
"""What a change of order costs, in nats."""
SPREAD, SMOOTH, FLOOR, SHRINK = 2.0, 4.0, 0.1, 40.0
"""The spread C is begun with: variance, bands that go together, what is added, blocks that it counts for."""
LEAST, SEVERAL, SHORT = 60, 0.6, 15.0
"""Of fewer blocks with speech no two tracks are made one. Voices are several if they explain a block better
than one by so many nats, less those that any two means explain by chance; four times the share of blocks in
which several are active is added."""
FADE_S = 0.016
ROUNDS = 20


class Traits:
    """What is remembered of separated tracks (S, n) at one rate, as they come."""

    def __init__(self, talkers: int, rate: int) -> None:
        self.talkers, self.rate = talkers, rate
        self.hop = max(1, rate * 16 // 1000)
        self.rest = np.zeros((talkers, 0), np.float32)
        self.spectra: list[np.ndarray] = []  # (b, S, TRAITS)
        self.levels: list[np.ndarray] = []  # (b, S, 2): mean power, share of frames that are no leakage
        turn = 2 * np.pi * np.arange(2 * self.hop) / (2 * self.hop)
        self.shape = np.sqrt(0.5 - 0.5 * np.cos(turn)).astype(np.float32)
        self.bands = mel_bands(BANDS, self.hop + 1, rate)
        self.lags = np.round(rate / np.geomspace(HIGHEST, LOWEST, LAGS)).astype(int)

    @property
    def block(self) -> int:
        """Samples of a block."""
        return BLOCK * self.hop

    def hear(self, tracks: Tensor) -> None:
        """The next samples of every track."""
        self.rest = np.concatenate([self.rest, tracks.numpy()], 1)
        count = (self.rest.shape[1] - self.hop) // self.block
        if count > 0:
            self.keep(count)

    def keep(self, count: int) -> None:
        """Take in so many blocks."""
        frames = np.lib.stride_tricks.sliding_window_view(self.rest, 2 * self.hop, 1)[:, :: self.hop]
        spectra = np.fft.rfft(frames[:, : count * BLOCK] * self.shape)
        power = np.square(spectra.real) + np.square(spectra.imag)  # (S, T, F)
        level = power.sum(-1)
        log = np.log(power @ self.bands / (level[..., None] + 1e-20) + DEEP)
        log -= log.mean(-1, keepdims=True)
        root = np.sqrt(power)
        period = np.fft.irfft(root)[..., self.lags] * self.hop / (root.sum(-1, keepdims=True) + 1e-20)
        found = np.concatenate([log, PERIODIC * period], -1)
        parts = level.reshape(self.talkers, count, BLOCK)
        floor = np.maximum(RANGE * parts.max(-1, keepdims=True), LEAKAGE * parts.max(0)).clip(min=1e-9)
        heard = parts > floor
        weight = heard.sum(-1)
        mean = (found.reshape(*parts.shape, TRAITS) * heard[..., None]).sum(2) / np.maximum(weight, 1)[
            ..., None
        ]
        self.spectra.append(mean.swapaxes(0, 1).astype(np.float16))
        self.levels.append(np.stack([parts.mean(-1), weight / BLOCK], -1).swapaxes(0, 1).astype(np.float32))
        self.rest = self.rest[:, count * self.block :]

    def state(self) -> list[np.ndarray]:
        """All of it, as arrays."""
        return [self.rest.copy(), *self.blocks()]

    def load_state(self, state: list[Any]) -> None:
        """Go on from there."""
        rest, spectra, levels = state
        self.rest = np.array(rest, np.float32)
        self.spectra, self.levels = [np.array(spectra, np.float16)], [np.array(levels, np.float32)]

    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Spectra (b, S, TRAITS) and levels (b, S, 2) of all blocks."""
        spectra, levels = (
            np.zeros((0, self.talkers, n), t) for n, t in ((TRAITS, np.float16), (2, np.float32))
        )
        return np.concatenate([spectra, *self.spectra]), np.concatenate([levels, *self.levels])

    def routes(self, *, merge: bool = True) -> np.ndarray:
        """What every talker takes of every track, block by block: (b, S talkers, S tracks) of 0 and 1.

        `merge`: where one talker is heard, the first takes all tracks and the others none.
        """
        spectra, levels = self.blocks()
        each = np.eye(self.talkers, dtype=np.float32)
        power, share = levels[..., 0], levels[..., 1]
        sounding = power.max(-1, initial=0.0) > 1e-9
        if self.talkers < 2 or sounding.sum() < 3:
            return np.tile(each, (len(spectra), 1, 1))
        loud = power > RANGE * np.quantile(power.max(-1)[sounding], 0.95)
        casting = Casting(spectra.astype(np.float32), np.where(loud & (share > ACTIVE), share, 0.0))
        order = casting.best()
        if order is None:
            order = np.zeros(len(spectra), int)
        if merge and not casting.several(order):
            return np.tile(each[:, :1].repeat(self.talkers, 1), (len(spectra), 1, 1))
        return each[casting.held(order)]


class Casting:
    """Talkers for blocks: spectra (b, S, TRAITS) and how much of each counts (b, S), none for silent ones."""

    def __init__(self, spectra: np.ndarray, share: np.ndarray) -> None:
        self.x, self.share = spectra, share
        self.talkers = share.shape[1]
        self.orders = list(permutations(range(self.talkers)))
        """Which track each talker is on."""
        crowd = (share > 0).sum(1) > 1
        self.weight = (share * np.where(crowd, BOTH, 1.0)[:, None]).astype(np.float32)
        self.together = crowd.sum() / max(1, (share > 0).any(1).sum())
        quiet = np.logical_not((share > 0).any(1))
        self.pause = quiet | np.concatenate([[True], quiet[:-1]])
        self.cost = np.where(self.pause, MOVE_IN_PAUSE, MOVE)
        self.inverse = np.linalg.inv(self.within()).astype(np.float32)

    def within(self) -> np.ndarray:
        """How spectra change inside a track from one block to the next, (TRAITS, TRAITS)."""
        goes_on = (self.share[1:] > 0.5) & (self.share[:-1] > 0.5)
        steps = (self.x[1:] - self.x[:-1])[goes_on]
        band = np.arange(BANDS)
        level = np.eye(BANDS) - 1 / BANDS  # it is taken off the spectra
        begin = np.eye(TRAITS)
        begin[:BANDS, :BANDS] = level @ (SPREAD * np.exp(-np.abs(band[:, None] - band) / SMOOTH)) @ level
        spread = (steps.T @ steps / 2 + SHRINK * begin) / (len(steps) + SHRINK)
        return spread + FLOOR * np.eye(TRAITS)

    def best(self) -> np.ndarray | None:
        """The number of the order of each block; None if there are no two voices to tell apart."""
        begins = [np.zeros(len(self.x), int)]
        if self.talkers == 2:
            begins.append(self.apart())
        ends = [end for begin in begins if (end := self.settled(begin)) is not None]
        return max(ends, key=lambda end: end[0])[1] if ends else None

    def apart(self) -> np.ndarray:
        """A first order of two tracks: stretches between pauses by how they differ most."""
        center = (self.x * self.weight[..., None]).sum((0, 1)) / max(self.weight.sum(), 1e-9)
        away = (self.x - center) * self.weight[..., None]
        away = (away[:, 0] - away[:, 1]) @ np.linalg.cholesky(self.inverse)
        stretch = np.cumsum(self.pause)
        sums = np.zeros((stretch[-1] + 1, TRAITS))
        np.add.at(sums, stretch, away)
        size = np.bincount(stretch, self.weight.sum(1), len(sums))
        sums /= np.sqrt(np.maximum(size, 1.0))[:, None]
        direction = np.linalg.eigh(sums.T @ sums)[1][:, -1]
        return (sums @ direction < 0).astype(int)[stretch]

    def settled(self, order: np.ndarray) -> tuple[float, np.ndarray] | None:
        """Means and orders in turn, from an order on until it stays: its score, the order."""
        score = 0.0
        for _ in range(ROUNDS):
            means = self.means(order)
            if means is None:
                return None
            fits = self.fits(means)
            score, found = self.path(fits)
            if np.array_equal(found, order):
                break
            order = found
        return score, order

    def held(self, order: np.ndarray) -> np.ndarray:
        """The track that each talker holds, (b, S)."""
        return np.array(self.orders)[order]

    def means(self, order: np.ndarray) -> np.ndarray | None:
        """Mean spectrum of each talker (S, TRAITS), if all are heard at all."""
        held = self.held(order)
        x = np.take_along_axis(self.x, held[..., None], 1)
        weight = np.take_along_axis(self.weight, held, 1)
        total = weight.sum(0)
        if total.min() < 2:
            return None
        return np.einsum("bs,bsd->sd", weight, x) / total[:, None]

    def fits(self, means: np.ndarray) -> np.ndarray:
        """Log likelihoods of tracks under talkers, (b, S tracks, S talkers)."""
        root = np.linalg.cholesky(self.inverse)
        x, m = self.x @ root, means @ root
        away = np.square(x).sum(-1)[..., None] - 2 * x @ m.T + np.square(m).sum(-1)
        return -0.5 * TEMPER * self.weight[..., None] * away

    def path(self, fits: np.ndarray) -> tuple[float, np.ndarray]:
        """The best order of each block (Viterbi), and its score."""
        talkers = np.arange(self.talkers)
        table = np.stack([fits[:, order, talkers].sum(-1) for order in map(list, self.orders)], -1)
        back = np.zeros(table.shape, int)
        here = np.arange(table.shape[1])
        score = table[0]
        for block in range(1, len(table)):
            top = int(score.argmax())
            moved = score[top] - self.cost[block]
            back[block] = np.where(moved > score, top, here)
            score = np.maximum(score, moved) + table[block]
        order = np.zeros(len(table), int)
        order[-1] = score.argmax()
        for block in range(len(table) - 1, 0, -1):
            order[block - 1] = back[block, order[block]]
        return float(score.max()), order

    def several(self, order: np.ndarray) -> bool:
        """Whether the talkers of an order explain the recording better than one voice does."""
        total = self.weight.sum()
        means = self.means(order)
        if (self.share > 0).any(1).sum() < LEAST:
            return True
        gain = 0.0
        if means is not None:
            one = np.einsum("bs,bsd->d", self.weight, self.x) / total
            held = self.held(order)
            split = np.take_along_axis(self.fits(means), held[..., None], 1)[
                :, range(self.talkers), range(self.talkers)
            ]
            gain = float(split.sum() - self.fits(one[None]).sum())
        return 4 * self.together + (gain - SHORT) / total > SEVERAL


def routed(pieces: Iterable[np.ndarray], routes: np.ndarray, block: float, rate: int) -> Iterator[np.ndarray]:
    """Tracks (S, n), piece by piece, to their talkers: `routes` hold for `block` samples each, faded."""
    start = 0
    fade = max(1.0, FADE_S * rate)
    for piece in pieces:
        count = piece.shape[1]
        if not len(routes) or not count:
            yield piece
            continue
        place = np.arange(start, start + count)
        start += count
        edge = np.clip(np.round(place / block).astype(int), 0, len(routes))
        before, after = np.clip(edge - 1, 0, len(routes) - 1), np.clip(edge, 0, len(routes) - 1)
        changes = (routes[before] != routes[after]).any((1, 2))
        share = np.where(changes, np.clip((place - edge * block) / fade + 0.5, 0.0, 1.0), 1.0)[:, None, None]
        mixed = routes[before] * (1 - share) + routes[after] * share
        yield np.einsum("nkj,jn->kn", mixed, piece).astype(np.float32)
