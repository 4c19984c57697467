"""Data sets by law: mixtures of given or generated voices and noises, with an index and their recipes.

    voicebank-demand  one voice and a noise at one of a few SNRs (0, 5, 10, 15 dB)
    dns               phrases with 0.1 s between them, SNR uniform in 0..15 dB, level uniform in -35..-15 dB
    wsj0-2mix         two talkers, one 0 to 5 dB louder
    librimix          two talkers, each at a loudness uniform in -33..-25 LUFS
    wham              librimix and a noise -6 to 3 dB under the first talker
    sparse            two talkers that overlap by a given share of the time

SNRs are power ratios over the whole clip and are met to 0.01 dB; the sum is written to the sample: what the
index calls mixture is the sum of the files of its sources.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import fftconvolve

from core.errors import ConfigError, DataError, RecurraError
from core.files import whole_file, write_text
from core.tables import write_table
from core.terminal import need
from speech.audio import read_sound
from speech.data import RATE, Corpus, Voice, recordings
from speech.metrics import resampled
from speech.synth import generated_corpus

NOISY = ("voicebank-demand", "dns")
TALKERS = ("wsj0-2mix", "librimix", "wham", "sparse")
LAWS = (*NOISY, *TALKERS)


@dataclass(frozen=True)
class MixLaw:
    """What is drawn for each mixture."""

    law: str = "voicebank-demand"
    count: int = 60
    seed: int = 0
    seconds: tuple[float, float] = (2.4, 6.0)
    snr_db: tuple[float, ...] = (0.0, 5.0, 10.0, 15.0)
    """Taken in turn by voicebank-demand."""
    overlap: float = 0.5
    """Share of the time that both talk, for sparse."""
    reverb: float = 0.0
    """Chance of a room around every voice, given or generated; its sound stays in the reference."""
    mode: str = "min"
    """min: cut to the shorter of two talkers; max: the shorter one ends in silence."""

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ConfigError(f"a law is one of {', '.join(LAWS)}; got {self.law!r}.")
        if self.count < 1 or not self.snr_db:
            raise ConfigError("count must be at least 1 and snr-db hold a number.")
        if not np.isfinite(self.snr_db).all():
            raise ConfigError("snr-db are finite numbers of dB.")
        low, high = self.seconds
        if not 0.1 <= low <= high:
            raise ConfigError(f"seconds are a range from 0.1 up, got {low} and {high}.")
        if not 0 <= self.overlap <= 1 or not 0 <= self.reverb <= 1:
            raise ConfigError("overlap and reverb lie in 0..1.")
        if self.mode not in ("min", "max"):
            raise ConfigError(f"mode is min or max, got {self.mode!r}.")


@dataclass(frozen=True)
class Mixture:
    """One mixture, its sources at their levels, and how it was made."""

    mixture: np.ndarray
    sources: list[np.ndarray]
    recipe: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Room:
    """An impulse response at 16 kHz whose direct sound is 1 and comes at once."""

    name: str
    response: np.ndarray


def mixtures(law: MixLaw, corpora: Sequence[Corpus], rooms: Sequence[Room] = ()) -> list[Mixture]:
    """All mixtures of a law; the same for the same seed. `rooms`: given responses in place of generated ones.

    Raises:
        ConfigError: too few voices, or no noise where one is needed.
    """
    voices = [voice for corpus in corpora for voice in corpus.speech]
    noises = [voice for corpus in corpora for voice in corpus.noise]
    if not voices:
        voices = generated_corpus(law.seed, talkers=8, seconds=8.0).speech
    if len(voices) < 2 and law.law in TALKERS:
        raise ConfigError(f"{law.law} needs two talkers or more, got {len(voices)}.")
    return [one(law, voices, noises, number, rooms) for number in range(law.count)]


def one(
    law: MixLaw, voices: Sequence[Voice], noises: Sequence[Voice], number: int, rooms: Sequence[Room] = ()
) -> Mixture:
    """Mixture `number`, a function of the seed and its number."""
    rng = np.random.default_rng((law.seed, number))
    samples = int(rng.uniform(*law.seconds) * RATE)
    if law.law in NOISY:
        voice = voices[int(rng.integers(len(voices)))]
        clean, where = room(cut(voice.samples, samples, rng), law, rng, rooms)
        level = -27.0 if law.law == "voicebank-demand" else float(rng.uniform(-35, -15))
        clean = at_level(clean, level)
        snr = law.snr_db[number % len(law.snr_db)] if law.law == "voicebank-demand" else rng.uniform(0, 15)
        noise, kind = noise_of(noises, samples, rng)
        noise = noise * rms(clean) / rms(noise) * 10 ** (-snr / 20)
        clean, noise = fitted(clean, noise)
        about = {"snr_db": round(float(snr), 3), "speaker": voice.name, "kind": kind, "room": where}
        return Mixture(clean + noise, [clean], {**about, "realised_snr_db": ratio_db(clean, noise)})
    first, second = rng.choice(len(voices), 2, replace=False)
    pair = [voices[int(first)], voices[int(second)]]
    lengths = [samples, int(rng.uniform(*law.seconds) * RATE)]
    heard = [room(cut(v.samples, n, rng), law, rng, rooms) for v, n in zip(pair, lengths, strict=True)]
    waves = [wave for wave, _ in heard]
    about = {
        "speakers": [v.name for v in pair],
        "genders": "".join(v.gender or "?" for v in pair),
        "rooms": [where for _, where in heard],
    }
    waves = placed(law, waves)
    if law.law in ("wsj0-2mix", "sparse"):
        gap = float(rng.uniform(0, 5)) * (1 if rng.random() < 0.5 else -1)
        waves = [at_level(w, -27 + sign * gap / 2) for w, sign in zip(waves, (1, -1), strict=True)]
        about["gap_db"] = round(gap, 3)
    else:
        wanted = [float(rng.uniform(-33, -25)) for _ in waves]
        waves = [at_loudness(w, lufs) for w, lufs in zip(waves, wanted, strict=True)]
        about["lufs"] = [round(lufs, 3) for lufs in wanted]
    noise = np.zeros(len(waves[0]))
    if law.law == "wham":
        snr = float(rng.uniform(-6, 3))
        noise, about["kind"] = noise_of(noises, len(noise), rng)
        noise = noise * rms(waves[0]) / rms(noise) * 10 ** (-snr / 20)
        about["snr_db"] = round(snr, 3)
    *waves, noise = fitted(*waves, noise)
    if law.law == "wham":
        about["realised_snr_db"] = ratio_db(waves[0], noise)
    return Mixture(sum(waves) + noise, list(waves), about)


def placed(law: MixLaw, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Two waves on one time axis."""
    a, b = waves
    if law.law == "sparse":
        start = len(a) - int(law.overlap * min(len(a), len(b)))
        total = max(len(a), start + len(b))
        return [np.pad(a, (0, total - len(a))), np.pad(b, (start, total - start - len(b)))]
    if law.mode == "min":
        shorter = min(len(a), len(b))
        return [a[:shorter], b[:shorter]]
    longer = max(len(a), len(b))
    return [np.pad(wave, (0, longer - len(wave))) for wave in (a, b)]


