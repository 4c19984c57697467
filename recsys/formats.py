"""What the rows of a table are, and how they become rows of slots.

slots          user time slot item click [kind propensity group]     as policies log them
slates         user time items click [kind]: `items` a list, or text with blanks, commas or bars
impressions    item_id position click propensity_score timestamp user_feature_*    (Open Bandit): every
               row is a slate of one item, whole slates cannot be found again
interactions   user item [time]: no slate at all, sequences for next-item models

A time is a number (seconds, milliseconds or less by its size) or a date; without a zone it is UTC.
"""

import json
import re
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.text import shown

FEATURES = "user_feature"
"""Open Bandit knows users by these columns alone."""
SEPARATORS = re.compile(r"[\s,|;]+")
SLATES = ("items", "slate")
TIMES = ("time", "Time", "timestamp", "timeframe")
"""Columns that are a time, in this order of preference."""
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
"""Of a second, what numbers may count."""
BEYOND_S = 1e11
"""No log is of the year 5138: larger numbers count milliseconds, a thousand times larger ones less."""
EARLIEST = 1000
"""Of the year that is read from a text: `t1` is one of the first century to pandas."""
DAY_OR_MONTH = r"^\s*(\d{1,2})[./-](\d{1,2})[./-]\d{2,4}"


def kind_of(frame: Any) -> str:
    """slots, slates, impressions or interactions, by the columns."""
    columns = set(map(str, frame.columns))
    if "slot" in columns or {"user", "time", "item", "click"} <= columns:
        return "slots"
    if columns & set(SLATES):
        return "slates"
    if {"item_id", "propensity_score", "click"} <= columns:
        return "impressions"
    named = columns & {"user", "user_id", "session", "session_id", "SessionId", "sessionId"}
    if named and columns & {"item", "item_id", "ItemId", "itemId"} and "click" not in columns:
        return "interactions"
    return "slots"


def as_slots(frame: Any, source: str) -> tuple[Any, list[str]]:
    """Any table of slates as rows of slots, and remarks.

    Raises:
        DataError: a row of slates holds no list, a click that is not in it, or a time that is none.
    """
    kind = kind_of(frame)
    if kind == "impressions":
        return impressions(frame, source)
    if "time" in frame.columns:
        frame = frame.assign(time=seconds_of(frame["time"], source))
    return (exploded(frame, source) if kind == "slates" else frame), []


def exploded(frame: Any, source: str) -> Any:
    """One row per slate -> one row per slot."""
    name = next(column for column in SLATES if column in frame.columns)
    for column in ("user", "time"):
        if column not in frame.columns:
            raise DataError(
                f"{source}: no column {column!r}; a table of slates has user, time, {name}, click."
            )
    if "click" not in frame.columns:
        raise DataError(f"{source}: no column 'click'; a table of slates has user, time, {name}, click.")
    lists, clicks = [], []
    for row, (cell, click) in enumerate(zip(frame[name], frame["click"], strict=True), 1):
        ids = words(cell)
        if not ids:
            raise DataError(f"{source} row {row}: {name!r} is not a list of items, got {cell!r}.")
        if len(set(ids)) != len(ids):
            raise DataError(f"{source} row {row}: an item stands twice in the slate.")
        taken = words(click)
        missing = [one for one in taken if one not in ids]
        if missing:
            raise DataError(f"{source} row {row}: the click {missing[0]!r} is not in the slate.")
        lists.append(ids)
        clicks.append([int(one in taken) for one in ids])
    wide = frame.drop(columns=[name, "click"]).assign(item=lists, click=clicks)
    wide = wide.assign(slot=[list(range(1, len(ids) + 1)) for ids in lists])
    wide = wide.explode(["item", "click", "slot"], ignore_index=True)
    return wide.astype({"click": "int64", "slot": "int64"})


def words(cell: Any) -> list[str]:
    """Ids of a cell: a list, a JSON list, text with separators, one id, or nothing."""
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return []
    if isinstance(cell, (list, tuple, np.ndarray)):
        return [str(one) for one in cell]
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return [str(int(cell))]
    text = str(cell).strip()
    if text.startswith("["):
        try:
            return [str(one) for one in json.loads(text)]
        except ValueError:
            text = text.strip("[]")
    return [word.strip("'\"") for word in SEPARATORS.split(text) if word]


