"""Mixtures made anew for every step, on the device that trains: no two are the same, no loader waits.

A bank holds all recordings as 16-bit samples on the device; a batch is a number that seeds the device's own
generator, so an epoch is a function of (seed, epoch, batch) as everywhere, and resumes exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Generator, Tensor

from core.errors import ConfigError
from speech import noises
from speech.data import RATE, Corpus, Voice
from speech.noises import shaped, uniform, unit

WAVE_SPEEDS = 13
"""Speeds that the mixer of waves reads voices at, evenly spread."""


def fast_length(samples: int) -> int:
    """The next even length whose transform is fast."""
    length = next_fast_len(-(-samples // 2))
    assert length is not None
    return 2 * length


class Bank:
    """Recordings end to end on a device; a row of a batch reads a piece of one, round and round."""

    def __init__(self, voices: Sequence[Voice], weights: Sequence[float], device: torch.device) -> None:
        lengths = [len(voice.samples) for voice in voices]
        starts = np.cumsum([0, *lengths[:-1]])
        self.samples = torch.from_numpy(np.concatenate([voice.samples for voice in voices])).to(device)
        self.starts = torch.as_tensor(starts, device=device)
        self.lengths = torch.as_tensor(lengths, device=device)
        self.weights = torch.as_tensor(weights, dtype=torch.float32, device=device)
        self.women = torch.tensor([voice.gender == "f" for voice in voices], device=device)

    def __len__(self) -> int:
        return len(self.lengths)

    def choose(self, count: int, generator: Generator) -> Tensor:
        """Numbers of recordings, by weight. (count,)"""
        return torch.multinomial(self.weights, count, replacement=True, generator=generator)

    def cut(self, rows: Tensor, samples: int, generator: Generator) -> Tensor:
        """A piece of each recording, float (..., samples)."""
        return self.read(rows, self.starting(rows, generator), samples)

    def starting(self, rows: Tensor, generator: Generator) -> Tensor:
        """A place in each recording."""
        drawn = torch.rand(rows.shape, generator=generator, device=rows.device)
        return (drawn * self.lengths[rows]).long()

    def read(self, rows: Tensor, start: Tensor, samples: int) -> Tensor:
        """What follows places in recordings, float (..., samples)."""
        place = (start[..., None] + torch.arange(samples, device=rows.device)) % self.lengths[rows][..., None]
        return self.samples[self.starts[rows][..., None] + place].float() / 32768

    def loud_cut(self, rows: Tensor, samples: int, generator: Generator, tries: int = 3) -> Tensor:
        """The loudest of a few pieces, so that rare calls are not silence scaled up. (n, samples)"""
        pieces = self.cut(rows[:, None].expand(-1, tries), samples, generator)
        best = pieces.square().mean(-1).argmax(-1)
        return pieces[torch.arange(len(rows), device=rows.device), best]


@dataclass(frozen=True)
class MixConfig:
    """Chances and ranges of what a training mixture is made of."""

    seconds: float = 3.0
    snr_db: tuple[float, float] = (-5.0, 20.0)
    babble: float = 0.14
    """Share of mixtures whose noise is 3 to 8 other talkers, the wanted one 0 to 15 dB above them."""
    real: float = 0.55
    """Share with recorded noise, where there is any; the rest is generated."""
    second: float = 0.2
    """Chance of a second noise."""
    clean: float = 0.08
    """Share that is nearly or wholly clean, so that clean speech is left alone."""
    equalise: float = 0.35
    """Chance of a random frequency response, +-6 dB, for each of speech and noise."""
    reverb: float = 0.1
    """Chance of a room around the speech, which stays in the target."""
    speed: float = 0.07
    """Voices are read this much faster or slower at most."""
    speeds: int = 5
    """Of the mixer of spectra, which transforms every voice at so many speeds, as evenly spread."""
    formants: float = 0.0
    """The mixer of spectra moves resonances by this much at most, as another throat would."""
    gap_db: float = 5.0
    """Of two talkers, either may be this much louder."""
    same_sex: float = 0.55
    women: float = 1.0
    """The mixer of spectra takes women as first talkers so many times as often as men."""
    turns: float = 0.0
    """Share of two-talker mixtures, of spectra, in which the two take turns: one alone, both, nobody."""
    alone: float = 0.08
    """Share of two-talker mixtures with one talker only; the other source is silence."""
    level_db: tuple[float, float] = (-45.0, -14.0)

    def __post_init__(self) -> None:
        for name in ("babble", "real", "second", "clean", "equalise", "reverb", "same_sex", "alone", "turns"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"mix.{name} is a share in 0..1, got {getattr(self, name)}.")
        if self.seconds < 0.5:
            raise ConfigError(f"mix.seconds must be at least 0.5, got {self.seconds}.")
        if self.speeds < 1 or not 0 <= self.formants < 0.5:
            raise ConfigError("mix.speeds is at least 1 and mix.formants lies in 0..0.5.")
        if not 0 <= self.speed < 0.5 or self.gap_db < 0 or self.women <= 0:
            raise ConfigError("mix.speed lies in 0..0.5, mix.gap_db is not negative, mix.women is above 0.")


class Mixer:
    """Draws batches of mixtures from corpora."""

    def __init__(self, corpora: Sequence[Corpus], config: MixConfig, device: torch.device) -> None:
        voices, weights = weighed(corpora)
        if len(voices) < 2:
            raise ConfigError("mixing needs speech of at least two talkers.")
        self.config, self.device = config, device
        self.samples = int(config.seconds * RATE)
        self.speech = Bank(voices, weights, device)
        recorded = [voice for corpus in corpora for voice in corpus.noise]
        lengths = [min(60.0, len(voice.samples) / RATE) ** 0.5 for voice in recorded]
        self.noise = Bank(recorded, lengths, device) if recorded else None

    def generator(self, seed: int) -> Generator:
        return Generator(self.device).manual_seed(seed)

    def length(self, seed: int) -> int:
        """Samples that are read in the time of a cut, at one of a few speeds: each asks for a plan of its
        transform, which a GPU makes far more slowly than it follows it."""
        drawn = int(torch.randint(WAVE_SPEEDS, (), generator=Generator().manual_seed(seed % 2**31)))
        factor = 1 + self.config.speed * (2 * drawn / (WAVE_SPEEDS - 1) - 1)
        return self.samples if factor == 1 else fast_length(int(self.samples * factor))

    def talkers(self, rows: Tensor, generator: Generator, loud: bool = True) -> Tensor:
        """Pieces of voices, each group of rows read at a speed of its own. (n, samples)"""
        pieces = []
        for part in rows.split(-(-len(rows) // 4)):
            length = self.length(generator.initial_seed() + len(pieces))
            cut = (
                self.speech.loud_cut(part, length, generator, 2)
                if loud
                else self.speech.cut(part, length, generator)
            )
            pieces.append(stretched(cut, self.samples))
        return torch.cat(pieces)

    def enhancement(self, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Noisy and clean waves, (batch, samples) each."""
        config, generator = self.config, self.generator(seed)
        rows = self.speech.choose(batch, generator)
        clean = self.equalised(self.talkers(rows, generator), generator)
        clean = unit(self.in_room(clean, generator))
        babble = round(batch * config.babble)
        real = round((batch - babble) * (config.real if self.noise is not None else 0))
        made = batch - babble - real
        parts = [self.babble(rows[:babble], generator)] if babble else []
        if real:
            assert self.noise is not None
            parts.append(self.noise.loud_cut(self.noise.choose(real, generator), self.samples, generator))
        if made:
            parts.append(self.generated(made, generator))
        noise = unit(self.equalised(torch.cat(parts), generator))
        again = torch.rand(batch, 1, generator=generator, device=self.device) < config.second
        other = noise[torch.randperm(batch, generator=generator, device=self.device)]
        noise = noise + again * uniform(0.1, 1, (batch, 1), generator) * other
        low, high = config.snr_db
        snr = uniform(low, high, (batch, 1), generator)
        snr[:babble] = uniform(0, 15, (babble, 1), generator)
        share = torch.rand(batch, 1, generator=generator, device=self.device) / max(config.clean, 1e-6)
        snr = torch.where(share < 1, 25 + 50 * share, snr)  # 25 to 75 dB: nearly clean to clean
        noisy = clean + unit(noise) * 10 ** (-snr / 20)
        return self.levelled(noisy, clean, generator)

    def wanted(self, seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy waves (batch, samples), the wanted voice in them, and another clip of it, twice as long.

        Half of the noise is one other talker, -5 to 10 dB below; the rest is that of `enhancement`, with
        twice its share of babble. Some clips come through another microphone, all at another level.
        """
        config, generator = self.config, self.generator(seed)
        rows = self.speech.choose(batch, generator)
        pieces, clips = self.voice_and_clip(rows, generator)
        clean = unit(self.in_room(self.equalised(pieces, generator), generator))
        clips = unit(self.in_room(self.equalised(clips, generator), generator))
        alone = round(batch * config.clean)
        other = round(0.5 * (batch - alone))
        babble = min(batch - alone - other, round(2 * config.babble * batch))
        rest = batch - alone - other - babble
        talkers = self.talkers(self.others(rows[:other], generator), generator)
        noise = [talkers, self.babble(rows[other : other + babble], generator)]
        if rest:
            real = round(rest * (config.real if self.noise is not None else 0))
            if real and self.noise is not None:
                chosen = self.noise.choose(real, generator)
                noise.append(self.noise.loud_cut(chosen, self.samples, generator))
            if rest > real:
                noise.append(self.generated(rest - real, generator))
        noise.append(torch.zeros(alone, self.samples, device=self.device))
        snr = uniform(-5, 10, (batch, 1), generator)
        snr[other : other + babble] = uniform(-3, 15, (babble, 1), generator)
        noisy = clean + unit(self.equalised(torch.cat(noise), generator)) * 10 ** (-snr / 20)
        order = torch.randperm(batch, generator=generator, device=self.device)
        noisy, clean = self.levelled(noisy[order], clean[order], generator)
        return noisy, clean, clips[order] * uniform(0.02, 0.3, (batch, 1), generator)

    def voice_and_clip(self, rows: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Of each voice a loud piece, and a clip twice as long from elsewhere, read at one speed."""
        pieces, clips = [], []
        for number, part in enumerate(rows.split(-(-len(rows) // 4))):
            length = self.length(generator.initial_seed() + number)
            start = self.speech.starting(part, generator)
            tries = torch.stack([self.speech.read(part, start + k * length, length) for k in (0, 1)])
            best = tries.square().mean(-1).argmax(0)
            row = torch.arange(len(part), device=rows.device)
            clip = self.speech.read(part, start + (1 + best) * length, 2 * length)
            pieces.append(stretched(tries[best, row], self.samples))
            clips.append(stretched(clip, 2 * self.samples))
        return torch.cat(pieces), torch.cat(clips)

    def separation(self, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Mixtures (batch, samples) of two talkers and their waves (batch, 2, samples)."""
        config, generator = self.config, self.generator(seed)
        first = self.speech.choose(batch, generator)
        second = self.others(first, generator)
        waves = torch.stack(
            [unit(self.equalised(self.talkers(rows, generator), generator)) for rows in (first, second)], 1
        )
        gap = uniform(-config.gap_db, config.gap_db, (batch, 1), generator)
        waves = waves * 10 ** (torch.stack([gap, -gap], 1) / 40)
        alone = torch.rand(batch, generator=generator, device=self.device) < config.alone
        waves[:, 1] *= ~alone[:, None]
        mixture, waves = self.levelled(waves.sum(1), waves, generator)
        return mixture, waves

    def others(self, first: Tensor, generator: Generator) -> Tensor:
        """For each voice another one, of the same sex as often as asked."""
        count = len(self.speech)
        same = torch.rand(len(first), 1, generator=generator, device=self.device) < self.config.same_sex
        alike = self.speech.women[first][:, None] == self.speech.women
        chance = self.speech.weights * torch.where(same, alike, torch.ones_like(alike))
        own = torch.arange(count, device=self.device) == first[:, None]
        chance = torch.where(own, 0.0, chance)
        chance = torch.where(chance.sum(-1, keepdim=True) > 0, chance, (~own).float())
        return torch.multinomial(chance, 1, generator=generator)[:, 0]

    def babble(self, wanted: Tensor, generator: Generator) -> Tensor:
        """Three to eight talkers other than the wanted one, equally loud. (n, samples)"""
        count = len(wanted)
        rows = self.speech.choose(8 * count, generator).view(count, 8)
        rows = torch.where(rows == wanted[:, None], (rows + 1) % len(self.speech), rows)
        voices = unit(self.speech.cut(rows, self.samples, generator))
        how_many = uniform(3, 9, (count, 1), generator).floor()
        here = torch.arange(8, device=self.device) < how_many
        return (voices * here[..., None]).sum(1)

    def generated(self, count: int, generator: Generator) -> Tensor:
        """As many of each kind of generated noise. (count, samples)"""
        edges = [round(count * i / len(noises.KINDS)) for i in range(len(noises.KINDS) + 1)]
        parts = [
            kind(high - low, self.samples, generator)
            for kind, low, high in zip(noises.KINDS, edges, edges[1:], strict=False)
            if high > low
        ]
        return torch.cat(parts)

    def equalised(self, waves: Tensor, generator: Generator) -> Tensor:
        """Random frequency responses for a share of the waves."""
        count = len(waves)
        curve = uniform(-6, 6, (count, 6), generator)
        chosen = torch.rand(count, 1, generator=generator, device=self.device) < self.config.equalise
        return shaped(waves, curve * chosen)

    def in_room(self, waves: Tensor, generator: Generator) -> Tensor:
        """Some of the waves with a decaying tail of 0.1 to 0.5 s behind the direct sound."""
        count = round(len(waves) * self.config.reverb)
        if not count:
            return waves
        length = RATE // 2
        lag = torch.arange(length, device=self.device)
        decay = uniform(0.1, 0.5, (count, 1), generator) * RATE / 6.9
        tail = torch.randn(count, length, generator=generator, device=self.device) * (-lag / decay).exp()
        tail = tail * (lag > uniform(20, 200, (count, 1), generator))
        tail = tail / tail.square().sum(-1, keepdim=True).sqrt() * uniform(0.1, 0.8, (count, 1), generator)
        tail[:, 0] = 1
        size = waves.shape[-1] + length
        chosen = torch.randperm(len(waves), generator=generator, device=self.device)[:count]
        spectrum = torch.fft.rfft(waves[chosen], n=size) * torch.fft.rfft(tail, n=size)
        waves = waves.clone()
        waves[chosen] = torch.fft.irfft(spectrum, n=size)[:, : waves.shape[-1]]
        return waves

    def levelled(self, mixture: Tensor, waves: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Both at one random level, and below full scale."""
        low, high = self.config.level_db
        level = 10 ** (uniform(low, high, (len(mixture), 1), generator) / 20)
        size = mixture.square().mean(-1, keepdim=True).sqrt() + 1e-9
        peak = mixture.abs().amax(-1, keepdim=True) + 1e-9
        gain = torch.minimum(level / size, 0.98 / peak)
        return mixture * gain, waves * (gain if waves.ndim == 2 else gain[:, None])


def weighed(corpora: Sequence[Corpus]) -> tuple[list[Voice], list[float]]:
    """All voices and how often each is drawn: by the root of its length, the first corpus at least half.

    The first corpus named is the best recorded one; what follows may be coded speech, which a network should
    not mistake for the sound of speech itself.
    """
    voices: list[Voice] = []
    shares: list[np.ndarray] = []
    for corpus in corpora:
        if corpus.speech:
            voices += corpus.speech
            shares.append(np.array([len(voice.samples) ** 0.5 for voice in corpus.speech]))
    if len(shares) > 1:
        first, rest = shares[0].sum(), sum(share.sum() for share in shares[1:])
        if rest > first:
            shares = [shares[0], *(share * first / rest for share in shares[1:])]
    return voices, [float(weight) for share in shares for weight in share]


def stretched(waves: Tensor, samples: int) -> Tensor:
    """Waves (n, M) resampled to `samples` by their spectrum: the same sound at another speed and pitch."""
    length = waves.shape[-1]
    if length == samples:
        return waves
    spectrum = torch.fft.rfft(waves)
    bins = samples // 2 + 1
    if spectrum.shape[-1] < bins:
        spectrum = torch.nn.functional.pad(spectrum, (0, bins - spectrum.shape[-1]))
    return torch.fft.irfft(spectrum[:, :bins], n=samples) * (samples / length)
