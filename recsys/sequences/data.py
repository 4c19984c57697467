"""Sequences of items on disk: lines `user item item ...`, or tables of one interaction per row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.files import read_bytes
from recsys.formats import TIMES, seconds_of
from recsys.tables import read_frame

NAMES = {
    "user": ("session", "SessionId", "session_id", "sessionId", "user", "user_id"),
    "item": ("item", "item_id", "ItemId", "itemId"),
    "order": ("order",),
    "time": TIMES,
    "day": ("eventdate",),
}
"""Columns that are recognised, in this order of preference: a session is what is continued, not a person."""
GROUPS = ("group", "category", "genres", "genre", "class")
LARGEST = 2 << 30
DAY_S = 86_400.0
SPLITS = ("auto", "time", "last", "none")


@dataclass(frozen=True)
class Sequences:
    """Items of every user in time order, numbered from 1; `names[i - 1]` is the external id of item i."""

    items: tuple[np.ndarray, ...]
    users: tuple[str, ...]
    names: tuple[str, ...]
    source: str = ""
    times: tuple[np.ndarray, ...] | None = None
    """Seconds of every interaction, where the file has them."""
    groups: np.ndarray | None = None
    """(n + 1,) group of every item, 0 where it has none."""

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Questions:
    """What follows the first `stop` items of a row?"""

    data: Sequences
    rows: np.ndarray
    """(Q,) row of the data."""
    stops: np.ndarray
    """(Q,) how many of its items are history."""
    targets: np.ndarray
    """(Q,) item that follows; 0 is one that nobody has seen."""
    target: str
    """In words."""
    seen: str = "drop"
    """Whether items of the history stay out of the ranking: drop, or keep."""

    def __len__(self) -> int:
        return len(self.rows)

    def histories(self, part: slice) -> list[np.ndarray]:
        """Items before each question."""
        pairs = zip(self.rows[part], self.stops[part], strict=True)
        return [self.data.items[row][:stop] for row, stop in pairs]

    def clocks(self, part: slice) -> list[np.ndarray] | None:
        """Times of the history and of the question itself, one more than the history has."""
        times = self.data.times
        if times is None:
            return None
        pairs = zip(self.rows[part], self.stops[part], strict=True)
        return [
            times[row][: stop + 1] if stop < len(times[row]) else stretched(times[row]) for row, stop in pairs
        ]


def stretched(times: np.ndarray) -> np.ndarray:
    """Times with the last one twice: nothing is known of when the question is asked."""
    return np.append(times, times[-1])


def read_sequences(
    path: str | Path, read: Callable[[Path], Any] = read_frame, items: str | Path | None = None
) -> Sequences:
    """Read a file of sequences; packed ones are unpacked.

    Args:
        read: a table of interactions -> a frame with our column names.
        items: a table of items with their groups (item and group, category or genres).

    Raises:
        DataError: missing, empty, or a column cannot be found.
    """
    path = Path(path)
    path = path / "sequences.parquet" if (path / "sequences.parquet").is_file() else path
    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    clocks: list[np.ndarray] | None = None
    if ".txt" in path.suffixes:
        rows = read_bytes(path, LARGEST).decode("utf-8", "replace").splitlines()
        parts = [row.split() for row in rows if row.strip()]
        short = [number for number, part in enumerate(parts, 1) if len(part) < 2]
        if short or not parts:
            raise DataError(f"{path} line {short[0] if short else 1}: expected `user item item ...`.")
        users, lists = [part[0] for part in parts], [part[1:] for part in parts]
    else:
        users, lists, clocks = from_table(read(path), path)
    if not lists:
        raise DataError(f"{path}: there is no interaction in it.")
    known = sorted({item for part in lists for item in part}, key=lambda one: (len(one), one))
    number = {item: index for index, item in enumerate(known, 1)}
    arrays = tuple(np.array([number[item] for item in part], np.int64) for part in lists)
    groups = None if items is None else read_groups(items, known)
    times = None if clocks is None else tuple(clocks)
    return Sequences(arrays, tuple(users), tuple(known), str(path), times, groups)


def from_table(frame: Any, path: Path) -> tuple[list[str], list[list[str]], list[np.ndarray] | None]:
    """Users, their items and times out of rows of interactions."""
    found = {
        name: next((word for word in words if word in frame.columns), None) for name, words in NAMES.items()
    }
    for name in ("user", "item"):
        if found[name] is None:
            raise DataError(f"{path}: no column for {name} ({', '.join(NAMES[name])}).")
        empty = frame[found[name]].isna().to_numpy()
        if empty.any():
            row = int(np.flatnonzero(empty)[0]) + 1
            raise DataError(f"{path} row {row}: {found[name]} is empty ({int(empty.sum())} such rows).")
    seconds = clock_of(frame, found, path)
    order = [key for key in (found["order"],) if key]
    if seconds is not None:
        frame = frame.assign(_seconds=seconds)
        order = order or ["_seconds"]
    frame = frame.sort_values([found["user"], *order], kind="stable")
    users, lists, clocks = [], [], []
    for user, part in frame.groupby(found["user"], sort=False):
        users.append(str(user))
        lists.append([str(item) for item in part[found["item"]]])
        if seconds is not None:
            clocks.append(np.maximum.accumulate(part["_seconds"].to_numpy(np.float64)))
    return users, lists, clocks if seconds is not None else None


def clock_of(frame: Any, found: Mapping[str, str | None], path: Path) -> np.ndarray | None:
    """Seconds (N,) of every row; None without times. Milliseconds within a day stand beside its date."""
    if found["time"] is None:
        return None
    if found["day"] is not None and found["time"] == "timeframe":
        day, within = (seconds_of(frame[found[key]], str(path), written=written)
                       for key, written in (("day", None), ("time", "ms")))  # fmt: skip
        return day + within
    return seconds_of(frame[found["time"]], str(path))


def read_groups(path: str | Path, names: Sequence[str]) -> np.ndarray:
    """(n + 1,) group of every item of a table; of several words the first.

    Raises:
        DataError: no column for item or group.
    """
    frame = read_frame(Path(path))
    item = next((word for word in NAMES["item"] if word in frame.columns), None)
    group = next((word for word in GROUPS if word in frame.columns), None)
    if item is None or group is None:
        raise DataError(f"{path}: a table of items has an item and one of {', '.join(GROUPS)}.")
    rows = zip(frame[item].astype(str), frame[group].fillna("").astype(str), strict=True)
    of = {name: (words.split() or [""])[0] for name, words in rows}
    labels = [of.get(name, "") for name in names]
    codes = {label: index for index, label in enumerate(sorted({label for label in labels if label}), 1)}
    return np.array([0, *(codes.get(label, 0) for label in labels)], np.int64)


def divided(data: Sequences, split: str = "auto", support: int = 1) -> tuple[Sequences, Questions]:
    """What may be learned, and what is asked.

    time: sequences that begin in the last day are asked after every item; the others are learned from.
    last: the last item of every sequence is asked for, the ones before are learned from. Others' later
    clicks are then among what is learned. auto: `time` for sessions with stamps of more than two days, of
    which most end within one; else `last`. none: everything is learned, the last items are asked for.

    Args:
        support: of a split by time, clicks that an item needs in what is learned from; rarer ones are left
            out there and not asked for. The papers on sessions take 5.

    Raises:
        ConfigError: an unknown split, one by time without times, or a support without it.
    """
    if split not in SPLITS:
        raise ConfigError(f"split is one of {', '.join(SPLITS)}, got {split!r}.")
    if split == "auto":
        split = "time" if short_sessions(data) else "last"
    if split == "time":
        return by_day(data, support)
    if support > 1:
        raise ConfigError(f"support belongs to a split by time; this one is {split!r}.")
    rows = np.array([row for row, part in enumerate(data.items) if len(part) > 1], np.int64)
    stops = np.array([len(data.items[row]) - 1 for row in rows], np.int64)
    targets = np.array([data.items[row][-1] for row in rows], np.int64)
    asked = Questions(data, rows, stops, targets, "last item of every user")
    if split == "none":
        return data, asked
    times = None if data.times is None else tuple(part[: max(len(part) - 1, 1)] for part in data.times)
    shorter = tuple(part[: max(len(part) - 1, 1)] for part in data.items)  # nobody is asked of one item alone
    return Sequences(shorter, data.users, data.names, data.source, times, data.groups), asked


def short_sessions(data: Sequences) -> bool:
    """Whether sequences are sessions of hours in a log of days."""
    if data.times is None:
        return False
    spans = np.array([part[-1] - part[0] for part in data.times])
    whole = max(part[-1] for part in data.times) - min(part[0] for part in data.times)
    return bool(whole > 2 * DAY_S and np.quantile(spans, 0.9) < DAY_S)


def by_day(data: Sequences, support: int = 1) -> tuple[Sequences, Questions]:
    """The last day's sequences apart; items that the others have less than `support` times are left out."""
    if data.times is None:
        raise ConfigError(f"{data.source}: a split by time needs times; use --split last.")
    edge = max(part[-1] for part in data.times) - DAY_S
    late = np.array([part[0] > edge for part in data.times])
    early = np.flatnonzero(~late)
    if not len(early) or not late.any():
        raise ConfigError(f"{data.source}: all of it lies within one day; use --split last.")
    count = np.bincount(np.concatenate([data.items[row] for row in early]), minlength=len(data.names) + 1)
    known = count >= max(support, 1)
    masks = [(row, known[data.items[row]]) for row in early]
    masks = [(row, mask) for row, mask in masks if mask.any()]
    if not masks:
        raise ConfigError(f"{data.source}: no item has {support} clicks in what is learned from.")
    learned = Sequences(
        tuple(data.items[row][mask] for row, mask in masks),
        tuple(data.users[row] for row, _ in masks),
        data.names,
        data.source,
        tuple(data.times[row][mask] for row, mask in masks),
        data.groups,
    )
    rows, stops, targets, kept = [], [], [], []
    for row in np.flatnonzero(late):
        mask = known[data.items[row]]
        part, clock = data.items[row][mask], data.times[row][mask]
        if len(part) < 2:
            continue
        kept.append((data.users[row], part, clock))
        rows += [len(kept) - 1] * (len(part) - 1)
        stops += range(1, len(part))
        targets += part[1:].tolist()
    users, parts, clocks = zip(*kept, strict=True) if kept else ((), (), ())
    test = Sequences(parts, users, data.names, data.source, clocks, data.groups)
    asked = Questions(
        test, np.array(rows, np.int64), np.array(stops, np.int64), np.array(targets, np.int64),
        "every item after the first of the sessions that begin in the last day"
        + (f", of items with {support} clicks before it" if support > 1 else ""), "keep",
    )  # fmt: skip
    return learned, asked


