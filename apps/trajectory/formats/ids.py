"""Which rows belong to one track: columns of ids, by name and by time, never any column of text."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from apps.trajectory.formats.held import TRACKS
from apps.trajectory.formats.names import IDS, plain
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.table import Table
from core.errors import DataError


def groups(
    table: Table, used: set[str], options: Options, order: np.ndarray, warnings: list[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """(values of the telling columns, row indices) of every track, in order of appearance.

    Args:
        used: columns that mean something else.
        order: (rows,) any number that time makes grow: it says whether a row is later than another.
    """
    rows = table.rows
    if options.group is not None:
        missing = [name for name in options.group if name not in rows.columns]
        if missing:
            raise DataError(f"{table.path}: no column {missing[0]!r} to group by; it has {table.listed}.")
        names = list(options.group)
    else:
        names = telling(table, used, order, warnings)
    if not names:
        yield [], np.arange(len(rows))
        return
    keys = as_text(rows, names)
    known = (keys != "").any(axis=1).to_numpy()
    if not known.all():
        warnings.append(f"{int((~known).sum())} rows without an id ({', '.join(names)}) left out.")
    numbers = np.where(known, numbered(keys), -1)
    if numbers.max(initial=0) >= TRACKS:
        raise DataError(
            f"{table.path}: more than {TRACKS:,} tracks by {', '.join(names)}; see --read group=."
        )
    ordered = np.argsort(numbers, kind="stable")
    ordered = ordered[numbers[ordered] >= 0]
    for part in np.split(ordered, np.flatnonzero(np.diff(numbers[ordered])) + 1):
        if len(part):
            yield [str(value) for value in keys.iloc[part[0]]], part


def telling(table: Table, used: set[str], order: np.ndarray, warnings: list[str]) -> list[str]:
    """The fewest known id columns, best known first, with which time never goes back inside a track."""
    if not table.named:
        return []
    candidates = [
        name
        for name in table.rows.columns
        if name not in used and plain(name) in IDS and table.column(name).notna().any()
    ]
    candidates = [name for name in candidates if as_text(table.rows, [name]).iloc[:, 0].nunique() > 1]
    places = {name: place for place, name in enumerate(IDS)}
    ranked = sorted(candidates, key=lambda name: places[plain(name)])
    chosen: list[str] = []
    for name in ranked:
        kinds = as_text(table.rows, [*chosen, name])
        if len(np.unique(numbered(kinds))) > len(kinds) // 2:
            warnings.append(
                f"column {name!r} differs in most rows, so it is not taken to tell tracks apart; "
                "see --read group=."
            )
            continue
        if chosen and forward(numbered(as_text(table.rows, chosen)), order):
            warnings.append(f"column {name!r} is not needed to tell tracks apart; --read group= takes it.")
            continue
        chosen.append(name)
    return [name for name in table.rows.columns if name in chosen]


def forward(groups: np.ndarray, order: np.ndarray) -> bool:
    """Whether time goes on from row to row inside every group."""
    rows = np.argsort(groups, kind="stable")
    same = np.diff(groups[rows]) == 0
    return bool((np.diff(order[rows])[same] >= 0).all())


def as_text(rows: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Columns as text without blanks around it; whole numbers keep no `.0`, a hole is empty."""
    found = {}
    for name in names:
        column = rows[name]
        if pd.api.types.is_float_dtype(column) and bool(
            ((column.dropna() % 1 == 0) & (column.dropna().abs() < 2**53)).all()
        ):
            column = column.astype("Int64")
        found[name] = column.astype("str").fillna("").str.strip().replace({"<NA>": "", "nan": "", "None": ""})
    return pd.DataFrame(found)


def numbered(keys: pd.DataFrame) -> np.ndarray:
    """(rows,) number of the group of every row, in order of appearance."""
    return keys.groupby(list(keys.columns), sort=False, dropna=False).ngroup().to_numpy()
