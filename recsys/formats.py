"""What the rows of a table are, and how they become rows of slots.

slots          user time slot item click [kind propensity group]     as policies log them
slates         user time items click [kind]: `items` a list, or text with blanks, commas or bars
impressions    item_id position click propensity_score timestamp user_feature_*    (Open Bandit): every
               row is a slate of one item, whole slates cannot be found again
interactions   user item [time]: no slate at all, sequences for next-item models
"""

import json
import re
from typing import Any

import numpy as np

from core.errors import DataError

FEATURES = "user_feature"
"""Open Bandit knows users by these columns alone."""
SEPARATORS = re.compile(r"[\s,|;]+")
SLATES = ("items", "slate")


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
        DataError: a row of slates holds no list, or a click that is not in it.
    """
    kind = kind_of(frame)
    if kind == "slates":
        return exploded(frame, source), []
    if kind == "impressions":
        return impressions(frame, source)
    return frame, []


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
    seconds = seconds_of(frame["timestamp"]) if "timestamp" in frame.columns else None
    if seconds is None:
        seconds = np.arange(len(frame), dtype=np.float64)
    order = frame.assign(_user=users, _time=seconds).groupby(["_user", "_time"]).cumcount().to_numpy()
    found = frame[["item_id", "click", "propensity_score"]].rename(
        columns={"item_id": "item", "propensity_score": "propensity"}
    )
    found = found.assign(user=users, time=seconds + 1e-6 * order, slot=1, kind="rec")
    return found, [
        f"{source}: every row is an impression of its own; slates cannot be found again, and users are "
        "those whose features are equal."
    ]


def seconds_of(column: Any) -> np.ndarray | None:
    """Seconds (N,) of a column of numbers or dates; None where it is something else."""
    import pandas as pd

    if column.dtype.kind in "iuf":
        return column.to_numpy(np.float64)
    try:
        dates = pd.to_datetime(column, utc=True, format="mixed")
    except (ValueError, TypeError):
        return None
    return dates.to_numpy(dtype="datetime64[us]").astype(np.int64) / 1e6