def impressions(frame: Any, source: str) -> tuple[Any, list[str]]:
    """Open Bandit rows: each a slate of one item whose propensity is known."""
    features = [name for name in frame.columns if str(name).startswith(FEATURES)]
    users = (
        frame[features].astype(str).agg("|".join, axis=1) if features else frame.index.to_series().astype(str)
    )
    known = "timestamp" in frame.columns
    seconds = seconds_of(frame["timestamp"], source) if known else np.arange(len(frame), dtype=np.float64)
    order = frame.assign(_user=users, _time=seconds).groupby(["_user", "_time"]).cumcount().to_numpy()
    found = frame[["item_id", "click", "propensity_score"]].rename(
        columns={"item_id": "item", "propensity_score": "propensity"}
    )
    found = found.assign(user=users, time=seconds + 1e-6 * order, slot=1, kind="rec")
    return found, [
        f"{source}: every row is an impression of its own; slates cannot be found again, and users are "
        "those whose features are equal."
    ]


def seconds_of(column: Any, source: str, name: str = "", written: str | None = None) -> np.ndarray:
    """Seconds (N,) float64 since 1970, or since whatever the numbers count from, of a column of times.

    Numbers of more than `BEYOND_S` are milliseconds, microseconds or nanoseconds. Dates are ISO 8601 or of
    any form that pandas reads; where both day and month may stand first, a number above 12 tells.

    Args:
        name: what to call the column in an error; its own name where this is left out.
        written: how times are written: a unit of numbers (`UNITS`), or a form of `strptime`.

    Raises:
        DataError: a row is empty, or neither a number nor a date; row and value are named.
        ConfigError: a unit for what is no number, or a form that strptime does not know.
    """
    import pandas as pd

    name = name or str(column.name)
    empty = column.isna().to_numpy()
    if empty.any():
        row = int(empty.argmax()) + 1
        raise DataError(f"{source} row {row}: {name} is empty ({int(empty.sum())} such rows).")
    if column.dtype.kind == "M":
        return epoch(column)
    try:
        found: Any = pd.to_numeric(column, errors="coerce")
        numbers: np.ndarray = found.to_numpy(np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.full(len(column), np.nan)
    if written in UNITS:
        wrong, seconds = ~np.isfinite(numbers), numbers / UNITS[written]
    elif written is None and 2 * np.isfinite(numbers).sum() >= len(numbers):
        wrong, seconds = ~np.isfinite(numbers), in_seconds(numbers)
    else:
        found = dates(column.astype(str), written)
        wrong, seconds = found.isna().to_numpy(), epoch(found)
    if wrong.any():
        row = int(wrong.argmax())
        value = shown(repr(column.iloc[row]), 40)
        wanted = f"written as {written}" if written else "a number or a date"
        raise DataError(
            f"{source} row {row + 1}: {name} {value} is not {wanted} ({int(wrong.sum())} such rows). Times "
            "are seconds or milliseconds since 1970 or dates such as 2026-11-27T10:15:00+01:00; `recurra "
            'recsys prepare --time-format "%d.%m.%Y %H:%M"` reads any other form.'
        )
    return seconds


def in_seconds(numbers: np.ndarray) -> np.ndarray:
    """Numbers (N,) that count seconds or less as seconds: what they count is told by the largest."""
    largest = float(np.nanmax(np.abs(numbers), where=np.isfinite(numbers), initial=0.0))
    for most, part in ((BEYOND_S, 1.0), (BEYOND_S * 1e3, 1e3), (BEYOND_S * 1e6, 1e6)):
        if largest < most:
            return numbers / part
    return numbers / 1e9


def dates(text: Any, written: str | None) -> Any:
    """Texts (N,) as dates in UTC; what is none is missing.

    Raises:
        ConfigError: a form that strptime does not know.
    """
    import pandas as pd

    if written is not None:
        try:
            return pd.to_datetime(text, utc=True, format=written, errors="coerce")
        except ValueError as error:
            raise ConfigError(f"--time-format {shown(written, 40)!r}: {error}") from error
    text = text.where(text.str.contains(r"\d"))  # `now` is a date to pandas
    found = pd.to_datetime(text, utc=True, format="ISO8601", errors="coerce")
    if not found.isna().any():
        return found
    first: Any = pd.to_numeric(text.str.extract(DAY_OR_MONTH)[0], errors="coerce")
    later = bool((first > 12).any())
    found = pd.to_datetime(text, utc=True, format="mixed", errors="coerce", dayfirst=later)
    return found.where(found.dt.year >= EARLIEST)


def epoch(dates: Any) -> np.ndarray:
    """Seconds (N,) since 1970 of a column of dates; those without a zone are UTC."""
    import pandas as pd

    dates = pd.to_datetime(dates, utc=True)
    return dates.to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
