"""A table with known columns -> tracks, one per value of the columns that tell tracks apart."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from apps.trajectory.formats.assemble import assemble
from apps.trajectory.formats.names import DOWN, IDS, find_columns, plain
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.stamps import Stamps, stamps
from apps.trajectory.formats.table import MISSING, Table, numeric
from apps.trajectory.geo import to_enu
from apps.trajectory.track import Track, stem_of
from core.errors import DataError


def from_names(table: Table, options: Options) -> list[Track]:
    """Tracks of a table whose header (or `columns`) says what is what.

    Raises:
        DataError: no time, no position, or nothing usable in them.
    """
    given = dict(options.columns or {})
    listed = ", ".join(table.rows.columns[:20])
    for ours, theirs in given.items():
        if theirs not in table.rows.columns:
            raise DataError(f"{table.path}: no column {theirs!r} for {ours}; the file has {listed}.")
    free = [name for name in table.rows.columns if name not in given.values()]
    found = find_columns(free) if table.named else {}
    if any(name in given for name in ("x", "y", "z")):
        found = {name: column for name, column in found.items() if name not in ("x", "y", "z", "down")}
    found |= given
    if "t" not in found and not ("sec" in found and "nsec" in found) and options.rate is None:
        raise DataError(
            f"{table.path}: no column of time; name one by --read columns=t=NAME or give --read rate=10. "
            f"It has {listed}."
        )
    if not {"x", "y"} <= found.keys() and not {"lat", "lon"} <= found.keys():
        raise DataError(
            f"{table.path}: no columns of position; name them by --read columns=x=NAME,y=NAME. "
            f"It has {listed}."
        )
    return tracks_of(table, found, options)


def tracks_of(
    table: Table, found: Mapping[str, str], options: Options, usual_unit: str | None = None
) -> list[Track]:
    """Tracks from columns whose meaning is settled; `usual_unit` is what the format prescribes for time."""
    warnings: list[str] = []
    times = times_of(table, found, options, usual_unit)
    axes = [name for name in ("x", "y", "z") if name in found]
    origin = None
    frame = options.frame
    if "x" in found and "y" in found:
        columns = [table.numbers(found[name]) for name in axes]
        if "z" not in found and "down" in found:
            columns.append(-table.numbers(found["down"]))
        positions = np.stack(columns, 1)
    else:
        positions, origin = local(table, found, warnings)
        frame = None
    velocities = None
    if origin is None and all(f"v{axis}" in found for axis in axes) and positions.shape[1] == len(axes):
        velocities = np.stack([table.numbers(found[f"v{axis}"]) for axis in axes], 1)
    if frame is None and origin is None and "vehicle_local_position" in table.path.name:
        warnings.append("PX4 vehicle_local_position has axes north, east, down; --read frame=ned turns z up.")
    used = set(found.values())
    tracks = []
    clock = "t" in found or "sec" in found
    for label, rows in groups(table, used, options, warnings):
        part = Stamps(times.ns[rows], times.known[rows], times.warnings)
        tracks.append(
            assemble(
                table.path,
                "/".join([stem_of(table.path), *label]),
                part,
                positions[rows],
                None if velocities is None else velocities[rows],
                frame=frame,
                origin=origin,
                has_clock=clock,
                warnings=warnings,
            )
        )
    return tracks


def times_of(table: Table, found: Mapping[str, str], options: Options, usual: str | None) -> Stamps:
    """Nanoseconds of every row."""
    if "sec" in found and "nsec" in found and not (options.columns or {}).get("t"):
        sec, nsec = table.numbers(found["sec"]), table.numbers(found["nsec"])
        known = np.isfinite(sec) & np.isfinite(nsec) & (np.abs(sec) < 9e9) & (np.abs(nsec) < 1e10)
        whole = np.where(known, sec, 0).astype(np.int64) * 10**9
        return Stamps(whole + np.where(known, nsec, 0).astype(np.int64), known)
    if "t" not in found:
        return even_stamps(len(table.rows), options.rate)
    name = found["t"]
    column = table.column(name)
    try:
        times = stamps(column, name, options.time_unit, usual)
    except DataError as error:
        raise DataError(f"{table.path}: {error}") from None
    if not pd.api.types.is_numeric_dtype(column) and times.known.any() and not times.known.all():
        empty = column.isna() | column.astype("str").str.strip().str.lower().isin(list(MISSING))
        for row in np.flatnonzero(~times.known & ~empty.to_numpy()):
            line = table.line_of(int(row))
            where = f" line {line}" if line else f" row {row + 1}"
            raise DataError(f"{table.path}{where}: {name} is {str(column.iloc[row])[:40]!r}, not a time.")
    return times


def even_stamps(count: int, rate: float | None) -> Stamps:
    """Stamps of a file without times."""
    if rate is None:
        raise ValueError("even stamps need a rate")
    return Stamps(np.round(np.arange(count) * (1e9 / rate)).astype(np.int64), np.ones(count, dtype=bool))


def local(
    table: Table, found: Mapping[str, str], warnings: list[str]
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Geographic columns as metres east, north, up of the first finite row."""
    lat, lon = table.numbers(found["lat"]), table.numbers(found["lon"])
    alt = table.numbers(found["alt"]) if "alt" in found else np.zeros(len(lat))
    if "alt" not in found:
        warnings.append("no altitude; taken as 0.")
    finite = np.isfinite(lat) & np.isfinite(lon) & np.isfinite(alt)
    if not finite.any():
        raise DataError(f"{table.path}: no row with a finite latitude, longitude and altitude.")
    if np.abs(lat[finite]).max() > 180 and np.abs(lat[finite]).max() <= 9e8:
        lat, lon, alt = lat * 1e-7, lon * 1e-7, alt * 1e-3
        warnings.append("latitude and longitude are read as 1e-7 degrees, altitude as millimetres.")
    wrong = finite & ((np.abs(lat) > 90) | (np.abs(lon) > 360))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        where = f" line {table.line_of(row)}" if table.text else ""
        raise DataError(
            f"{table.path}{where}: latitude {lat[row]:g}, longitude {lon[row]:g} is no place; swapped?"
        )
    first = int(np.flatnonzero(finite)[0])
    origin = (float(lat[first]), float(lon[first]), float(alt[first]))
    return to_enu(np.stack([lat, lon, alt], 1), origin), origin


