"""Readers made of other programs' models, with the same `read` as ours: kraken recognisers of any age."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import ConfigError, WeightsError
from vision.ocr.answer import Char, Line
from vision.ocr.decoding import Decoding
from vision.ocr.layouts.kraken import KrakenModel, load_kraken
from vision.ocr.layouts.kraken_line import PADDING, prepared


@dataclass(frozen=True)
class KrakenReader:
    """A kraken recogniser; lines run one by one and are read by their best labels, as kraken does."""

    model: KrakenModel
    decoding: Decoding = field(default_factory=Decoding)
    task: str = "lines"

    def read(self, greys: Sequence[np.ndarray], decoding: Decoding | None = None) -> list[Line]:
        """Text of grey lines (h, w).

        Raises:
            ConfigError: a decoding with a model or rules, which labels of several characters do not allow.
        """
        if decoding is not None and not (decoding.plain or decoding.alternatives):
            raise ConfigError("a kraken model is read by its best labels; leave rules and --lm out.")
        return [self.one(grey) for grey in greys]

    def read_each(
        self, greys: Sequence[np.ndarray], decoding: Decoding, *others: Decoding
    ) -> list[list[Line]]:
        """The same lines each time: there is one way to read them."""
        return [self.read(greys, decoding)] * (len(others) + 2)

    def one(self, grey: np.ndarray) -> Line:
        """One line; without contrast its text is empty."""
        if int(grey.max()) == int(grey.min()):
            return Line("", 0.0)
        batch, height, width, channels = self.model.network.input
        line = prepared(grey, (batch, height, width, channels), centred=self.model.centred)
        columns = self.model.logits(line).shape[1]
        rows = self.model.read(line)
        stride = line.shape[2] / columns
        scale = grey.shape[1] / max(line.shape[2] - 2 * PADDING, 1)
        chars = tuple(
            Char(
                text,
                sure,
                float(np.clip((first * stride - PADDING) * scale, 0, grey.shape[1])),
                float(np.clip(((last + 1) * stride - PADDING) * scale, 0, grey.shape[1])),
            )
            for text, first, last, sure in rows
        )
        chars = trimmed(chars)
        logs = [np.log(max(char.confidence, 1e-9)) for char in chars]
        return Line("".join(c.text for c in chars), float(np.exp(np.sum(logs))) if logs else 0.0, chars)


def trimmed(chars: tuple[Char, ...]) -> tuple[Char, ...]:
    """Without spaces at the ends, one space between words."""
    kept: list[Char] = []
    for char in chars:
        if char.text == " " and (not kept or kept[-1].text == " "):
            continue
        kept.append(char)
    return tuple(kept[:-1] if kept and kept[-1].text == " " else kept)


def is_kraken(path: Path) -> bool:
    """Whether a file is one of kraken's: a CoreML protobuf, or safetensors with its metadata."""
    if path.suffix == ".mlmodel":
        return path.is_file()
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            size = int.from_bytes(head, "little")
            return 0 < size < 50_000_000 and b'"kraken_meta"' in file.read(size)
    except OSError:
        return False


def kraken_reader(path: str | Path) -> tuple[KrakenReader, list[str]]:
    """The first recogniser of a kraken file, and remarks.

    Raises:
        WeightsError: damaged, or no recogniser in it.
    """
    models, remarks = load_kraken(path)
    readers = [model for model in models if model.codec is not None]
    if not readers:
        tasks = ", ".join(task for model in models for task in model.tasks) or "nothing known"
        raise WeightsError(f"{path}: holds models for {tasks}, none that reads lines.")
    if len(readers) > 1:
        remarks = [*remarks, f"{path}: {len(readers)} recognisers; the first is used."]
    if readers[0].about.get("legacy_polygons", True):
        remarks = [*remarks, f"{path}: trained on lines of kraken's older extractor; lines cut here differ."]
    return KrakenReader(readers[0]), remarks
