"""Logs as tables: one row per slot, Parquet or CSV -> `Slates`; group tables `item,group`.

The schema is what policies write: user, time, kind, slot, item, click, propensity, draws, policy, snapshot,
seed, bucket. A slate is what one user saw at one time; `slot` counts from 1, `click` is 0 or 1.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import DataError
from recsys.archives import read_npz
from recsys.formats import TIMES, as_slots, seconds_of
from recsys.slates import FIRST, KINDS, NOTHING, Catalogue, Slates

COLUMNS = ("user", "time", "slot", "item", "click")
"""What a table of slots must have."""
MOST_SLOTS, MOST_STEPS = 25, 20
"""Longer slates are cut behind the click, longer users are split."""

OTHER_MARKS = ("\t", ";", "|")
"""What may stand between the columns where there is no comma in the head of a table."""


def read_frame(path: Path, columns: Mapping[str, str] | None = None, time_format: str | None = None) -> Any:
    """A table as a pandas frame with our column names.

    Args:
        columns: our column name -> theirs.
        time_format: how its times are written (`seconds_of`); None: as can be told.

    Raises:
        DataError: not readable, a column is missing, or a time is not written so.
    """
    import pandas as pd

    if not path.exists():
        raise DataError(f"{path}: there is no such file.")
    try:
        if path.is_dir() or path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            with warnings.catch_warnings():  # cells beyond the header would be cut off with a word only
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(path, encoding="utf-8", index_col=False)
                head = str(frame.columns[0])
                if len(frame.columns) == 1 and (other := [mark for mark in OTHER_MARKS if mark in head]):
                    frame = pd.read_csv(path, encoding="utf-8", index_col=False, sep=other[0])
    except (OSError, ValueError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path}: not a readable table ({str(error).splitlines()[0]}).") from error
    renames = {theirs: ours for ours, theirs in (columns or {}).items()}
    missing = [theirs for theirs in renames if theirs not in frame.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; there are {', '.join(map(str, frame.columns))}.")
    frame = frame.rename(columns=renames)
    if time_format is None:
        return frame
    name = next((one for one in TIMES[:-1] if one in frame.columns), None)  # a timeframe is within its day
    if name is None:
        raise DataError(f"{path}: no column of times; name it by --map time=COLUMN.")
    return frame.assign(**{name: seconds_of(frame[name], str(path), written=time_format)})


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
    import pandas as pd

    frame, remarks = as_slots(frame, source)
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(f"{source}: no column {missing[0]!r}; a log of slots has {', '.join(COLUMNS)}.")
    if not len(frame):
        raise DataError(f"{source}: there is no row in it.")
    frame = frame.reset_index(drop=True)
    for name in ("user", "item"):
        if frame[name].dtype == object:  # numbers and words side by side have no order
            frame[name] = frame[name].where(frame[name].isna(), frame[name].astype(str))
        refuse(frame[name].isna(), frame, source, f"{name} is empty")
        if frame[name].dtype.kind == "f":
            refuse(frame[name] % 1 != 0, frame, source, f"{name} is not a whole number or text")
            frame[name] = frame[name].astype("int64")
        if frame[name].dtype.kind in "iu":
            refuse(frame[name] < 0, frame, source, f"{name} is negative")
    for name, what in (("click", "click is neither 0 nor 1"), ("slot", "slot is not a whole number from 1")):
        try:
            values: Any = pd.to_numeric(frame[name], errors="coerce")
        except OverflowError:  # whole numbers of more than three hundred digits
            raise DataError(f"{source}: {what}.") from None
        wrong = ~values.isin([0, 1]) if name == "click" else ~(values >= 1) | (values % 1 != 0)
        refuse(wrong, frame, source, what)
        frame[name] = values.astype("int64")
    again = frame.duplicated(["user", "time", "slot"])
    refuse(
        again,
        frame,
        source,
        "this slot of this user and time stands in a row before; slates need times of their own",
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
    clicks, times = frame["click"].to_numpy(), frame["time"].to_numpy(np.float64)
    chances = frame["propensity"].to_numpy(np.float64) if "propensity" in frame.columns else None
    sessions: list[tuple[str, list[Step]]] = []
    cut = several = split = 0
    for user, rows in order:
        kind = 0 if kinds is None else kind_number(kinds[rows[0]], source)
        places = np.flatnonzero(clicks[rows] == 1)
        if len(places) > 1:
            several += 1
        for place in places if len(places) else [-1]:
            part, slot = rows, int(place) + 1
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
            sessions[-1][1].append(
                Step(
                    numbers[part],
                    slot,
                    kind,
                    float(times[rows[0]]),
                    None if chances is None else chances[part],
                )
            )
    for number, what in (
        (cut, f"slates of more than {MOST_SLOTS - 1} items were cut"),
        (several, "slates with several clicks became one step for each"),
        (split, f"times a user with more than {MOST_STEPS} steps was split"),
    ):
        if number:
            remarks.append(f"{source}: {number} {what}.")
    return filled(sessions, catalogue, source, tuple(remarks))


class Step(NamedTuple):
    """A slate of one user."""

    items: np.ndarray
    slot: int
    kind: int
    time: float
    chances: np.ndarray | None


def filled(sessions: list[Any], catalogue: Catalogue, source: str, remarks: tuple[str, ...]) -> Slates:
    """Lists of steps as arrays."""
    steps = max(len(rows) for _, rows in sessions)
    slots = 1 + max(len(step.items) for _, rows in sessions for step in rows)
    shape = (len(sessions), steps)
    slate = np.zeros((*shape, slots), np.int32)
    click, click_idx, lengths, kind = (np.zeros(shape, np.int32) for _ in range(4))
    time = np.full(shape, np.nan)
    propensity = None if sessions[0][1][0].chances is None else np.full((*shape, slots), np.nan, np.float32)
    for row, (_, events) in enumerate(sessions):
        for t, step in enumerate(events):
            wide = 1 + len(step.items)
            slate[row, t, 0], slate[row, t, 1:wide] = NOTHING, step.items
            click_idx[row, t], kind[row, t], lengths[row, t] = step.slot, step.kind, wide
            click[row, t] = step.items[step.slot - 1] if step.slot else NOTHING
            time[row, t] = step.time
            if propensity is not None:
                propensity[row, t, 1:wide] = step.chances
    users = np.array([user for user, _ in sessions])
    return Slates(users, slate, click, click_idx, lengths, kind, catalogue, source, time, remarks, propensity)


def kind_number(value: Any, source: str) -> int:
    """1 search, 2 recommendation, 0 unknown, from a word or a number."""
    if value in (0, 1, 2):
        return int(value)
    if str(value) in KINDS:
        return KINDS[str(value)]
    raise DataError(f"{source}: kind is search or rec, got {value!r}.")


def as_names(column: Any) -> np.ndarray:
    """A column as an array of text."""
    return np.array([str(value) for value in column], dtype=object)


def numbers_of(frame: Any, name: str, source: str, *, empty: bool = False) -> np.ndarray:
    """A column as finite float64; `empty` cells are NaN where they are allowed.

    Raises:
        DataError: another cell, named by its row.
    """
    import pandas as pd

    column = frame[name]
    try:
        found: Any = pd.to_numeric(column, errors="coerce")
        values = found.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source}: column {name!r} holds no numbers ({error}).") from None
    bad = ~np.isfinite(values) & ~(column.isna().to_numpy() & empty)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{source} row {row + 1}: {name} is {str(column.iloc[row])[:40]!r}, not a number.")
    return values


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
    for name in ("item", "group"):
        refuse(frame[name].isna(), frame, str(path), f"{name} is empty")
    _, index = np.unique(as_names(frame["group"]), return_inverse=True)
    groups = np.concatenate([np.arange(FIRST), FIRST + index])
    return Catalogue(groups.astype(np.int64), ("pad", "nothing", "unknown", *as_names(frame["item"])))


def read_new_items(path: str | Path) -> dict[str, int]:
    """A table `item,group` of items to add: external id -> number of a group.

    Raises:
        DataError: a column is missing, an item stands twice, or a group is no whole number.
    """
    frame = read_frame(Path(path))
    for name in ("item", "group"):
        if name not in frame.columns:
            raise DataError(f"{path}: no column {name!r}; a table of new items has item and group.")
    if frame["item"].duplicated().any():
        raise DataError(f"{path}: item {frame['item'][frame['item'].duplicated()].iloc[0]!r} stands twice.")
    if frame["group"].dtype.kind not in "iu":
        raise DataError(f"{path}: group is the whole number that these weights know it by.")
    pairs = zip(frame["item"].astype(str), frame["group"], strict=True)
    return {item: int(group) for item, group in pairs}


def read_catalogue(path: str | Path) -> Catalogue:
    """A group table: .npz with `category`, or a table with the columns item and group."""
    path = Path(path)
    if path.suffix != ".npz":
        return read_group_table(path)
    arrays = read_npz(path, ("category",))
    group = arrays["category"]
    if group.ndim != 1 or not np.issubdtype(group.dtype, np.integer) or (group < 0).any():
        raise DataError(f"{path}: 'category' must be one whole number, at least 0, per item.")
    names = arrays.get("item_id")
    return Catalogue(
        np.asarray(group).astype(np.int64), None if names is None else tuple(str(name) for name in names)
    )