def groups(
    table: Table, used: set[str], options: Options, warnings: list[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """(values of the telling columns, row indices) of every track, in order of appearance."""
    rows = table.rows
    if options.group is not None:
        missing = [name for name in options.group if name not in rows.columns]
        if missing:
            raise DataError(
                f"{table.path}: no column {missing[0]!r} to group by; it has {', '.join(rows.columns[:20])}."
            )
        names: Sequence[str] = options.group
    else:
        names = telling(table, used, warnings)
    if not names:
        yield [], np.arange(len(rows))
        return
    keys = rows[list(names)].astype("str").fillna("")
    numbers = keys.groupby(list(names), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
        yield [str(value).strip() for value in keys.iloc[part[0]]], part


def telling(table: Table, used: set[str], warnings: list[str]) -> list[str]:
    """Columns of ids and of text; one that differs in nearly every row is a remark, not an id."""
    names = []
    for name in table.rows.columns:
        column = table.column(name)
        measured = pd.api.types.is_numeric_dtype(column) or pd.api.types.is_datetime64_any_dtype(column)
        if name in used or bool(column.isna().all()) or plain(name) in DOWN:
            continue
        known_id = table.named and plain(name) in IDS
        if not known_id and (measured or numeric(column).notna().any()):
            continue
        kinds = column.astype("str").nunique()
        if kinds > 1 and kinds > len(column) // 2:
            warnings.append(
                f"column {name!r} differs in most rows, so it is not taken to tell tracks apart; "
                "see --read group=."
            )
            continue
        names.append(name)
    return names
