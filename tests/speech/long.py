"""A long conversation through the separator: does a voice keep its track, is the end as good as the begin?

    python -m tests.speech.long DATA/speech [--minutes 20] [--passes 4] [--split test] [--genders fm]

DATA/speech holds `speech_index.csv`. The first and the last minute hold the same talk of a woman and a man
(or the first two of the split with other `--genders`), so that what differs is drift and not material;
between them they talk on and pause for 30 s again and again. The file goes through `recurra speech separate`
in a process of its own. Printed of the first and the last minute, in the order of tracks that fits the first
best: SI-SDR improvement, over all of it and where both talk; of turns that one has alone, how well the own
track keeps them and how far the other one lies below; the least improvement of all stretches between pauses,
and how many of them have their tracks changed; peak memory of that process.
"""

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from core.errors import DataError
from speech.audio import read_mono
from speech.metrics import si_sdr

RATE = 16000
PAUSE_S, TALK_S, END_S = 30.0, 45.0, 60.0
"""Between the ends both speak for TALK_S, then nobody does for PAUSE_S; either end lasts END_S."""
EDGE_S = 0.05
"""A turn's begin and end, where a frame holds both."""


def voices(folder: Path, split: str, genders: str) -> list[np.ndarray]:
    """All that the first talkers of a split say, one for each of `genders`."""
    rows = list(csv.DictReader((folder / "speech_index.csv").open(newline="")))
    found: dict[str, np.ndarray] = {}
    for gender in genders:
        own = [r for r in rows if (r["split"], r["gender"]) == (split, gender) and r["speaker"] not in found]
        if not own:
            raise DataError(f"{folder}: has no {split} talkers {genders}.")
        paths = [folder / row["path"] for row in own if row["speaker"] == own[0]["speaker"]]
        found[own[0]["speaker"]] = np.concatenate([read_mono(path, RATE) for path in paths])
    return list(found.values())


def talk(talkers: list[np.ndarray], seconds: float, seed: int) -> np.ndarray:
    """(2, N): turns of 1 to 4 s, half of them begun before the other has ended."""
    rng = np.random.default_rng(seed)
    tracks = np.zeros((2, int(seconds * RATE)), np.float32)
    place, who = 0, int(rng.integers(2))
    at = [int(rng.integers(len(talker))) for talker in talkers]
    while place < tracks.shape[1]:
        length = int(RATE * rng.uniform(1.0, 4.0))
        wave = np.take(talkers[who], np.arange(at[who], at[who] + length), mode="wrap")
        wave = wave * 0.05 / (np.sqrt(np.square(wave).mean()) + 1e-9)
        room = min(length, tracks.shape[1] - place)
        tracks[who, place : place + room] += wave[:room]
        at[who] += length
        place += int(length * rng.uniform(0.5, 1.1))
        who = 1 - who
    return tracks


def stretches(minutes: float) -> list[tuple[float, float, int]]:
    """Begin, length in seconds and seed of all talk between pauses; the first and the last are the same."""
    found, place, end = [(0.0, END_S, 0)], END_S, minutes * 60 - END_S
    while end - place > PAUSE_S:
        place += PAUSE_S
        spoken = min(end - place, TALK_S)
        found.append((place, spoken, len(found)))
        place += spoken
    return [*found, (end, END_S, 0)]


def figures(tracks: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Of tracks (2, N) in the order of their talkers, dB each."""
    active = np.abs(truth) > 0
    edge = int(EDGE_S * RATE)
    near = [np.convolve(row, np.ones(2 * edge + 1), "same") > 0.5 for row in active.astype(np.float32)]
    both = active[0] & active[1]
    mix = truth.sum(0)
    found: dict[str, float] = {}
    for name, where in (("improvement", np.ones_like(both)), ("both", both)):
        parts = [
            si_sdr(tracks[k, where], truth[k, where]) - si_sdr(mix[where], truth[k, where]) for k in (0, 1)
        ]
        found[name] = float(np.mean(parts))
    kept, below = [], []
    for k in (0, 1):
        alone = active[k] & ~near[1 - k]
        own, other, said = tracks[k, alone], tracks[1 - k, alone], truth[k, alone]
        kept.append(si_sdr(own, said))
        below.append(10 * np.log10((np.square(said).sum() + 1e-9) / (np.square(other).sum() + 1e-9)))
    return found | {"kept": float(np.mean(kept)), "below": float(np.mean(below))}


def separated(mixture: Path, words: list[str]) -> tuple[list[Path], float]:
    """The tracks that the command writes, and the peak memory of its process in GB."""
    tracks = mixture.with_name("tracks")
    command = [
        sys.executable,
        "-m",
        "speech",
        "separate",
        str(mixture),
        "-o",
        f"{tracks}/",
        "--quiet",
    ]
    subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return [tracks / f"mix_s{k}.wav" for k in (1, 2)], peak


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.speech.long")
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--passes", default="1")
    parser.add_argument("--split", default="test")
    parser.add_argument("--genders", default="fm")
    parser.add_argument("--weights")
    told: Any = parser.parse_args(words)
    talkers = voices(told.data, told.split, told.genders)
    plan = stretches(told.minutes)
    with tempfile.TemporaryDirectory() as folder:
        mixture = Path(folder) / "mix.wav"
        with soundfile.SoundFile(mixture, "w", RATE, 1, subtype="FLOAT") as file:
            for begin, seconds, seed in plan:
                file.write(np.zeros(int(begin * RATE) - file.tell(), np.float32))
                file.write(talk(talkers, seconds, seed).sum(0))
            minutes = file.tell() / RATE / 60
        chosen = ["--passes", told.passes, *(["--weights", told.weights] if told.weights else [])]
        paths, peak = separated(mixture, chosen)

        def heard(begin: float, seconds: float) -> np.ndarray:
            place, count = int(begin * RATE), int(seconds * RATE)
            return np.stack([soundfile.read(path, count, place, dtype="float32")[0] for path in paths])

        both = []
        for begin, seconds, seed in plan:
            tracks, truth = heard(begin, seconds), talk(talkers, seconds, seed)
            both.append([figures(tracks[order], truth) for order in ([0, 1], [1, 0])])
    better = [int(other["improvement"] > own["improvement"]) for own, other in both]
    found = [orders[better[0]] for orders in both]
    print(f"{'dB':<34}{'first minute':>14}{'last minute':>14}")
    for name, said in (
        ("improvement", "SI-SDR improvement"),
        ("both", "the same where both talk"),
        ("kept", "SI-SDR of turns alone"),
        ("below", "the other track below them"),
    ):
        print(f"{said:<34}{found[0][name]:>14.2f}{found[-1][name]:>14.2f}")
    least = min(part["improvement"] for part in found)
    changed = sum(order != better[0] for order in better)
    print(f"least improvement of {len(plan)} stretches: {least:.2f}; with tracks changed: {changed}")
    print(f"peak memory of {minutes:.0f} minutes: {peak:.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1:])
