"""An open recording: what it is, and its samples block by block."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError

BLOCK = 1 << 16
LOUDEST = 1e9
"""Above it there is no sound (full scale is 1) but bytes that mean something else, whose power overflows."""


def odd_samples(samples: np.ndarray) -> np.ndarray:
    """Where samples are no finite numbers, or beyond all sound."""
    return ~(np.abs(samples) < LOUDEST)


@dataclass
class Sound:
    """An open recording."""

    path: Path
    rate: int
    channels: int
    subtype: str
    """As soundfile names it: PCM_16, FLOAT, VORBIS, ..."""
    format: str
    frames: int
    """As the file states; -1 where it does not."""
    source: Any
    tags: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """What is odd about the file, a sentence each."""

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """float32 (n, channels) until the end.

        Raises:
            DataError: it holds nothing, breaks off, or holds samples that are no finite numbers or no sound.
        """
        heard = 0
        for block in self.source(size):
            odd = odd_samples(block)
            if odd.any():
                row = int(np.flatnonzero(odd.any(1))[0])
                value = block[row][odd[row]][0]
                what = f"{value:.3g}, which is no sound" if np.isfinite(value) else "no finite number"
                raise DataError(f"{self.path}: the sample at {(heard + row) / self.rate:.3f} s is {what}.")
            heard += len(block)
            yield block
        if not heard:
            raise DataError(f"{self.path}: holds no samples.")

    def read(self) -> np.ndarray:
        """All of it, float32 (N, channels)."""
        return np.concatenate(list(self.blocks()))


def reason(error: Exception) -> str:
    """The cause in a few words, without the path that is named already."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text.rpartition(": ")[2][:120]
