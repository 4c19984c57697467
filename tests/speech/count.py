"""One, two or three talkers: what the separator leaves of mixtures, and how often the rules are right.

    python -m tests.speech.count DATA/speech [--split valid] [--each 24] [--weights W] [--passes 1]

DATA/speech holds `speech_index.csv`. Mixtures are cuts of 2.6 s, the loudest of three of each talker, with
levels within 5 dB. The bounds `GATE_DB` and `MORE_DB` were set on the split `valid`; `--split test` tells how
they do on talkers that nothing was chosen by.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speech.counting import held_together
from speech.data import RATE, Voice, read_corpus
from speech.model import Model, load_model
from speech.predict import separation_stream
from speech.separation import speaking

SECONDS, GAP_DB, TRIES, LEVEL = 2.6, 5.0, 3, 0.05


def cut(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """The loudest of a few pieces, at a mean square of one."""
    length = int(SECONDS * RATE)
    wave = voice.samples.astype(np.float32) / 32768
    starts = rng.integers(0, max(1, len(wave) - length), TRIES)
    best = max(
        (wave[start : start + length] for start in starts), key=lambda piece: float(np.square(piece).mean())
    )
    return best / np.sqrt(np.square(best).mean() + 1e-9)


def mixture(voices: list[Voice], talkers: int, rng: np.random.Generator) -> Tensor:
    """So many different talkers at once, (1, N)."""
    chosen = rng.permutation(len(voices))[:talkers]
    gains = 10 ** (rng.uniform(-GAP_DB / 2, GAP_DB / 2, talkers) / 20)
    wave = sum(gain * cut(voices[k], rng) for gain, k in zip(gains, chosen, strict=True))
    return torch.from_numpy(np.asarray(LEVEL * wave, np.float32))[None]


def told(model: Model, mixture: Tensor, passes: int | None = None) -> int:
    """How many talkers `recurra speech separate` reports."""
    stream = separation_stream(model, RATE, passes=passes, count=True)
    parts = [stream.feed(mixture[0].numpy()), stream.flush()]
    tracks = np.concatenate(list(stream.sorted_out(parts)), 1)
    return stream.talkers_heard(speaking(tracks, RATE))


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.speech.count")
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--each", type=int, default=24)
    parser.add_argument("--weights")
    parser.add_argument("--passes", type=int, help="as of the command")
    chosen: Any = parser.parse_args(words)
    model = load_model(chosen.weights, "separate")
    voices = read_corpus(chosen.data / "speech_index.csv", chosen.split).speech
    rng = np.random.default_rng(7)
    print(f"{'talkers':<9}{'weaker track dB':>20}{'once more dB':>20}{'said 1':>8}{'said 2':>8}{'said 3':>8}")
    with torch.inference_mode():
        for talkers in (1, 2, 3):
            weaker, more, said = [], [], [0, 0, 0, 0]
            for _ in range(chosen.each):
                mixed = mixture(voices, talkers, rng)
                tracks = model.network(mixed)[0]
                power = tracks.square().mean(-1)
                weaker.append(float(10 * (power.min() / power.max() + 1e-12).log10()))
                more.append(float(held_together(model.network, tracks).max()))
                said[told(model, mixed, chosen.passes)] += 1
            spans = [f"{min(part):.1f} .. {max(part):.1f}" for part in (weaker, more)]
            print(f"{talkers:<9}{spans[0]:>20}{spans[1]:>20}{said[1]:>8}{said[2]:>8}{said[3]:>8}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
