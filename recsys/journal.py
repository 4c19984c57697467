"""The log of what policies showed: one row per slot, and the proof that a row can be made again.

    user time kind slot item click propensity draws policy snapshot seed bucket temperature period served_by

`propensity` is empty where it is unknown, `draws` says from how many draws it was estimated (0: exact).
`served_by` says whether a kept state was ranked from, or clicks, which a draw moves, too. `prepare`, `ope`
and `refresh` read this table; `replay` makes every slate again from the user's earlier rows.
"""

import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError, RecurraError
from core.files import whole_file
from recsys.history import Event, History
from recsys.model import SlateModel
from recsys.predict import POLICIES, Filter, Slate, recommend
from recsys.slates import FIRST, KINDS, SEARCH
from recsys.tables import read_frame

COLUMNS = (
    "user", "time", "kind", "slot", "item", "click", "propensity", "draws", "policy", "snapshot", "seed",
    "bucket", "temperature", "period", "served_by",
)  # fmt: skip
AGAIN = ("policy", "seed", "temperature", "period")
"""What a slate is made again from, beside the history."""


def rows_of(
    slate: Slate, time: float, clicked: Any = None, *, snapshot: str = "", bucket: int = 0, kind: str = "rec"
) -> list[dict[str, Any]]:
    """A slate as rows, one per slot; `clicked` is the item clicked, or None."""
    return [
        {
            "user": slate.user,
            "time": float(time),
            "kind": kind,
            "slot": slot,
            "item": str(item),
            "click": int(clicked is not None and str(item) == str(clicked)),
            "propensity": chance,
            "draws": slate.draws,
            "policy": slate.policy,
            "snapshot": snapshot,
            "seed": slate.seed,
            "bucket": bucket,
            "temperature": float(slate.temperature),
            "period": slate.period,
            "served_by": slate.served_by,
        }
        for slot, (item, chance) in enumerate(zip(slate.items, slate.propensities, strict=True), 1)
    ]


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as one Parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = {"user", "kind", "item", "policy", "snapshot", "served_by"}
    floats = {"time", "propensity", "temperature"}
    fields = [
        pa.field(name, pa.string() if name in text else pa.float64() if name in floats else pa.int64())
        for name in COLUMNS
    ]
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=pa.schema(fields))
    with whole_file(path) as partial:
        pq.write_table(table, partial, row_group_size=65_536)


def forget(folder: str | Path, user: str) -> int:
    """Write the Parquet files of a folder that hold the user anew, without them; how many rows went."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    gone = 0
    for path in sorted(Path(folder).glob("*.parquet")):
        table = pq.read_table(path)
        keep = pc.call_function("not_equal", [table["user"], user])
        kept = table.filter(keep)
        if kept.num_rows == table.num_rows:
            continue
        gone += table.num_rows - kept.num_rows
        if kept.num_rows:
            # a filtered column keeps the whole dictionary of its pages: rows are taken anew
            with whole_file(path) as partial:
                pq.write_table(kept.combine_chunks(), partial, row_group_size=65_536)
        else:
            path.unlink()
    return gone


def replay(
    model: SlateModel,
    path: str | Path,
    keep: Filter | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make every recommended slate of a log again and compare.

    The history of a slate are the user's earlier rows in the log, so the log must begin with the user.

    Raises:
        DataError: a column is missing, or a policy is unknown.
    """
    frame = read_frame(Path(path), columns)
    for name in ("user", "time", "slot", "item", "click", *AGAIN):
        if name not in frame.columns:
            raise DataError(f"{path}: no column {name!r}; replay needs {', '.join(COLUMNS)}.")
    frame = frame.sort_values(["user", "time", "slot"], kind="stable")
    events: dict[str, list[Event]] = {}
    same = total = searches = 0
    different: list[dict[str, Any]] = []
    for (user, when), part in frame.groupby(["user", "time"], sort=False):
        numbers = model.catalogue.numbers(part["item"].tolist())
        clicks = np.flatnonzero(part["click"].to_numpy() == 1)
        kind = KINDS.get(str(part["kind"].iloc[0]), 0) if "kind" in part.columns else 0
        past = events.setdefault(str(user), [])
        first = part.iloc[0]
        if kind == SEARCH:
            searches += 1
        else:
            if str(first["policy"]) not in POLICIES:
                raise DataError(f"{path}: no policy {first['policy']!r}; there are {', '.join(POLICIES)}.")
            total += 1
            history = History(tuple(past), str(user))
            kept = str(first.get("served_by", "model")) != "model"  # a server answers from a state
            again = recommend(
                model,
                history,
                len(part),
                str(first["policy"]),
                int(first["seed"]),
                user=str(user),
                period=int(first["period"]),
                temperature=float(first["temperature"]),
                keep=keep,
                state=model.state(history) if kept else None,
            )
            shown = [str(item) for item in part["item"]]
            if [str(item) for item in again.items] == shown:
                same += 1
            else:
                made = [str(item) for item in again.items]
                different.append({"user": str(user), "time": when, "logged": shown, "made": made})
        known = tuple(int(number) for number in numbers if number >= FIRST)
        slot = 0 if not len(clicks) else int((numbers[: clicks[0] + 1] >= FIRST).sum())
        if known:
            past.append(Event(known, slot, kind))
    return {"slates": total, "same": same, "searches": searches, "different": different}


class Journal:
    """Slates on their way into a log: kept until their click comes or for half an hour, then written.

    Every flush writes one more Parquet file into the folder; several processes may write side by side.
    """

    def __init__(self, folder: str | Path, wait_s: float = 1800.0, most: int = 5000) -> None:
        self.folder, self.wait_s, self.most = Path(folder), wait_s, most
        self.folder.mkdir(parents=True, exist_ok=True)
        self.open: dict[str, tuple[Slate, float, str, int]] = {}
        self.done: list[dict[str, Any]] = []
        self.written = 0
        self.lock = threading.Lock()

    def shown(self, slate: Slate, now: float, snapshot: str, bucket: int) -> str:
        """Keep a slate; gives its id."""
        name = uuid.uuid4().hex
        with self.lock:
            self.open[name] = (slate, now, snapshot, bucket)
        return name

    def clicked(self, name: str, item: Any) -> bool:
        """The click on a slate, or None for none; whether the slate was waiting."""
        with self.lock:
            found = self.open.pop(name, None)
            if found is not None:
                slate, when, snapshot, bucket = found
                self.done += rows_of(slate, when, item, snapshot=snapshot, bucket=bucket)
        return found is not None

    def flush(self, now: float, *, everything: bool = False) -> int:
        """Write what is finished, or has waited long enough; how many rows."""
        with self.lock:
            for name in [n for n, one in self.open.items() if everything or now - one[1] > self.wait_s]:
                slate, when, snapshot, bucket = self.open.pop(name)
                self.done += rows_of(slate, when, None, snapshot=snapshot, bucket=bucket)
            rows, self.done = self.done, []
        if rows:
            self.written += 1
            name = f"{int(now):012d}-{os.getpid()}-{self.written:06d}.parquet"
            try:
                write_rows(self.folder / name, rows)
            except RecurraError:
                with self.lock:
                    self.done = rows + self.done  # nothing is lost while the disk is full
                raise
        return len(rows)

    def forget(self, user: str) -> int:
        """Take a user out of what waits and out of the files; how many rows went."""
        with self.lock:
            waiting = [name for name, one in self.open.items() if one[0].user == user]
            for name in waiting:
                del self.open[name]
            self.done = [row for row in self.done if row["user"] != user]
        return len(waiting) + forget(self.folder, user)
