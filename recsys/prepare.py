"""Logs of any readable kind -> one folder in the slate layout, with ids and a report beside it.

Slates become `data.npz` and `itemattr.npz`, next-item tables `sequences.parquet`. Beside them: `users.csv`
and `items.csv` (which row and number has which id), `report.json` (counts, splits, what was cut).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.files import whole_file, write_text
from core.tables import write_table
from core.text import in_json
from recsys.archives import arrays_of
from recsys.data import check_slates, read_slates, split_users
from recsys.formats import kind_of
from recsys.pieces import beyond_memory, prepare_pieces
from recsys.slates import FIRST, Slates
from recsys.tables import read_catalogue, read_frame, slates_of

TABLES = (".csv", ".parquet", ".gz")


def prepare(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    items: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    pieces: bool = False,
    time_format: str | None = None,
) -> dict[str, Any]:
    """Read logs, check every row, write them as one into a folder; gives the report.

    Args:
        items: the group table of all of them.
        columns: our column name -> theirs, for tables.
        pieces: read a folder of Parquet parts one by one; large ones always are.
        time_format: how tables write times (`recsys.formats.seconds_of`); None: as can be told.

    Raises:
        ConfigError: the folder holds a log already.
        DataError: a row contradicts itself, or the logs are of different catalogues.
    """
    out = Path(out)
    if (out / "data.npz").exists() or (out / "sequences.parquet").exists():
        raise ConfigError(f"{out}: there is a log already; choose another folder.")
    paths, named = [Path(one) for one in inputs], columns or {}

    def read(path: Path) -> Any:
        return read_frame(path, named, time_format)

    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: there is no such file.")
    if len(paths) == 1 and is_table_folder(paths[0]) and (pieces or beyond_memory(paths[0])):
        report = {"inputs": [str(paths[0])], **prepare_pieces(paths[0], out, items, read)}
        write_text(out / "report.json", in_json(report, 2) + "\n")
        return report
    if all(is_sequence(path, named) for path in paths):
        return prepare_sequences(paths, out, items, read)
    slates = joined(paths, items, read)
    check_slates(slates)
    out.mkdir(parents=True, exist_ok=True)
    arrays = arrays_of(slates)
    attributes = {"category": slates.catalogue.group.astype(np.int32)}
    if slates.catalogue.names is not None:
        attributes["item_id"] = np.array(slates.catalogue.names)
    for name, parts in (("itemattr.npz", attributes), ("data.npz", arrays)):
        with whole_file(out / name) as partial, open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **parts)  # pyright: ignore[reportArgumentType]
    used = np.asarray(slates.lengths) > 0
    report = {
        "inputs": [str(one) for one in inputs],
        "users": len(slates),
        "steps": int(used.sum()),
        "items": len(slates.catalogue) - 3,
        "groups": len(set(slates.catalogue.group[3:].tolist())),
        "no_click": float((np.asarray(slates.click_idx) == 0)[used].mean()) if used.any() else None,
        "times": slates.time is not None,
        "propensities": slates.propensity is not None,
        "splits": splits(slates),
        "remarks": list(slates.remarks),
    }
    rows = enumerate(np.asarray(slates.users).tolist())
    write_table(out / "users.csv", ("row", "user"), [(str(row), str(user)) for row, user in rows])
    numbers = range(FIRST, len(slates.catalogue))
    known = [(str(n), str(slates.catalogue.name(n)), str(int(slates.catalogue.group[n]))) for n in numbers]
    write_table(out / "items.csv", ("number", "item", "group"), known)
    write_text(out / "report.json", in_json(report, 2) + "\n")
    return report


def splits(slates: Slates) -> dict[str, Any]:
    """How many users and steps each way of dividing gives."""
    train, valid, test = split_users(len(slates))
    found: dict[str, Any] = {"users": {"train": len(train), "validation": len(valid), "test": len(test)}}
    if slates.time is not None:
        time = np.asarray(slates.time, np.float64)
        used = np.asarray(slates.lengths) > 0
        edge = float(np.nanquantile(time[used], 0.9))
        late = used & (time > edge)
        found["time"] = {"edge": edge, "train": int((used & ~late).sum()), "test": int(late.sum())}
    return found


def is_sequence(path: Path, columns: Mapping[str, str]) -> bool:
    """Whether a file holds sequences of interactions and no slates."""
    if ".txt" in path.suffixes:
        return True
    if path.suffix.lower() not in TABLES and not is_table_folder(path):
        return False
    return kind_of(read_frame(path, columns)) == "interactions"


def prepare_sequences(
    paths: Sequence[Path], out: Path, items: str | Path | None, read: Callable[[Path], Any]
) -> dict[str, Any]:
    """Next-item tables as one: user, item, order, seconds where they are known."""
    import pandas as pd

    from recsys.sequences.data import divided, read_sequences

    parts = []
    for path in paths:
        data = read_sequences(path, read, items)
        sizes = [len(part) for part in data.items]
        frame = pd.DataFrame(
            {
                "user": np.repeat(data.users, sizes),
                "item": np.array(data.names)[np.concatenate(data.items) - 1],
                "order": np.concatenate([np.arange(size) for size in sizes]),
            }
        )
        if data.times is not None:
            frame["time"] = np.concatenate(data.times)
        parts.append(frame)
    whole = pd.concat(parts, ignore_index=True)
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(out / "sequences.parquet") as partial:
        whole.to_parquet(partial, index=False)
    data = read_sequences(out / "sequences.parquet", items=items)
    learned, asked = divided(data)
    known = [(str(n), name) for n, name in enumerate(data.names, 1)]
    write_table(out / "items.csv", ("number", "item"), known)
    write_table(out / "users.csv", ("row", "user"), [(str(n), user) for n, user in enumerate(data.users)])
    report = {
        "inputs": [str(path) for path in paths],
        "users": len(data),
        "steps": int(sum(len(part) for part in data.items)),
        "items": len(data.names),
        "groups": 0 if data.groups is None else len(set(data.groups[1:].tolist())),
        "times": data.times is not None,
        "splits": {"learned": len(learned), "questions": len(asked), "target": asked.target},
        "remarks": [],
    }
    write_text(out / "report.json", in_json(report, 2) + "\n")
    return report


def joined(inputs: list[Path], items: str | Path | None, read: Callable[[Path], Any]) -> Slates:
    """All inputs as one log."""
    tables = [path for path in inputs if path.suffix.lower() in TABLES or is_table_folder(path)]
    logs = [read_slates(path, items) for path in inputs if path not in tables]
    if tables:
        import pandas as pd

        frame = pd.concat([read(path) for path in tables], ignore_index=True)
        source = ", ".join(str(path) for path in tables)
        logs.append(slates_of(frame, source, None if items is None else read_catalogue(items)))
    first = logs[0]
    for log in logs[1:]:
        same = len(log.catalogue) == len(first.catalogue) and log.catalogue.names == first.catalogue.names
        if not same or (log.catalogue.group != first.catalogue.group).any():
            raise DataError(f"{log.source}: another catalogue than {first.source}; give --items for both.")
    return first if len(logs) == 1 else stacked(logs)


def is_table_folder(path: Path) -> bool:
    """A folder of Parquet parts, as Spark and Dask write them."""
    return path.is_dir() and not (path / "data.npz").exists()


def stacked(logs: Sequence[Slates]) -> Slates:
    """Logs of one catalogue below each other, padded to the longest users and slates."""
    steps, slots = max(log.steps for log in logs), max(log.slots for log in logs)

    def wide(log: Slates, name: str) -> np.ndarray:
        array = np.asarray(getattr(log, name))
        room = [(0, 0), (0, steps - log.steps), (0, slots - log.slots)][: array.ndim]
        return np.pad(array, room)

    names = ["slate", "click", "click_idx", "lengths", "kind"]
    parts: dict[str, Any] = {name: np.concatenate([wide(log, name) for log in logs]) for name in names}
    users = np.concatenate([np.asarray(log.users).astype(str) for log in logs])
    return replace(
        logs[0],
        users=users,
        source=", ".join(log.source for log in logs),
        remarks=tuple(remark for log in logs for remark in log.remarks),
        time=None,
        propensity=None,
        **parts,
    )
