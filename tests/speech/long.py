"""A long conversation through the separator: does a voice keep its track, is the end as good as the begin?

    python -m tests.speech.long DATA/speech [--minutes 20] [--passes 4]

DATA/speech holds `speech_index.csv`. Two test talkers speak in turn, into each other's words, and pause for
30 s again and again. Printed: SI-SDR improvement of the first and the last minute with speech, each with the
order of tracks that fits the first best; the largest state; peak memory of the process.
"""

import csv
import resource
import sys
from pathlib import Path

import numpy as np

from core.errors import DataError
from speech.audio import read_mono
from speech.metrics import si_sdr
from speech.model import load_model
from speech.predict import separation_stream

RATE = 16000
PAUSE_S, TALK_S = 30.0, 45.0
"""Both speak for TALK_S, then nobody does for PAUSE_S."""


def voices(folder: Path) -> list[np.ndarray]:
    """All that the first woman and the first man of the test split say."""
    rows = list(csv.DictReader((folder / "speech_index.csv").open(newline="")))
    found = []
    for gender in "fm":
        own = [row for row in rows if row["split"] == "test" and row["gender"] == gender]
        if not own:
            raise DataError(f"{folder}: has no test talker {gender}.")
        parts = [read_mono(folder / row["path"], RATE) for row in own if row["speaker"] == own[0]["speaker"]]
        found.append(np.concatenate(parts))
    return found


def conversation(talkers: list[np.ndarray], minutes: float) -> np.ndarray:
    """(2, N): turns of 1 to 4 s, half of them begun before the other has ended."""
    rng = np.random.default_rng(0)
    tracks = np.zeros((2, int(minutes * 60 * RATE)), np.float32)
    place, at, who = 0, [0, 0], 0
    while place < tracks.shape[1]:
        if place / RATE % (TALK_S + PAUSE_S) > TALK_S:
            place += int(RATE * PAUSE_S)
            continue
        length = int(RATE * rng.uniform(1.0, 4.0))
        wave = np.take(talkers[who], np.arange(at[who], at[who] + length), mode="wrap")
        wave = wave * 0.05 / (np.sqrt(np.square(wave).mean()) + 1e-9)
        room = min(length, tracks.shape[1] - place)
        tracks[who, place : place + room] = wave[:room]
        at[who] += length
        place += int(length * rng.uniform(0.5, 1.1))
        who = 1 - who
    return tracks


def improvement(tracks: np.ndarray, truth: np.ndarray, order: tuple[int, int]) -> float:
    """SI-SDR improvement in dB, mean of both talkers."""
    mix = truth.sum(0)
    return float(np.mean([si_sdr(tracks[k], truth[s]) - si_sdr(mix, truth[s]) for s, k in enumerate(order)]))


def main(words: list[str]) -> None:
    minutes = float(words[words.index("--minutes") + 1]) if "--minutes" in words else 20.0
    passes = int(words[words.index("--passes") + 1]) if "--passes" in words else 1
    truth = conversation(voices(Path(words[0])), minutes)
    stream = separation_stream(load_model(None, "separate"), RATE, passes=passes)
    parts, states = [], []
    for start in range(0, truth.shape[1], 4 * RATE):
        parts.append(stream.feed(truth[:, start : start + 4 * RATE].sum(0)))
        states.append(sum(np.asarray(part).size for part in (stream.buffer, stream.mix_out)))
    tracks = np.concatenate([*parts, stream.flush()], 1)
    end = truth.shape[1]
    talking = np.flatnonzero(np.abs(truth).max(0) > 0)
    first, last = slice(0, 60 * RATE), slice(max(0, int(talking[-1]) - 60 * RATE), end)
    order = max([(0, 1), (1, 0)], key=lambda order: improvement(tracks[:, first], truth[:, first], order))
    figures = [improvement(tracks[:, part], truth[:, part], order) for part in (first, last)]
    swapped = improvement(tracks[:, last], truth[:, last], (order[1], order[0]))
    print(f"SI-SDRi of the first minute {figures[0]:.2f} dB, of the last {figures[1]:.2f} dB")
    print(f"tracks changed places: {'yes' if swapped > figures[1] else 'no'}")
    print(f"largest state {max(states)} samples, after the first minute {max(states[:16])}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1:])
