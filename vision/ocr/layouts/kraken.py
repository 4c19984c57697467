"""kraken's models: safetensors of version 7 and every older `.mlmodel`, codec and greedy decoding."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.door import read, safetensors
from core.errors import ConfigError, WeightsError
from core.fitting import check_finite
from core.text import shown
from core.weights import network_for
from vision.ocr.models.vgsl import VGSL

LARGEST = 1 << 30
"""Bytes of a file of models; those that are published have up to 20 MB."""
Decoded = tuple[Any, int, int, float]
"""Label or character, first frame, last frame, confidence."""


@dataclass(frozen=True)
class KrakenCodec:
    """Text of one or more characters -> one or more labels."""

    codes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, stored: Any) -> "KrakenCodec":
        """The codec of metadata: an object, or (as training writes it) the JSON of one.

        Raises:
            WeightsError: neither.
        """
        try:
            found = json.loads(stored) if isinstance(stored, str) else stored
            return cls({text: tuple(int(i) for i in labels) for text, labels in found.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"the codec of the model is damaged ({error}).") from error

    @classmethod
    def from_characters(cls, characters: str | Sequence[str]) -> "KrakenCodec":
        """Sorted, labels from 1."""
        return cls({text: (i,) for i, text in enumerate(sorted(set(characters)), 1)})

    @property
    def valid(self) -> bool:
        """Single-valued, and no code begins another one."""
        codes = sorted(self.codes.values())
        if len(set(codes)) < len(codes) or any(not code for code in codes):
            return False
        return not any(b[: len(a)] == a for a, b in pairwise(codes))

    @property
    def largest(self) -> int:
        return max((label for code in self.codes.values() for label in code), default=0)

    def encode(self, text: str) -> list[int]:
        """Labels, longest key first; unknown characters are skipped."""
        keys = sorted(self.codes, key=len, reverse=True)
        labels: list[int] = []
        at = 0
        while at < len(text):
            key = next((key for key in keys if text.startswith(key, at)), None)
            if key is not None:
                labels += self.codes[key]
            at += len(key) if key else 1
        return labels

    def decode(self, rows: Sequence[Decoded]) -> list[Decoded]:
        """Characters of labels: those of one code share its frames and mean confidence."""
        texts = {code: text for text, code in self.codes.items()}
        several = sorted((code for code in texts if len(code) > 1), key=lambda code: code)
        labels = [row[0] for row in rows]
        found: list[Decoded] = []
        at = 0
        while at < len(rows):
            code: tuple[int, ...] | None = (labels[at],)
            if code not in texts:
                code = next((c for c in several if tuple(labels[at : at + len(c)]) == c), None)
            if code is None:
                at += 1
                continue
            part = rows[at : at + len(code)]
            sure = float(np.mean([row[3] for row in part]))
            found += [(c, part[0][1], part[-1][2], sure) for c in texts[code]]
            at += len(code)
        return found

    def add(self, characters: str | Sequence[str]) -> "KrakenCodec":
        """With further characters behind the largest label."""
        new = [text for text in sorted(set(characters)) if text not in self.codes]
        start = self.largest + 1
        return KrakenCodec({**self.codes, **{text: (start + i,) for i, text in enumerate(new)}})

    def merge(self, other: "KrakenCodec") -> tuple["KrakenCodec", set[int]]:
        """Kept are the texts that `other` has too; the labels close up, its new ones follow.

        Gives the codec and the labels, in the old numbering, that nothing uses any more.
        """
        kept = {text: code for text, code in self.codes.items() if text in other.codes}
        used = {label for code in kept.values() for label in code}
        removed = {label for code in self.codes.values() for label in code} - used
        place = {label: i for i, label in enumerate(sorted(used), 1)}
        codes = {text: tuple(place[label] for label in code) for text, code in kept.items()}
        start = len(used)
        numbers: dict[int, int] = {}
        for text, code in other.codes.items():
            if text not in kept:
                for label in code:
                    numbers.setdefault(label, start + len(numbers) + 1)
                codes[text] = tuple(numbers[label] for label in code)
        return KrakenCodec(codes), removed


def greedy_rows(logits: np.ndarray, temperature: float = 1.0) -> list[Decoded]:
    """Runs of equal best labels of logits (V, T) without blanks: label, first and last frame, maximum."""
    scaled = logits.T / temperature
    p = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
    best = p.argmax(1)
    edges = np.r_[0, np.flatnonzero(np.diff(best)) + 1, len(best)]
    return [
        (int(best[a]), int(a), int(b) - 1, float(p[a:b, best[a]].max()))
        for a, b in pairwise(edges)
        if best[a] != 0
    ]


@dataclass(frozen=True)
class KrakenModel:
    """One model of a file."""

    name: str
    tasks: tuple[str, ...]
    network: VGSL
    codec: KrakenCodec | None
    about: Mapping[str, Any]

    @property
    def centred(self) -> bool:
        """Whether lines pass the centre normaliser: boxes of one channel do."""
        return self.about.get("seg_type") == "bbox" and self.network.input[3] in (0, 1)

    @torch.no_grad()
    def logits(self, line: Tensor) -> np.ndarray:
        """(V, T) of a prepared line (C, H, W), alone: kraken's own padded batches change the result."""
        found, _ = self.network(line[None])
        return found[0, :, 0].numpy()

    def read(self, line: Tensor) -> list[Decoded]:
        """Characters with frames and confidences.

        Raises:
            ConfigError: the model is no recogniser.
        """
        if self.codec is None:
            raise ConfigError(f"{self.name}: a model for {', '.join(self.tasks)}, not for reading.")
        return self.codec.decode(greedy_rows(self.logits(line)))


