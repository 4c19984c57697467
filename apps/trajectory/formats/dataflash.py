"""ArduPilot's log as it is written on board (`.bin`): messages that FMT messages describe.

A message is A3 95, its type and its content; FMT (type 128) gives type, length, name, a letter for each
column, and their names (https://ardupilot.org/dev/docs/code-overview-adding-a-new-log-message.html).
"""

import struct
from pathlib import Path

import pandas as pd

from apps.trajectory.formats.ardupilot import KINDS, from_kinds
from apps.trajectory.formats.held import OBJECTS
from apps.trajectory.formats.options import Options
from apps.trajectory.track import Track
from core.errors import DataError

HEAD = b"\xa3\x95"
FMT = 128
LETTERS = {
    "a": "32h", "b": "b", "B": "B", "h": "h", "H": "H", "i": "i", "I": "I", "f": "f", "d": "d", "g": "e",
    "n": "4s", "N": "16s", "Z": "64s", "c": "h", "C": "H", "e": "i", "E": "I", "L": "i", "M": "B",
    "q": "q", "Q": "Q",
}  # fmt: skip
FACTORS = {"c": 0.01, "C": 0.01, "e": 0.01, "E": 0.01, "L": 1e-7}


def read_dataflash(path: Path, data: bytes, options: Options) -> list[Track]:
    """Tracks of the best kind of message that the log has.

    Raises:
        DataError: no messages with places, or a log that breaks off before any.
    """
    kinds: dict[int, tuple[str, struct.Struct, str, list[str]]] = {}
    lengths = {FMT: 89}
    rows: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    names: dict[str, list[str]] = {}
    place, lost = 0, 0
    while place + 3 <= len(data):
        if data[place : place + 2] != HEAD or data[place + 2] not in lengths:
            found = data.find(HEAD, place + 1)
            if found < 0:
                break
            lost, place = lost + 1, found
            continue
        kind = data[place + 2]
        end = place + lengths[kind]
        if end > len(data):
            break
        body = data[place + 3 : end]
        place = end
        if kind == FMT:
            number, length, name, letters, columns = struct.unpack("<BB4s16s64s", body)
            word = name.rstrip(b"\0").decode(errors="replace")
            letters = letters.rstrip(b"\0").decode(errors="replace")
            if length >= 3:
                lengths.setdefault(number, length)
            if word in KINDS and all(letter in LETTERS for letter in letters):
                layout = struct.Struct("<" + "".join(LETTERS[letter] for letter in letters))
                names[word] = columns.rstrip(b"\0").decode(errors="replace").split(",")
                if layout.size == length - 3 and "a" not in letters and len(names[word]) == len(letters):
                    kinds[number] = (word, layout, letters, names[word])
        elif kind in kinds:
            word, layout, letters, _ = kinds[kind]
            values = layout.unpack(body)
            rows[word].append(
                [value * FACTORS.get(letter, 1) for value, letter in zip(values, letters, strict=True)
                 if not isinstance(value, bytes)]
            )  # fmt: skip
            if len(rows[word]) > OBJECTS:
                raise DataError(f"{path}: more than {OBJECTS:,} rows of {word}; cut it into parts.")
    plain = {
        word: [name for name, letter in zip(columns, letters, strict=True) if letter not in "nNZ"]
        for word, _, letters, columns in kinds.values()
    }
    frames = {
        kind: pd.DataFrame(rows[kind], columns=plain[kind]) for kind in KINDS if rows[kind] and kind in plain
    }
    return from_kinds(path, frames, options)