def noise_of(noises: Sequence[Voice], samples: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A piece of a recorded noise, the loudest of a few, or a generated one; and its kind."""
    if noises:
        found = noises[int(rng.integers(len(noises)))]
        pieces = [cut(found.samples, samples, rng) for _ in range(6)]
        return max(pieces, key=rms), found.kind or found.name
    import torch

    from speech.noises import KINDS

    kind = KINDS[int(rng.integers(len(KINDS)))]
    made = kind(1, samples, torch.Generator().manual_seed(int(rng.integers(2**31))))
    return made[0].double().numpy(), kind.__name__


def cut(wave: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """A piece of int16 samples as float64, repeated where it is too short."""
    if len(wave) < samples:
        wave = np.tile(wave, -(-samples // len(wave)))
    start = int(rng.integers(0, len(wave) - samples + 1))
    return wave[start : start + samples].astype(np.float64) / 32768


def read_rooms(places: Sequence[str | Path]) -> list[Room]:
    """Room responses from files and folders: their first channel, from the direct sound on, which becomes 1.

    Raises:
        DataError: a file that is no sound, or holds silence.
    """
    paths = [
        path for place in map(Path, places) for path in (recordings(place) if place.is_dir() else [place])
    ]
    rooms = []
    for path in paths:
        samples, rate = read_sound(path)
        wave = resampled(samples[:, 0].astype(np.float64), rate, RATE)
        direct = int(np.abs(wave).argmax())
        if not wave[direct]:
            raise DataError(f"{path}: a room response cannot be silence.")
        rooms.append(Room(path.name, wave[direct:] / wave[direct]))
    return rooms


def room(
    wave: np.ndarray, law: MixLaw, rng: np.random.Generator, rooms: Sequence[Room]
) -> tuple[np.ndarray, str]:
    """Sometimes in a room: a given one, or a decaying tail behind the direct sound; and which one."""
    if rng.random() >= law.reverb:
        return wave, ""
    if rooms:
        chosen = rooms[int(rng.integers(len(rooms)))]
        return fftconvolve(wave, chosen.response)[: len(wave)], chosen.name
    lag = np.arange(RATE // 2)
    tail = rng.standard_normal(len(lag)) * np.exp(-lag / (rng.uniform(0.1, 0.5) * RATE / 6.9))
    tail[: int(rng.uniform(20, 200))] = 0
    tail *= rng.uniform(0.1, 0.8) / np.sqrt(np.square(tail).sum())
    tail[0] = 1
    return fftconvolve(wave, tail)[: len(wave)], "generated"


def rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave)) + 1e-20))


def at_level(wave: np.ndarray, level_db: float) -> np.ndarray:
    """At an RMS level over the whole clip."""
    return wave * 10 ** (level_db / 20) / rms(wave)


def at_loudness(wave: np.ndarray, lufs: float) -> np.ndarray:
    """At an integrated loudness (ITU-R BS.1770); a clip below 0.4 s, which has none, by its power."""
    need("speech", "pyloudnorm")
    import pyloudnorm

    try:
        loudness = float(pyloudnorm.Meter(RATE).integrated_loudness(wave))
    except ValueError:
        loudness = 20 * np.log10(rms(wave)) - 0.69
    if not np.isfinite(loudness):
        return at_level(wave, lufs)
    wave = wave * 10 ** ((lufs - loudness) / 20)
    peak = float(np.abs(wave).max())
    return wave * 0.9 / peak if peak >= 1 else wave


def fitted(*waves: np.ndarray) -> list[np.ndarray]:
    """One factor for all, so that neither they nor their sum pass 0.9; then rounded to 16 bits each."""
    peak = max(float(np.abs(wave).max()) for wave in (*waves, sum(waves)))
    factor = 1.0 if peak <= 0.9 else 0.9 / peak
    return [np.round(wave * factor * 32768) / 32768 for wave in waves]


def ratio_db(signal: np.ndarray, noise: np.ndarray) -> float:
    """Realised power ratio."""
    return round(20 * float(np.log10(rms(signal) / rms(noise))), 4)


def write_set(found: Sequence[Mixture], law: MixLaw, out: str | Path) -> Path:
    """Write FLAC files, `index.csv` and `recipes.jsonl` into a new folder; gives the index.

    Raises:
        ConfigError: the folder holds an index already. RecurraError: it cannot be written.
    """
    import soundfile

    out = Path(out)
    index = out / "index.csv"
    if index.exists():
        raise ConfigError(f"{index}: there already; choose another folder.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecurraError(f"{out}: cannot be made ({error.strerror}).") from error
    names = ["noisy", "clean"] if law.law in NOISY else ["mix", "s1", "s2"]
    rows, recipes = [], []
    width = len(str(len(found) - 1))
    for number, mixture in enumerate(found):
        files = [f"{number:0{width}d}_{name}.flac" for name in names]
        for file, wave in zip(files, [mixture.mixture, *mixture.sources], strict=True):
            with whole_file(out / file) as partial:
                soundfile.write(str(partial), wave, RATE, subtype="PCM_16", format="FLAC")
        about = {key: value for key, value in mixture.recipe.items() if not isinstance(value, list)}
        rows.append({**dict(zip(names, files, strict=True)), **about, "seconds": len(mixture.mixture) / RATE})
        recipes.append(json.dumps({"files": files, "law": asdict(law), **mixture.recipe}))
    head = list(dict.fromkeys(key for row in rows for key in row))
    write_text(out / "recipes.jsonl", "\n".join(recipes) + "\n")
    write_table(index, head, [[row.get(name) for name in head] for row in rows])
    return index
