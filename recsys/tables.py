"""Logs as tables: one row per slot, Parquet or CSV -> `Slates`; group tables `item,group`.

The schema is what policies write: user, time, kind, slot, item, click, propensity, draws, policy, snapshot,
seed, bucket. A slate is what one user saw at one time; `slot` counts from 1, `click` is 0 or 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from recsys.data import FIRST, KINDS, NOTHING, Catalogue, Slates, read_catalogue

COLUMNS = ("user", "time", "slot", "item", "click")
"""What a table of slots must have."""
MOST_SLOTS, MOST_STEPS = 25, 20
"""Longer slates are cut behind the click, longer users are split."""


def read_frame(path: Path, columns: Mapping[str, str] | None = None) -> Any:
    """A table as a pandas frame with our column names.

    Raises:
        DataError: not readable, or a column is missing.
    """
    import pandas as pd

    try:
        if path.is_dir() or path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, encoding="utf-8")
    except (OSError, ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError(f"{path}: not a readable table ({str(error).splitlines()[0]}).") from error
    renames = {theirs: ours for ours, theirs in (columns or {}).items()}
    missing = [theirs for theirs in renames if theirs not in frame.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; there are {', '.join(map(str, frame.columns))}.")
    return frame.rename(columns=renames)


def read_table_of_slots(
    path: Path, items: str | Path | None = None, columns: Mapping[str, str] | None = None
) -> Slates:
    """A table with one row per slot."""
    return slates_of(read_frame(path, columns), str(path), None if items is None else read_catalogue(items))


def slates_of(frame: Any, source: str, catalogue: Catalogue | None = None) -> Slates:
    """Rows of slots -> users x steps x slots.

    Raises:
        DataError: a column is missing or holds something else; the row is named, counting from 1.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(f"{source}: no column {missing[0]!r}; a log of slots has {', '.join(COLUMNS)}.")
    if not len(frame):
        raise DataError(f"{source}: there is no row in it.")
    frame = frame.reset_index(drop=True)
    for name in ("user", "item"):
        refuse(frame[name].isna(), frame, source, f"{name} is empty")
        if frame[name].dtype.kind == "f":
            refuse(frame[name] % 1 != 0, frame, source, f"{name} is not a whole number or text")
            frame[name] = frame[name].astype("int64")
        if frame[name].dtype.kind in "iu":
            refuse(frame[name] < 0, frame, source, f"{name} is negative")
    refuse(~frame["click"].isin([0, 1]), frame, source, "click is neither 0 nor 1")
    refuse(
        ~(frame["slot"] >= 1) | (frame["slot"] % 1 != 0), frame, source, "slot is not a whole number from 1"
    )
    frame = frame.sort_values(["user", "time", "slot"], kind="stable")
    if catalogue is None:
        names = sorted(set(frame["item"].tolist()), key=lambda name: (str(type(name)), name))
        groups = np.zeros(FIRST + len(names), np.int64)
        if "group" in frame.columns:
            by_item = frame.drop_duplicates("item").set_index("item")["group"]
            codes, _ = np.unique([str(by_item[name]) for name in names], return_inverse=True)
            place = {code: index for index, code in enumerate(codes)}
            groups[FIRST:] = [FIRST + place[str(by_item[name])] for name in names]
        catalogue = Catalogue(groups, ("pad", "nothing", "unknown", *(str(name) for name in names)))
    numbers = catalogue.numbers(frame["item"].tolist())
    remarks: list[str] = []
    slate_key = frame["user"].astype(str) + "\0" + frame["time"].astype(str)
    codes = np.concatenate([[0], np.cumsum(slate_key.to_numpy()[1:] != slate_key.to_numpy()[:-1])])
    order = [
        (user, group)
        for user, group in zip(
            frame["user"].astype(str).to_numpy()[np.unique(codes, return_index=True)[1]],
            np.split(np.arange(len(frame)), np.unique(codes, return_index=True)[1][1:]),
            strict=True,
        )
    ]
    kinds = frame["kind"].to_numpy() if "kind" in frame.columns else None
    clicks, times = frame["click"].to_numpy(), frame["time"].to_numpy()
    sessions: list[tuple[str, list[tuple[np.ndarray, int, int, Any]]]] = []
    cut = several = split = 0
    for user, rows in order:
        shown = numbers[rows]
        kind = 0 if kinds is None else kind_number(kinds[rows[0]], source)
        places = np.flatnonzero(clicks[rows] == 1)
        if len(places) > 1:
            several += 1
        for place in places if len(places) else [-1]:
            part, slot = shown, int(place) + 1
            if len(part) > MOST_SLOTS - 1:
                cut += 1
                if slot > MOST_SLOTS - 1:  # the click stays in: it takes the last slot
                    part = np.concatenate([part[: MOST_SLOTS - 2], part[slot - 1 : slot]])
                    slot = MOST_SLOTS - 1
                part = part[: MOST_SLOTS - 1]
            if not sessions or sessions[-1][0] != user:
                sessions.append((user, []))
            elif len(sessions[-1][1]) == MOST_STEPS:
                split += 1
                sessions.append((user, []))
            sessions[-1][1].append((part, slot, kind, times[rows[0]]))
    for number, what in (
        (cut, f"slates of more than {MOST_SLOTS - 1} items were cut"),
        (several, "slates with several clicks became one step for each"),
        (split, f"times a user with more than {MOST_STEPS} steps was split"),
    ):
        if number:
            remarks.append(f"{source}: {number} {what}.")
    return filled(sessions, catalogue, source, tuple(remarks))


