"""Two-talker mixtures made of spectra that were computed once: a training step costs the network alone.

All voices are transformed at the start, at a few speeds, and kept in half precision: about 0.4 GB for 100
minutes at one speed. A mixture is then a sum of cuts; a random frequency response is a product.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from core.errors import ConfigError
from speech.data import RATE, Corpus
from speech.dynamic import MixConfig, fast_length, stretched, weighed
from speech.features import root_hann
from speech.noises import uniform

TRIES = 3
"""Cuts of which the loudest is taken, so that no mixture is made of a pause."""
CURVE = 8
"""Points of a random frequency response, even in log frequency."""
CEPSTRUM = 30
"""Cosines that a smooth envelope is made of: the resonances of a throat, not the harmonics of a voice."""
PIECE = 16384
"""Frames that go through a reduction at once."""


class SpectralMixer:
    """Mixtures of two talkers as spectra without their constant part.

    The bank holds every voice at every speed as a row of its own; two rows of one voice are never mixed.
    """

    def __init__(
        self, corpora: Sequence[Corpus], config: MixConfig, window: int, device: torch.device
    ) -> None:
        voices, weights = weighed(corpora)
        if len(voices) < 2:
            raise ConfigError("mixing needs speech of at least two talkers.")
        self.config, self.window, self.hop, self.device = config, window, window // 2, device
        self.frames = int(config.seconds * RATE) // self.hop + 1
        count = config.speeds if config.speed else 1
        speeds = [
            1 + config.speed * (2 * step / (count - 1) - 1) if count > 1 else 1.0 for step in range(count)
        ]
        offsets = Generator().manual_seed(count)  # frames begin elsewhere at every speed
        parts, lengths, numbers, chances = [], [], [], []
        for speed in speeds:
            for number, voice in enumerate(voices):
                wave = torch.from_numpy(voice.samples).to(device).float()[None] / 32768
                size = fast_length(max(window, len(voice.samples)))
                wave = torch.nn.functional.pad(wave, (0, size - wave.shape[1]))
                wave = stretched(wave, fast_length(max(window, int(size / speed))))[0]
                offset = int(torch.randint(self.hop, (), generator=offsets))
                wave = wave[min(offset, len(wave) - window) :]
                spectra = self.analysed(wave / (wave.square().mean().sqrt() + 1e-9))
                parts.append(spectra.half())
                lengths.append(len(spectra))
                numbers.append(number)
                chances.append(weights[number] if len(spectra) > self.frames else 0.0)
        self.spectra = torch.cat(parts)  # (frames of all, F - 1, 2)
        self.lengths = torch.tensor(lengths, device=device)
        self.starts = self.lengths.cumsum(0) - self.lengths
        self.voices = torch.tensor(numbers, device=device)
        self.chances = torch.tensor(chances, dtype=torch.float32, device=device)
        self.women = torch.tensor([voice.gender == "f" for voice in voices], device=device)[self.voices]
        self.first_chances = self.chances * (1 + (config.women - 1) * self.women)
        if len({number for number, chance in zip(numbers, chances, strict=True) if chance}) < 2:
            raise ConfigError(f"no two talkers have {config.seconds} s of speech; lower mix.seconds.")
        power = torch.cat([part.float().square().sum((1, 2)) for part in self.spectra.split(PIECE)])
        self.power = torch.nn.functional.pad(power.double().cumsum(0), (1, 0))

    def analysed(self, wave: Tensor) -> Tensor:
        """(n,) -> real and imaginary parts (T, F - 1, 2), scaled to be held in half precision."""
        pieces = wave.unfold(0, self.window, self.hop) * root_hann(self.window, like=wave)
        return 0.1 * torch.view_as_real(torch.fft.rfft(pieces)[:, 1:])

    def separation(self, seed: int, batch: int) -> tuple[Tensor, Tensor]:
        """Mixtures (B, T, F - 1, 2) of a mean power of one half, and their talkers (B, 2, T, F - 1, 2)."""
        generator = Generator(self.device).manual_seed(seed)
        first = torch.multinomial(self.first_chances, batch, replacement=True, generator=generator)
        same = torch.rand(batch, 1, generator=generator, device=self.device) < self.config.same_sex
        other = self.voices[first][:, None] != self.voices
        alike = other & (~same | (self.women[first][:, None] == self.women))
        chance = self.chances * alike
        chance = torch.where(chance.sum(1, keepdim=True) > 0, chance, self.chances * other)
        race = torch.empty_like(chance).exponential_(generator=generator)  # no word from the device needed
        second = (chance / race).argmax(1)
        talkers = torch.stack([self.cut(rows, generator) for rows in (first, second)], 1)
        heard = self.heard(batch, generator)
        talkers = talkers * heard[..., None, None]
        gap = uniform(-self.config.gap_db, self.config.gap_db, (batch, 1), generator)
        gains = 10 ** (torch.cat([gap, -gap], 1) / 40)
        gains = gains * (heard.mean(2) / (talkers.square().mean((2, 3, 4)) + 1e-9)).sqrt()
        alone = torch.rand(batch, generator=generator, device=self.device) < self.config.alone
        gains[:, 1] *= ~alone
        talkers = talkers * gains[..., None, None, None]
        mixture = talkers.sum(1)
        scale = (2 * mixture.square().mean((1, 2, 3)) + 1e-12).rsqrt()
        return mixture * scale[:, None, None, None], talkers * scale[:, None, None, None, None]

    def heard(self, batch: int, generator: Generator) -> Tensor:
        """Ones where a talker of a mixture speaks, (B, 2, T): throughout, or in turns.

        Turns are three stretches, each of both, one or nobody; both talkers have at least one of them.
        """
        place = torch.arange(self.frames, device=self.device) / self.frames
        low, high = uniform(0.15, 0.5, (batch, 1), generator), uniform(0.5, 0.85, (batch, 1), generator)
        stretch = (place > low).long() + (place > high)  # (B, T)
        drawn = torch.rand(batch, 3, generator=generator, device=self.device)
        one = torch.stack([drawn < 0.65, (drawn < 0.3) | ((drawn > 0.65) & (drawn < 0.95))], 1)  # (B, 2, 3)
        ends = torch.tensor([[True, False, False], [False, False, True]], device=self.device)
        one = one | (ends & ~one.any(2, keepdim=True))
        turns = torch.rand(batch, 1, 1, generator=generator, device=self.device) < self.config.turns
        return (one.gather(2, stretch[:, None].expand(-1, 2, -1)) | ~turns).float()

    def cut(self, rows: Tensor, generator: Generator) -> Tensor:
        """A loud piece of each row, some with a frequency response of their own. (B, T, F - 1, 2)"""
        room = (self.lengths[rows] - self.frames)[:, None]
        place = (torch.rand(len(rows), TRIES, generator=generator, device=self.device) * room).long()
        place = place + self.starts[rows][:, None]
        loudest = (self.power[place + self.frames] - self.power[place]).argmax(1, keepdim=True)
        first = place.gather(1, loudest)
        pieces = self.spectra[first + torch.arange(self.frames, device=self.device)].float()
        chosen = torch.rand(len(rows), 1, generator=generator, device=self.device) < self.config.equalise
        curve = uniform(-6, 6, (len(rows), CURVE), generator) * chosen
        bins = pieces.shape[2]
        position = torch.arange(1, bins + 1, device=self.device).log() / math.log(bins + 1) * (CURVE - 1)
        low = position.long().clamp(max=CURVE - 2)
        share = position - low
        decibel = curve[:, low] * (1 - share) + curve[:, low + 1] * share
        gain = (10 ** (decibel / 20))[:, None]
        if self.config.formants:
            gain = gain * self.moved_formants(pieces, generator)
        return pieces * gain[..., None]

    def moved_formants(self, pieces: Tensor, generator: Generator) -> Tensor:
        """What moves the smooth envelope of each row's frames up or down by a factor. (B, T, F - 1)"""
        count, bins = len(pieces), pieces.shape[2]
        factor = 1 + uniform(-self.config.formants, self.config.formants, (count, 1, 1), generator)
        place = torch.arange(bins, device=self.device) + 0.5
        order = torch.arange(CEPSTRUM, device=self.device) * math.pi / bins
        smooth = (place[:, None] * order).cos() * math.sqrt(2 / bins)
        smooth[:, 0] *= 0.5**0.5
        moved = ((place[:, None] / factor).clamp(max=bins) * order).cos() * math.sqrt(
            2 / bins
        )  # (B, F - 1, Q)
        moved[..., 0] *= 0.5**0.5
        power = pieces.square().sum(-1)
        level = power.mean((1, 2), keepdim=True)
        cepstrum = (power + 1e-5 * level + 1e-12).log() @ smooth
        change = torch.bmm(cepstrum, moved.transpose(1, 2)) - cepstrum @ smooth.T
        return (0.5 * change).clamp(-2, 2).exp()
