"""Voices that nobody recorded: a harmonic source, moving formants, pauses; for work with no file.

source    pulses at a gliding pitch with a falling spectrum, and breath between
filter    three resonances that move from vowel to vowel, and bursts of hiss for consonants
rhythm    syllables of 0.1 to 0.3 s, words of 1 to 4, pauses of 0.1 to 0.5 s
"""

from dataclasses import dataclass

import numpy as np

from speech.data import RATE, Corpus, Voice, to_int16

VOWELS = np.array(
    [
        [730, 1090, 2440],
        [270, 2290, 3010],
        [300, 870, 2240],
        [530, 1840, 2480],
        [570, 840, 2410],
        [440, 1020, 2240],
    ]
)
"""First three formants of six vowels of a man (Peterson & Barney 1952), Hz."""


HISS = 0.12
"""Of consonants, about 15 dB under the vowels as people have them; louder hiss is noise to any network."""


def voice(seconds: float, rng: np.random.Generator, gender: str | None = None) -> np.ndarray:
    """One talker, float32 (N,) at 16 kHz, about -26 dB RMS."""
    samples = int(seconds * RATE)
    gender = gender or ("f" if rng.random() < 0.5 else "m")
    pitch = rng.uniform(160, 260) if gender == "f" else rng.uniform(85, 150)
    tract = rng.uniform(1.1, 1.25) if gender == "f" else rng.uniform(0.93, 1.05)
    out = np.zeros(samples + RATE, dtype=np.float64)
    place = int(rng.uniform(0, 0.2) * RATE)
    formants = VOWELS[rng.integers(len(VOWELS))] * tract
    while place < samples:
        for _ in range(int(rng.integers(1, 5))):
            length = int(rng.uniform(0.1, 0.3) * RATE)
            following = VOWELS[rng.integers(len(VOWELS))] * tract
            piece = syllable(length, pitch * rng.uniform(0.85, 1.2), formants, following, rng)
            formants = following
            end = min(place + length, len(out))
            out[place:end] += piece[: end - place]
            place += int(length * 0.9)
            if place >= samples:
                break
        place += int(rng.uniform(0.05, 0.4) * RATE)
    out = out[:samples]
    out *= 10 ** (-26 / 20) / (np.sqrt(np.mean(out**2)) + 1e-9)
    return np.clip(out + 1e-4 * rng.standard_normal(samples), -0.99, 0.99).astype(np.float32)


def syllable(
    length: int, pitch: float, start: np.ndarray, end: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A vowel that glides between two sets of formants, with a hiss before it at times. (length,)"""
    time = np.arange(length) / RATE
    glide = np.linspace(0, 1, length)
    f0 = pitch * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(1, 4) * time + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    wave = np.zeros(length)
    for harmonic in range(1, int(min(40, 7000 / pitch)) + 1):
        frequency = harmonic * f0
        gain = np.zeros(length)
        for i, (low, high) in enumerate(zip(start, end, strict=True)):
            centre = low + (high - low) * glide
            width = 70 + 40 * i
            gain += 10 ** (-i * 0.25) / (1 + ((frequency - centre) / width) ** 2)
        wave += gain * np.sin(harmonic * phase + rng.uniform(0, 6)) / harmonic**0.3
    wave += 0.02 * rng.standard_normal(length)
    ramp = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / (0.02 * RATE))
    wave *= ramp
    if rng.random() < 0.5:
        hiss = int(min(length, rng.uniform(0.03, 0.1) * RATE))
        noise = np.diff(rng.standard_normal(hiss + 1))
        wave[:hiss] += HISS * noise * np.hanning(hiss)
    return wave


def generated_corpus(seed: int = 0, talkers: int = 24, seconds: float = 12.0) -> Corpus:
    """Synthetic talkers; noises come from `speech.dynamic`, which makes them on the device."""
    voices = []
    for number in range(talkers):
        rng = np.random.default_rng((seed, number))
        gender = "fm"[number % 2]
        voices.append(Voice(f"synthetic{number:02d}", to_int16(voice(seconds, rng, gender)), gender))
    return Corpus("generated", speech=voices)


@dataclass(frozen=True)
class NoisyExample:
    """A generated clip at 16 kHz: what is heard and what was said."""

    noisy: np.ndarray
    clean: np.ndarray
    kind: str
    snr_db: float


@dataclass(frozen=True)
class MixtureExample:
    """Two generated talkers at 16 kHz."""

    mixture: np.ndarray
    sources: tuple[np.ndarray, np.ndarray]


def noisy_example(seed: int, seconds: float = 3.0) -> NoisyExample:
    """A generated voice in a generated noise, 0 to 10 dB above it."""
    import torch

    from speech.noises import KINDS

    rng = np.random.default_rng((seed, 77))
    clean = voice(seconds, rng)
    kind = KINDS[seed % len(KINDS)]
    noise = kind(1, len(clean), torch.Generator().manual_seed(seed))[0].numpy()
    snr = float(rng.uniform(0, 10))
    size = np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    noisy = clean + size * noise
    gain = min(1.0, 0.95 / float(np.abs(noisy).max()))
    return NoisyExample(
        (noisy * gain).astype(np.float32), (clean * gain).astype(np.float32), kind.__name__, snr
    )


def mixture_example(seed: int, seconds: float = 4.0) -> MixtureExample:
    """A generated woman and a generated man who talk at once."""
    rng = np.random.default_rng((seed, 78))
    first, second = voice(seconds, rng, "f"), voice(seconds, rng, "m")
    gain = min(1.0, 0.95 / float(np.abs(first + second).max()))
    return MixtureExample((first + second) * gain, (first * gain, second * gain))