def filled(sessions: list[Any], catalogue: Catalogue, source: str, remarks: tuple[str, ...]) -> Slates:
    """Lists of steps as arrays."""
    steps = max(len(rows) for _, rows in sessions)
    slots = 1 + max(len(part) for _, rows in sessions for part, *_ in rows)
    shape = (len(sessions), steps)
    slate = np.zeros((*shape, slots), np.int32)
    click, click_idx, lengths, kind = (np.zeros(shape, np.int32) for _ in range(4))
    for row, (_, events) in enumerate(sessions):
        for t, (part, slot, what, _) in enumerate(events):
            slate[row, t, 0], slate[row, t, 1 : 1 + len(part)] = NOTHING, part
            click_idx[row, t], kind[row, t], lengths[row, t] = slot, what, 1 + len(part)
            click[row, t] = part[slot - 1] if slot else NOTHING
    users = np.array([user for user, _ in sessions])
    return Slates(users, slate, click, click_idx, lengths, kind, catalogue, source, None, remarks)


def kind_number(value: Any, source: str) -> int:
    """1 search, 2 recommendation, 0 unknown, from a word or a number."""
    if value in (0, 1, 2):
        return int(value)
    if str(value) in KINDS:
        return KINDS[str(value)]
    raise DataError(f"{source}: kind is search or rec, got {value!r}.")


def refuse(bad: Any, frame: Any, source: str, what: str) -> None:
    """Name the first bad row."""
    bad = bad.to_numpy()
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{source} row {row + 1}: {what} ({int(bad.sum())} such rows).")


def read_group_table(path: Path) -> Catalogue:
    """A table `item,group` -> catalogue with external ids."""
    frame = read_frame(path)
    for name in ("item", "group"):
        if name not in frame.columns:
            raise DataError(f"{path}: no column {name!r}; a group table has item and group.")
    if frame["item"].duplicated().any():
        raise DataError(f"{path}: item {frame['item'][frame['item'].duplicated()].iloc[0]!r} stands twice.")
    _, index = np.unique(frame["group"].astype(str).to_numpy(), return_inverse=True)
    groups = np.concatenate([np.arange(FIRST), FIRST + index])
    return Catalogue(groups.astype(np.int64), ("pad", "nothing", "unknown", *frame["item"].astype(str)))
