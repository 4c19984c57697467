"""Logs of any readable kind -> one folder in the slate layout, with ids and a report beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from core.files import whole_file, write_text
from core.text import in_json
from recsys.data import Slates, check_slates, read_catalogue, read_slates
from recsys.tables import read_frame, slates_of

TABLES = (".csv", ".parquet", ".gz")


def prepare(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    items: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Read logs, check every row, write them as one into a folder; gives the report.

    Args:
        items: the group table of all of them.
        columns: our column name -> theirs, for tables.

    Raises:
        ConfigError: the folder holds a log already.
        DataError: a row contradicts itself, or the logs are of different catalogues.
    """
    out = Path(out)
    if (out / "data.npz").exists():
        raise ConfigError(f"{out}: there is a log already; choose another folder.")
    slates = joined([Path(one) for one in inputs], items, columns or {})
    check_slates(slates)
    out.mkdir(parents=True, exist_ok=True)
    small = np.int16 if len(slates.catalogue) < 2**15 else np.int32
    arrays = {
        "userId": np.asarray(slates.users),
        "slate": np.asarray(slates.slate).astype(small),
        "click": np.asarray(slates.click).astype(small),
        "click_idx": np.asarray(slates.click_idx).astype(np.int16),
        "slate_lengths": np.asarray(slates.lengths).astype(np.int16),
        "interaction_type": np.asarray(slates.kind).astype(np.int16),
    }
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
        "remarks": list(slates.remarks),
    }
    write_text(out / "report.json", in_json(report, 2) + "\n")
    return report


def joined(inputs: list[Path], items: str | Path | None, columns: Mapping[str, str]) -> Slates:
    """All inputs as one log."""
    tables = [path for path in inputs if path.suffix.lower() in TABLES or is_table_folder(path)]
    logs = [read_slates(path, items) for path in inputs if path not in tables]
    if tables:
        import pandas as pd

        for path in tables:
            if not path.exists():
                raise DataError(f"{path}: there is no such file.")
        frame = pd.concat([read_frame(path, columns) for path in tables], ignore_index=True)
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

    names = ("slate", "click", "click_idx", "lengths", "kind")
    parts = {name: np.concatenate([wide(log, name) for log in logs]) for name in names}
    users = np.concatenate([np.asarray(log.users).astype(str) for log in logs])
    return replace(
        logs[0],
        users=users,
        source=", ".join(log.source for log in logs),
        remarks=tuple(remark for log in logs for remark in log.remarks),
        time=None,
        **parts,
    )
