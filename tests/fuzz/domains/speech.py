"""Sound files, indexes and words of published layouts."""

import io
import random
from functools import lru_cache
from typing import Any

import numpy as np

from core import config
from speech.audio import read_sound
from speech.config import EnhanceRun
from speech.data import read_table
from tests.fuzz import mutate
from tests.fuzz.reader import Reader


@lru_cache
def sound(kind: str, subtype: str) -> bytes:
    import soundfile

    file = io.BytesIO()
    wave = np.sin(np.arange(800) / 20).astype(np.float32)
    soundfile.write(file, wave, 16_000, format=kind, subtype=subtype)
    return file.getvalue()


KINDS = (
    *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16")),
    *(("OGG", "VORBIS"), ("AU", "ULAW"), ("CAF", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16")),
)


def make_sound(chance: random.Random) -> bytes:
    return mutate.blocks(chance, sound(*chance.choice(KINDS)))


def make_index(chance: random.Random) -> bytes:
    return mutate.table(
        chance, ("noisy", "clean", "split"), [(f"{i}n.wav", f"{i}c.wav", "train") for i in range(6)]
    )


def read(path: str) -> Any:
    wave, rate = read_sound(path)
    assert wave.ndim == 2
    assert rate > 0
    return None


READERS = [
    Reader("speech-sound", make_sound, read, ".wav", 1.5),
    Reader("speech-index", make_index, lambda path: read_table(path), ".csv", 0.7),
    Reader(
        "speech-settings",
        lambda chance: mutate.words(chance, config.to_toml(config.to_dict(EnhanceRun()))),
        lambda path: config.to_dict(config.resolve(EnhanceRun(), path)),
        ".toml",
        0.8,
    ),
]