def load_kraken(path: str | Path) -> tuple[list[KrakenModel], list[str]]:
    """The models of a kraken file, and remarks about those that are of another kind.

    Raises:
        WeightsError: missing, damaged, or no file of kraken.
    """
    path = Path(path)
    data = read(path, LARGEST)
    if data[8:9] == b"{":
        return from_safetensors(path, data)
    from vision.ocr.layouts.coreml import from_mlmodel

    tensors, meta = from_mlmodel(path, data)
    about = {**stored(path, meta.get("kraken_meta", "{}")), "vgsl": meta.get("vgsl", "")}
    codec = KrakenCodec.of(meta["codec"]) if "codec" in meta else None
    kind = about.get("model_type") or "recognition"
    tasks = (kind,) if isinstance(kind, str) else tuple(kind)
    return [built(path, path.stem, tasks, about, codec, tensors)], []


def stored(path: Path, text: str) -> dict[str, Any]:
    """Metadata of a file.

    Raises:
        WeightsError: it is not a JSON object.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{path}: its metadata is damaged ({error}).") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: its metadata is not an object.")
    return found


def from_safetensors(path: Path, data: bytes) -> tuple[list[KrakenModel], list[str]]:
    """Models of a file of kraken 7."""
    tensors, metadata = safetensors(path, data)
    if "kraken_meta" not in metadata:
        raise WeightsError(f"{path}: not a safetensors file of kraken (it has no kraken_meta).")
    meta = stored(path, metadata["kraken_meta"])
    models, remarks = [], []
    for name, about in meta.items():
        if not isinstance(about, dict):
            raise WeightsError(f"{path}: what it says of {shown(name, 40)} is not an object.")
        kind = about.get("_model")
        if kind != "TorchVGSLModel":
            remarks.append(f"{path.name}: {shown(name, 40)} is a {shown(kind, 40)}, which is not read here.")
            continue
        codec = KrakenCodec.of(about["codec"]) if about.get("codec") else None
        own = {
            key.removeprefix(f"{name}."): tensor
            for key, tensor in tensors.items()
            if key.startswith(f"{name}.")
        }
        tasks = about.get("_tasks", ())
        tasks = tuple(str(task) for task in tasks) if isinstance(tasks, list) else (str(tasks),)
        models.append(built(path, name, tasks, about, codec, own))
    return models, remarks


def built(
    path: Path,
    name: str,
    tasks: tuple[str, ...],
    about: Mapping[str, Any],
    codec: KrakenCodec | None,
    tensors: Mapping[str, Tensor],
) -> KrakenModel:
    """The network of a spec with its weights."""
    check_finite(tensors, str(path))
    network = network_for(path, tensors, lambda: VGSL(str(about.get("vgsl", ""))))
    return KrakenModel(name, tasks, network.eval(), codec if "recognition" in tasks else None, about)