def withheld(data: Sequences, truth: Sequences) -> Questions:
    """Questions whose answers lie in another file: the first item of each of its users.

    Raises:
        DataError: a user of the truth is not in the data.
    """
    place = {user: row for row, user in enumerate(data.users)}
    number = {name: index for index, name in enumerate(data.names, 1)}
    rows, targets = [], []
    for user, part in zip(truth.users, truth.items, strict=True):
        if user not in place:
            raise DataError(f"{truth.source}: user {user} is not in {data.source}.")
        rows.append(place[user])
        targets.append(number.get(truth.names[int(part[0]) - 1], 0))
    stops = np.array([len(data.items[row]) for row in rows], np.int64)
    return Questions(data, np.array(rows, np.int64), stops, np.array(targets, np.int64), truth.source)


def left_padded(parts: Sequence[np.ndarray], length: int) -> np.ndarray:
    """The last `length` entries of each sequence (B, length), 0 before them."""
    rows = np.zeros((len(parts), length), parts[0].dtype if len(parts) else np.int64)
    for row, part in zip(rows, parts, strict=True):
        kept = part[-length:]
        if len(kept):
            row[-len(kept) :] = kept
    return rows


def window_of(data: Sequences, most: int = 50) -> int:
    """The window that holds 95 of 100 sequences, at most `most`."""
    lengths = np.array([len(part) for part in data.items])
    return int(np.clip(np.ceil(np.quantile(lengths, 0.95)), 4, most))
