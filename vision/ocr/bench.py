"""Speed of reading: the line network beside kraken's default recogniser in plain torch, the beams, a page.

`recurra bench ocr`. The published recogniser of kraken 7.1.1 stands in as the VGSL network of the same spec
with random weights, run as kraken runs it: line by line at its own height.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from core.bench.runner import Case
from core.ctc.char_lm import train_char_lm
from core.ctc.fast_beam import fast_beam, label_model
from core.ctc.prefix_beam import prefix_beam
from vision.ocr.config import ModelConfig
from vision.ocr.line import LineSettings, prepare
from vision.ocr.models.lines import LineNetwork
from vision.ocr.models.vgsl import VGSL
from vision.ocr.page import find_page
from vision.ocr.synth.writing import letter, lines

KRAKEN = (
    "[1,120,0,1 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,9,64 Do0.1,2 Mp2,2 "
    "Cr3,9,64 Do0.1,2 S1(1x0)1,3 Lbx200 Do0.1,2 Lbx200 Do0.1,2 Lbx200 Do O1c106]"
)
LINES, V, T = 4, 96, 205
Calls = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Network, beams, page."""
    return [
        Case(f"{LINES} lines, network", "float32", network, "kraken's default", target=0.2, repeats=5),
        Case("a line, beam 50", f"T {T}, V {V}", beam, "the plain beam", target=0.25, repeats=5),
        Case("a line, beam 25, 6-gram", f"T {T}, V {V}", beam_lm, limit_us=10_000, repeats=7),
        Case("lines of a page", "1,000 columns wide", page, limit_us=3_600_000, repeats=3),
        Case("a point of a pen", "2 x 160", point, limit_us=1000, repeats=7),
    ]


def network() -> Calls:
    made = [grey for grey, _ in lines(LINES, 3)]
    ours, theirs = LineNetwork(ModelConfig(shortcut=False), 106).eval(), VGSL(KRAKEN).eval()

    def tensors(height: int) -> list[torch.Tensor]:
        settings = LineSettings(height=height)
        return [torch.from_numpy(prepare(grey, settings))[None, None].float() / 255 for grey in made]

    low, high = tensors(64), tensors(120)

    def read(net: Any, inputs: list[torch.Tensor]) -> None:
        with torch.no_grad():
            for line in inputs:
                net(line)

    return lambda: read(ours, low), lambda: read(theirs, high)


def frames() -> np.ndarray:
    """Log-probabilities (T, V) like those of a trained network: clear best labels, blanks, some doubt."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.0, (T, V))
    said = np.where(rng.random(T) < 0.6, 0, rng.integers(1, V, T))
    logits[np.arange(T), said] += rng.uniform(7, 16, T)
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def beam() -> Calls:
    y = frames()
    return lambda: fast_beam(y, 50), lambda: prefix_beam(y, 50)


def beam_lm() -> Calls:
    y = frames()
    symbols = tuple(chr(32 + i) for i in range(V - 1))
    texts = [text for _, text in lines(60, 5)]
    model = label_model(train_char_lm(texts, 6), symbols)
    options: dict[str, Any] = {"alpha": 0.7, "beta": 1.6, "top": 12, "floor": 10.0, "skip": np.log(0.9999)}
    return lambda: fast_beam(y, 25, lm=model, **options), None


def point() -> Calls:
    import itertools

    from vision.ocr.codec import Codec
    from vision.ocr.pen.model import PenNetwork
    from vision.ocr.pen.stream import PenStream
    from vision.ocr.pen.synth import inks

    codec = Codec(tuple(chr(33 + i) for i in range(90)))
    stream = PenStream(height=1.0, network=PenNetwork(codec.size), codec=codec)
    points = itertools.cycle(inks(1, 0)[0].points)
    return lambda: stream.feed([next(points)]), None


def page() -> Calls:
    grey, _ = letter(0, 12)
    return lambda: find_page(grey), None
