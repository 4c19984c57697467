"""Go on inside a long file: what is enhanced so far and the stream's state lie beside the output.

    calls.wav.unfinished/samples.f32    finished samples, appended
    calls.wav.unfinished/state.npz      the stream's state, written whole after every piece

A kill between two pieces loses one piece. The result is the same to the bit as that of one run.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np

from core.door import arrays
from core.errors import WeightsError
from core.files import whole_file

STATE, SAMPLES = "state.npz", "samples.f32"


class Journal:
    """Samples (n, channels) written so far and what the work stood at; of another work it starts anew."""

    def __init__(self, out: str | Path, channels: int, about: Mapping[str, Any]) -> None:
        self.folder = Path(f"{out}.unfinished")
        self.channels, self.about = channels, json.dumps(dict(about), sort_keys=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pieces = self.frames = 0
        """Pieces of the input that are done, frames of the output that are kept."""
        self.state: Any = None
        self.facts: dict[str, float] = {}
        found = self.read()
        if found is not None:
            self.state, self.pieces, self.frames, self.facts = found
        self.file = (self.folder / SAMPLES).open("r+b" if found is not None else "w+b")
        self.file.truncate(4 * channels * self.frames)
        self.file.seek(0, 2)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        """Everything stays where it is, for another time."""
        self.file.close()

    def read(self) -> tuple[Any, int, int, dict[str, float]] | None:
        """What an earlier work on the same file left; nothing if it was another one, or is damaged."""
        try:
            kept = arrays(self.folder / STATE, STATE)
            head = json.loads(str(kept["head"]))
            if head["about"] != self.about:
                return None
            own = [kept[f"a{index}"] for index in range(head["arrays"])]
            if (self.folder / SAMPLES).stat().st_size < 4 * self.channels * head["frames"]:
                return None
            return unpacked(head["state"], own), head["pieces"], head["frames"], head["facts"]
        except (OSError, ValueError, KeyError, WeightsError):
            return None

    def write(self, block: np.ndarray) -> None:
        """Finished samples, (n,) or (n, channels)."""
        block = np.ascontiguousarray(block, "<f4")
        self.file.write(block.tobytes())
        self.frames += len(block)

    def save(self, state: Any, facts: Mapping[str, float]) -> None:
        """One more piece is done, and this is where the stream stands."""
        self.pieces += 1
        self.file.flush()
        arrays: list[np.ndarray] = []
        layout = packed(state, arrays)
        head = {
            "about": self.about,
            "state": layout,
            "arrays": len(arrays),
            "pieces": self.pieces,
            "frames": self.frames,
            "facts": dict(facts),
        }
        with whole_file(self.folder / STATE) as partial, partial.open("wb") as file:
            named: dict[str, Any] = {f"a{index}": array for index, array in enumerate(arrays)}
            np.savez(file, head=np.array(json.dumps(head)), **named)

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """All samples again, (n, channels)."""
        self.file.flush()
        with (self.folder / SAMPLES).open("rb") as file:
            while data := file.read(4 * self.channels * size):
                yield np.frombuffer(data, "<f4").reshape(-1, self.channels)

    def remove(self) -> None:
        """The work is done."""
        self.file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Spool:
    """Samples (n, channels) that are read once more and forgotten, in a nameless file beside the output."""

    IN_MEMORY = 1 << 24
    """Bytes up to which there is no file."""

    def __init__(self, out: str | Path, channels: int) -> None:
        folder = os.path.dirname(os.path.realpath(out))
        self.channels, self.pieces = channels, 0
        self.file = SpooledTemporaryFile(self.IN_MEMORY, dir=folder if os.access(folder, os.W_OK) else None)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, block: np.ndarray) -> None:
        """The next samples."""
        self.file.write(np.ascontiguousarray(block, "<f4").tobytes())

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """All samples again, (n, channels)."""
        self.file.seek(0)
        while data := self.file.read(4 * self.channels * size):
            yield np.frombuffer(data, "<f4").reshape(-1, self.channels)


def packed(value: Any, arrays: list[np.ndarray]) -> Any:
    """A nesting of plain values as JSON; its arrays go into the list."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, Mapping):
        return {"dict": {key: packed(part, arrays) for key, part in value.items()}}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [packed(part, arrays) for part in value]}
    return {"value": value.item() if isinstance(value, np.generic) else value}


def unpacked(layout: Any, arrays: list[np.ndarray]) -> Any:
    """The inverse of `packed`."""
    ((kind, inside),) = layout.items()
    if kind == "array":
        return arrays[inside]
    if kind == "dict":
        return {key: unpacked(part, arrays) for key, part in inside.items()}
    if kind == "value":
        return inside
    parts = [unpacked(part, arrays) for part in inside]
    return tuple(parts) if kind == "tuple" else parts
