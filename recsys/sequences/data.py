"""Sequences of items on disk: lines `user item item ...`, or tables of one interaction per row."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import DataError
from core.files import read_bytes
from recsys.tables import read_frame

NAMES = {
    "user": ("user", "user_id", "session", "SessionId", "session_id", "sessionId"),
    "item": ("item", "item_id", "ItemId", "itemId"),
    "time": ("order", "time", "Time", "timestamp", "timeframe"),
}
"""Columns that are recognised, in this order of preference."""
LARGEST = 2 << 30


@dataclass(frozen=True)
class Sequences:
    """Items of every user in time order, numbered from 1; `names[i - 1]` is the external id of item i."""

    items: tuple[np.ndarray, ...]
    users: tuple[str, ...]
    names: tuple[str, ...]
    source: str = ""

    def __len__(self) -> int:
        return len(self.items)


def read_sequences(path: str | Path, columns: Mapping[str, str] | None = None) -> Sequences:
    """Read a file of sequences; packed ones are unpacked.

    Raises:
        DataError: missing, empty, or a column cannot be found.
    """
    path = Path(path)
    if ".txt" in path.suffixes:
        rows = read_bytes(path, LARGEST).decode("utf-8", "replace").splitlines()
        parts = [row.split() for row in rows if row.strip()]
        short = [number for number, part in enumerate(parts, 1) if len(part) < 2]
        if short or not parts:
            raise DataError(f"{path} line {short[0] if short else 1}: expected `user item item ...`.")
        users, lists = [part[0] for part in parts], [part[1:] for part in parts]
    else:
        frame = read_frame(path, columns)
        found = {}
        for name, words in NAMES.items():
            found[name] = next((word for word in words if word in frame.columns), None)
        for name in ("user", "item"):
            if found[name] is None:
                raise DataError(f"{path}: no column for {name} ({', '.join(NAMES[name])}).")
        keys = [found["user"], *([found["time"]] if found["time"] else [])]
        frame = frame.sort_values(keys, kind="stable")
        groups = frame.groupby(found["user"], sort=False)[found["item"]]
        pairs = [(str(user), [str(item) for item in part]) for user, part in groups]
        users, lists = [user for user, _ in pairs], [part for _, part in pairs]
    if not lists:
        raise DataError(f"{path}: there is no interaction in it.")
    known = sorted({item for part in lists for item in part}, key=lambda one: (len(one), one))
    number = {item: index for index, item in enumerate(known, 1)}
    arrays = tuple(np.array([number[item] for item in part], np.int64) for part in lists)
    return Sequences(arrays, tuple(users), tuple(known), str(path))


def left_padded(parts: list[np.ndarray], length: int) -> np.ndarray:
    """The last `length` items of each sequence (B, length), 0 before them."""
    rows = np.zeros((len(parts), length), np.int64)
    for row, part in zip(rows, parts, strict=True):
        kept = part[-length:]
        if len(kept):
            row[-len(kept) :] = kept
    return rows
