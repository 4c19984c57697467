"""Generated noises, many at once on any device: each (n, N), about unit power.

Colours, hums, chirps with harmonics as animals and doors make them, clicks, bursts. Babble needs voices and
is made by the mixer.
"""

import math

import torch
from torch import Generator, Tensor

from speech.data import RATE


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Numbers in low..high on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def shaped(noise: Tensor, curve_db: Tensor) -> Tensor:
    """Give waves (n, N) a frequency response: curve (n, points) in dB at points even in log frequency."""
    spectrum = torch.fft.rfft(noise)
    bins = spectrum.shape[-1]
    points = curve_db.shape[-1]
    frequency = torch.arange(bins, device=noise.device) * (RATE / 2 / (bins - 1))
    # 50 Hz to 8 kHz in equal steps of the logarithm
    position = ((frequency.clamp(min=50) / 50).log() / math.log(160) * (points - 1)).clamp(max=points - 1)
    low = position.floor().long().clamp(max=points - 2)
    share = position - low
    curve = curve_db[:, low] * (1 - share) + curve_db[:, low + 1] * share
    return torch.fft.irfft(spectrum * 10 ** (curve / 20), n=noise.shape[-1])


def coloured(count: int, samples: int, generator: Generator) -> Tensor:
    """White to brown with a random shape; half of them swell and fade at 0.5 to 12 Hz."""
    noise = torch.randn(count, samples, generator=generator, device=generator.device)
    slope = uniform(-1, 0, (count, 1), generator) * 44 * torch.linspace(0, 1, 9, device=noise.device)
    noise = shaped(noise, slope + uniform(-15, 15, (count, 9), generator))
    time = torch.arange(samples, device=noise.device) / RATE
    rate, phase = uniform(0.5, 12, (count, 1), generator), uniform(0, 6.3, (count, 1), generator)
    depth = uniform(0, 1, (count, 1), generator) * (uniform(0, 1, (count, 1), generator) < 0.5)
    return unit(noise) * (1 + depth * (2 * math.pi * rate * time + phase).sin()).square()


def hum(count: int, samples: int, generator: Generator) -> Tensor:
    """A machine: 40 to 400 Hz with 3 to 20 harmonics, slightly unsteady, over a little noise."""
    device = generator.device
    time = torch.arange(samples, device=device) / RATE
    pitch = 40 * 10 ** uniform(0, 1, (count, 1), generator)
    wander = 1 + 0.01 * (2 * math.pi * uniform(0.1, 3, (count, 1), generator) * time).sin()
    phase = 2 * math.pi * (pitch * wander).cumsum(-1) / RATE
    k = torch.arange(1, 21, device=device)[:, None]  # all harmonics at once: few large steps, not many small
    present = (k <= uniform(3, 20, (count, 1, 1), generator)) * (k * pitch[:, None] < 7800)
    weight = uniform(0.05, 1, (count, 20, 1), generator) / k**0.5 * present
    shift = uniform(0, 6.3, (count, 20, 1), generator)
    wave = (weight * (k * phase[:, None] + shift).sin()).sum(1)
    return unit(wave) + uniform(0.02, 0.5, (count, 1), generator) * unit(coloured(count, samples, generator))


def chirps(count: int, samples: int, generator: Generator, calls: int = 6) -> Tensor:
    """Animals, doors, toys: calls of 0.08 to 0.8 s gliding at 200 to 2500 Hz, 2 to 8 harmonics."""
    device = generator.device
    time = torch.arange(samples, device=device) / RATE
    wave = torch.zeros(count, samples, device=device)
    longest = samples / RATE
    harmonics = uniform(2, 9, (count, 1), generator)
    base = 200 * 12.5 ** uniform(0, 1, (count, 1), generator)
    how_many = uniform(1, calls + 1, (count, 1), generator).floor()
    k = torch.arange(1.0, 9.0, device=device)[:, None]
    for call in range(calls):
        length = uniform(0.08, 0.8, (count, 1), generator)
        start = uniform(0, max(longest - 0.1, 0.1), (count, 1), generator)
        at = (time - start) / length  # 0..1 inside the call
        inside = (at >= 0) & (at < 1) & (call < how_many)
        envelope = (math.pi * at.clamp(0, 1)).sin().clamp(min=0) ** uniform(
            0.3, 2, (count, 1), generator
        ) * inside
        first = base * 2 ** uniform(-0.5, 0.5, (count, 1), generator)
        bend, arch = uniform(-0.6, 0.6, (count, 1), generator), uniform(-0.5, 0.8, (count, 1), generator)
        frequency = first * 2 ** (bend * at + arch * (math.pi * at.clamp(0, 1)).sin())
        shake = 1 + 0.03 * (2 * math.pi * uniform(5, 40, (count, 1), generator) * time).sin()
        phase = 2 * math.pi * (frequency.clamp(50, 7000) * shake * inside).cumsum(-1) / RATE
        tilt = uniform(0, 1.5, (count, 1), generator)
        present = (k <= harmonics[:, None]) * (k * frequency[:, None] < 7800)
        weight = uniform(0.2, 1, (count, 8, 1), generator) * k ** -tilt[:, None] * present
        wave = wave + envelope * (weight * (k * phase[:, None]).sin()).sum(1)
    floor = uniform(0.001, 0.1, (count, 1), generator) * unit(coloured(count, samples, generator))
    return unit(wave) + floor


def clicks(count: int, samples: int, generator: Generator) -> Tensor:
    """Keys, dishes, steps: impulses that ring for 5 to 400 samples, 1 to 30 a second."""
    device = generator.device
    chance = 10 ** uniform(0, 1.5, (count, 1), generator) / RATE
    hits = torch.rand(count, samples, generator=generator, device=device) < chance
    wave = hits * torch.randn(count, samples, generator=generator, device=device)
    length = 2048
    lag = torch.arange(length, device=device)
    decay = 5 * 80 ** uniform(0, 1, (count, 1), generator)
    pitch = 300 * 20 ** uniform(0, 1, (count, 1), generator)
    ring = (2 * math.pi * pitch * lag / RATE).cos()
    mixed = uniform(0, 1, (count, 1), generator)
    hiss = torch.randn(count, length, generator=generator, device=device)
    answer = (-lag / decay).exp() * (mixed * ring + (1 - mixed) * hiss)
    size = samples + length
    rung = torch.fft.irfft(torch.fft.rfft(wave, n=size) * torch.fft.rfft(answer, n=size), n=size)[:, :samples]
    floor = uniform(0.003, 0.2, (count, 1), generator) * unit(coloured(count, samples, generator))
    return unit(rung) + floor


def unit(wave: Tensor) -> Tensor:
    """At unit power; silence stays."""
    return wave / (wave.square().mean(-1, keepdim=True) + 1e-12).sqrt()


KINDS = (coloured, hum, chirps, clicks)
