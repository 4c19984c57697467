"""Speed of reading: lines beside kraken's default recogniser, the beams beside flashlight's, a page, a pen.

`recurra bench ocr`. kraken 7.1.1 and flashlight-text run in processes of their own where RECURRA_KRAKEN and
RECURRA_FLASHLIGHT name a Python that has them (see `peers`); else the VGSL network of the same spec in plain
torch, line by line at its own height, and our plain beam stand in, and the row says so.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from core.bench.runner import Case
from core.ctc.char_lm import train_char_lm
from core.ctc.compiled_beam import fast_beam, label_model
from core.ctc.greedy import greedy
from core.ctc.prefix_beam import prefix_beam
from core.errors import WorkError
from vision.ocr.line import LineSettings, prepare
from vision.ocr.models.vgsl import VGSL
from vision.ocr.page import find_page
from vision.ocr.peers import SPEC, flashlight, kraken, labels_of, named
from vision.ocr.reader import load_reader
from vision.ocr.synth.writing import letter, lines

KRAKEN, FLASHLIGHT = "RECURRA_KRAKEN", "RECURRA_FLASHLIGHT"
LINES, V, T = 4, 96, 205
Calls = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Network, beams, page."""
    kraken = f"kraken ({os.environ[KRAKEN]})" if os.environ.get(KRAKEN) else "kraken's network, plain torch"
    other = "flashlight-text" if os.environ.get(FLASHLIGHT) else "the plain beam"
    return [
        Case(f"{LINES} lines", "float32, one thread", read, kraken, target=0.2, repeats=7),
        Case("a line, beam 50", f"T {T}, V {V}", beam, other, target=0.25, repeats=7),
        Case("a line, beam 25, 6-gram", f"T {T}, V {V}", beam_lm, limit_us=10_000, repeats=7),
        Case("lines of a page", "1,000 columns wide", page, limit_us=3_600_000, repeats=3),
        Case("a point of a pen", "bundled weights", point, limit_us=1000, repeats=7),
    ]


def read() -> Calls:
    """Grey lines to their best labels, ours with the bundled weights."""
    greys = [grey for grey, _ in lines(LINES, 3)]
    reader = load_reader(task="lines", lm=False)

    def ours() -> None:
        for grey in greys:
            greedy(reader.log_probabilities([grey])[0])

    python = named(KRAKEN)
    if python is not None:
        return ours, kraken(python, greys)
    network = VGSL(SPEC).eval()

    def theirs() -> None:
        for grey in greys:
            ink = torch.from_numpy(prepare(grey, LineSettings(height=120)))[None, None].float() / 255
            with torch.no_grad():
                network(ink)

    return ours, theirs


def frames() -> np.ndarray:
    """Log-probabilities (T, V) like those of a trained network: clear best labels, blanks, some doubt."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.0, (T, V))
    said = np.where(rng.random(T) < 0.6, 0, rng.integers(1, V, T))
    logits[np.arange(T), said] += rng.uniform(7, 16, T)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def beam() -> Calls:
    y = frames()
    python = named(FLASHLIGHT)
    if python is None:
        return lambda: fast_beam(y, 50), lambda: prefix_beam(y, 50)
    peer = flashlight(python, y)
    peer()
    theirs, ours = labels_of(peer), fast_beam(y, 50)[0].labels
    if theirs != ours:
        raise WorkError(f"flashlight reads {len(theirs)} labels otherwise than our beam, {len(ours)}.")
    return lambda: fast_beam(y, 50), peer


def beam_lm() -> Calls:
    y = frames()
    symbols = tuple(chr(32 + i) for i in range(V - 1))
    texts = [text for _, text in lines(60, 5)]
    model = label_model(train_char_lm(texts, 6), symbols)
    options: dict[str, Any] = {"alpha": 0.7, "beta": 1.6, "top": 12, "floor": 10.0, "skip": np.log(0.9999)}
    return lambda: fast_beam(y, 25, lm=model, **options), None


def point() -> Calls:
    import itertools

    from vision.ocr.pen.stream import PenStream
    from vision.ocr.pen.synth import inks

    stream = PenStream(height=1.0)
    points = itertools.cycle(inks(1, 0)[0].points)
    return lambda: stream.feed([next(points)]), None


def page() -> Calls:
    grey, _ = letter(0, 12)
    return lambda: find_page(grey), None
