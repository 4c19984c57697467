"""Prepared lines in memory, and the batches that training makes of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import DataError
from vision.ocr.augment import Draws, draw, stretched
from vision.ocr.codec import Codec
from vision.ocr.config import AugmentConfig
from vision.ocr.line import GRAIN, LineSettings, batch, prepare
from vision.ocr.sample import Sample


@dataclass(frozen=True)
class Pool:
    """Prepared lines with their labels."""

    ink: list[np.ndarray]
    """Each (H, W) of uint8, 255 = ink."""
    labels: list[list[int]]

    def __len__(self) -> int:
        return len(self.ink)

    @property
    def widths(self) -> list[int]:
        return [line.shape[1] for line in self.ink]

    def __add__(self, other: "Pool") -> "Pool":
        return Pool(self.ink + other.ink, self.labels + other.labels)


@dataclass(frozen=True)
class LineBatch:
    """A batch on its way to the device; tensors move, plain numbers stay."""

    ink: Tensor
    """(B, 1, H, W) of uint8."""
    widths: Tensor
    """(B,) valid columns."""
    targets: Tensor
    """(B, L), padded with zeros."""
    target_lengths: tuple[int, ...]
    out_widths: tuple[int, ...]
    """Valid columns after augmentation."""
    draws: Draws | None
    seed: int


class MakeLines:
    """Rows of a pool (counted on over several laps) -> a batch with its draws of augmentation."""

    def __init__(self, pool: Pool, augment: AugmentConfig | None) -> None:
        self.pool, self.augment = pool, augment

    def __call__(self, rows: Tensor | Sequence[int], generator: torch.Generator) -> LineBatch:
        chosen = [int(row) % len(self.pool) for row in rows]
        ink, widths = batch([self.pool.ink[row] for row in chosen])
        labels = [self.pool.labels[row] for row in chosen]
        targets = torch.zeros(len(chosen), max(1, max(map(len, labels))), dtype=torch.int64)
        for row, label in zip(targets, labels, strict=True):
            row[: len(label)] = torch.tensor(label)
        valid = torch.tensor(widths)
        draws = None
        if self.augment is not None and self.augment.strength:
            draws = draw(len(chosen), self.augment, generator)
        out = valid if draws is None else stretched(valid, draws, GRAIN)
        seed = int(torch.randint(2**31, (), generator=generator))
        return LineBatch(
            torch.from_numpy(ink)[:, None],
            valid,
            targets,
            tuple(map(len, labels)),
            tuple(out.tolist()),
            draws,
            seed,
        )


class MakeMixture:
    """Numbers of lines from several pools -> a batch; each line with the same chance within its pool."""

    def __init__(self, pools: dict[str, Pool], augment: AugmentConfig | None) -> None:
        self.starts: dict[str, tuple[int, int]] = {}
        everything = Pool([], [])
        for name, pool in pools.items():
            self.starts[name] = (len(everything), len(pool))
            everything = everything + pool
        self.make = MakeLines(everything, augment)

    def __call__(self, counts: dict[str, int], generator: torch.Generator) -> LineBatch:
        rows = [
            start + torch.randint(size, (counts.get(name, 0),), generator=generator)
            for name, (start, size) in self.starts.items()
        ]
        return self.make(torch.cat(rows), generator)


def load_pool(samples: Sequence[Sample], codec: Codec, settings: LineSettings) -> Pool:
    """Read and prepare every sample, four at a time.

    Raises:
        DataError: an image cannot be read, or a text has a character outside the codec.
    """

    def load(sample: Sample) -> np.ndarray:
        return prepare(sample.grey(), settings)

    labels = [codec.encode(sample.text) for sample in samples]
    with ThreadPoolExecutor(4) as threads:
        return Pool(list(threads.map(load, samples)), labels)


def generated_pool(
    make: Callable[..., list[tuple[np.ndarray, str]]],
    count: int,
    codec: Codec,
    settings: LineSettings,
    seed: int,
    workers: int,
    *about: Any,
) -> Pool:
    """`count` generated lines, made by `workers` processes in portions whose seeds do not depend on them."""
    portion = 250 if count <= 5000 else 1000
    jobs = [(min(portion, count - first), seed * 100_003 + first) for first in range(0, count, portion)]
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
            futures = [pool.submit(make, size, number, *about) for size, number in jobs]
            made = [pair for future in futures for pair in future.result()]
    else:
        made = [pair for size, number in jobs for pair in make(size, number, *about)]
    kept = [(grey, text) for grey, text in made if not codec.unknown([text])]
    if count and not kept:
        raise DataError("no generated line can be written with the alphabet of the data.")
    return Pool([prepare(grey, settings) for grey, _ in kept], [codec.encode(text) for _, text in kept])
