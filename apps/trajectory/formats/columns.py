"""A table with known columns -> tracks, one per value of the columns that tell tracks apart."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from apps.trajectory.formats.assemble import assemble
from apps.trajectory.formats.counts import counted
from apps.trajectory.formats.ids import groups
from apps.trajectory.formats.names import DATES, PAIRS, find_columns, plain
from apps.trajectory.formats.options import TIME_UNITS, Options
from apps.trajectory.formats.places import Places, local, places
from apps.trajectory.formats.stamps import (
    FASTEST,
    FASTEST_ALOFT,
    Pace,
    Stamps,
    is_datetime,
    likelier,
    stamps,
    unit_in_name,
    unit_of,
)
from apps.trajectory.formats.table import MISSING, Table, numeric
from apps.trajectory.formats.units import factor, word
from apps.trajectory.track import Track, stem_of
from core.errors import DataError

FEET = "altitude [ft]"
IN_FEET = "the altitude of an aircraft with a callsign is read as feet; --read alt=m overrules."
STEPPED = "seconds of steps"
"""Column of times that are worked out from counted samples."""


def from_names(table: Table, options: Options) -> list[Track]:
    """Tracks of a table whose header (or `columns`) says what is what.

    Raises:
        DataError: no time, no position, or nothing usable in them.
    """
    given = dict(options.columns or {})
    for ours, theirs in given.items():
        if theirs not in table.rows.columns:
            raise DataError(f"{table.path}: no column {theirs!r} for {ours}; the file has {table.listed}.")
    free = [name for name in table.rows.columns if name not in given.values()]
    found = find_columns(free) if table.named else {}
    if any(name in given for name in ("x", "y", "z")):
        found = {name: column for name, column in found.items() if name not in ("x", "y", "z", "down")}
    found |= given
    if not {"x", "y"} <= found.keys() and not {"lat", "lon"} <= found.keys():
        table, found = in_pairs(table, found)
    if "t" not in given and (options.rate is None or "t" not in found):
        steps = None if "t" in found or "sec" in found else counted(table, options)
        if steps is not None:
            rows = table.rows.assign(**{STEPPED: steps[0]})
            told = replace(options, rate=None, time_unit="s")
            tracks = tracks_of(replace(table, rows=rows), {**found, "t": STEPPED}, told)
            return [replace(track, start_ns=None, warnings=(steps[1], *track.warnings)) for track in tracks]
    if "t" not in found and not ("sec" in found and "nsec" in found) and options.rate is None:
        raise DataError(
            f"{table.path}: no column of time; name one by --read columns=t=NAME or give --read rate=10. "
            f"It has {table.listed}."
        )
    if not {"x", "y"} <= found.keys() and not {"lat", "lon"} <= found.keys():
        raise DataError(
            f"{table.path}: no columns of position; name them by --read columns=x=NAME,y=NAME. "
            f"It has {table.listed}."
        )
    return tracks_of(table, found, options)


def in_pairs(table: Table, found: Mapping[str, str]) -> tuple[Table, dict[str, str]]:
    """The table with latitude and longitude of their own where one column holds both, as `47.1,8.2`."""
    for name in table.rows.columns:
        if plain(str(name)) in PAIRS and not pd.api.types.is_numeric_dtype(table.column(name)):
            halves = table.column(name).astype("str").str.strip(" ()[]").str.split(r"[,; ]+", n=1, regex=True)
            both = halves.str.len() == 2
            if both.mean() > 0.5:
                columns = {
                    axis: pd.to_numeric(halves.str[index].where(both), errors="coerce")
                    for index, axis in enumerate(("lat", "lon"))
                }
                said, found = table.said, {**found, "lat": "lat", "lon": "lon"}
                rows = table.rows.assign(**columns)
                called = any(plain(str(other)) == "callsign" for other in rows.columns)
                if called and "alt" in found and word(found["alt"]) is None:
                    rows, said = rows.rename(columns={found["alt"]: FEET}), (*said, IN_FEET)
                    found["alt"] = FEET
                return replace(table, rows=rows, said=said), found
    return table, dict(found)


def tracks_of(
    table: Table, found: Mapping[str, str], options: Options, usual_unit: str | None = None
) -> list[Track]:
    """Tracks from columns whose meaning is settled; `usual_unit` is what the format prescribes for time."""
    warnings: list[str] = list(table.said)
    clock = ("t" in found or "sec" in found) and options.rate is None
    times = times_of(table, found, options, usual_unit) if clock else None
    axes = [name for name in ("x", "y", "z") if name in found]
    flat = "x" in found and "y" in found
    positions = velocities = fixes = ways = None
    if flat:
        columns = [table.numbers(found[name]) * factor(found[name]) for name in axes]
        if "z" not in found and "down" in found:
            columns.append(-table.numbers(found["down"]) * factor(found["down"]))
        positions = np.stack(columns, 1)
        if all(f"v{axis}" in found for axis in axes) and positions.shape[1] == len(axes):
            names = [found[f"v{axis}"] for axis in axes]
            velocities = np.stack([table.numbers(name) * factor(name, speed=True) for name in names], 1)
    else:
        fixes = places(table, found, warnings, options.alt)
        ways = ways_of(table, found)
    if options.frame is None and flat and "vehicle_local_position" in table.path.name:
        warnings.append("PX4 vehicle_local_position has axes north, east, down; --read frame=ned turns z up.")
    order = np.zeros(len(table.rows)) if times is None else times.ns
    parts = list(groups(table, set(found.values()), options, order, warnings))
    if times is not None and "t" in found and options.time_unit is None:
        times = checked(table, found, options, usual_unit, times, metres(positions, fixes), parts)
    tracks = []
    for label, rows in parts:
        if times is None:  # a rate counts the samples of one track
            part = even_stamps(len(rows), options.rate)
        else:
            part = Stamps(times.ns[rows], times.known[rows], times.warnings)
        told, origin, rates = list(warnings), None, None
        if fixes is None:
            assert positions is not None
            own = positions[rows]
        else:
            own, origin = local(fixes, rows, part.ns, told)
            rates = None if ways is None else along_the_way(own, part.ns, ways[rows])
        track = assemble(
            table.path,
            "/".join([stem_of(table.path), *label]),
            part,
            own,
            rates if velocities is None else velocities[rows],
            frame=options.frame if flat else None,
            origin=origin,
            has_clock=clock,
            gate=options.gate,
            warnings=told,
        )
        tracks.append(replace(track, about={"columns": roles(table, found, options, usual_unit)}))
    return tracks


def ways_of(table: Table, found: Mapping[str, str]) -> np.ndarray | None:
    """(rows, 2) speed in whatever unit and course in degrees, where a geographic file has both as numbers."""
    if not {"speed", "course"} <= found.keys():
        return None
    try:
        return np.stack([table.numbers(found[name]) for name in ("speed", "course")], 1)
    except DataError:
        return None


KNOTS = 1852 / 3600
SPEED_UNITS = (1.0, KNOTS, 1 / 3.6, 0.44704)
"""m/s, knots, km/h, mph."""


def along_the_way(positions: np.ndarray, ns: np.ndarray, ways: np.ndarray) -> np.ndarray | None:
    """Velocities (n, 3) of a track from speed and course, in the unit that leads best from place to place;
    None where there are too few. Height changes as it did."""
    known = np.isfinite(positions).all(1) & np.isfinite(ways).all(1)
    if known.sum() < 3 or not known.all():
        return None
    order = np.argsort(ns, kind="stable")
    time_s, place, (speed, course) = (ns[order] - ns[order[0]]) * 1e-9, positions[order], ways[order].T
    step = np.diff(time_s)
    if not (step > 0).all():
        return None
    ahead = np.stack([np.sin(np.radians(course)), np.cos(np.radians(course))], 1) * speed[:, None]
    way = np.diff(place[:, :2], axis=0)
    led = (ahead[1:] + ahead[:-1]) / 2 * step[:, None]
    missed = [np.median(np.linalg.norm(led * unit - way, axis=1)) for unit in SPEED_UNITS]
    unit = SPEED_UNITS[int(np.argmin(missed))]
    found = np.empty_like(positions)
    found[order] = np.column_stack([ahead * unit, np.gradient(place[:, 2], time_s)])
    return found


def roles(
    table: Table, found: Mapping[str, str], options: Options, usual: str | None
) -> dict[str, dict[str, str]]:
    """What every column in use was taken for, and the unit that its name or its values say."""
    told: dict[str, dict[str, str]] = {}
    for role, name in found.items():
        unit = word(str(name)) or {"lat": "deg", "lon": "deg"}.get(role, "m/s" if role[0] == "v" else "m")
        if role in ("t", "sec", "nsec"):
            column = table.column(name)
            told_unit = options.time_unit or ("s" if role == "sec" else "ns" if role == "nsec" else None)
            if told_unit is None and (is_datetime(column) or not numeric(column).notna().any()):
                told_unit = "date"
            values = np.empty(0) if told_unit else numeric(column).to_numpy(np.float64, na_value=np.nan)
            unit = told_unit or unit_of(values, name, usual)
        told[role] = {"name": str(name), "unit": unit}
    return told


def times_of(table: Table, found: Mapping[str, str], options: Options, usual: str | None) -> Stamps:
    """Nanoseconds of every row."""
    if "sec" in found and "nsec" in found and not (options.columns or {}).get("t"):
        sec, nsec = table.numbers(found["sec"]), table.numbers(found["nsec"])
        known = np.isfinite(sec) & np.isfinite(nsec) & (np.abs(sec) < 9e9) & (np.abs(nsec) < 1e10)
        whole = np.where(known, sec, 0).astype(np.int64) * 10**9
        return Stamps(whole + np.where(known, nsec, 0).astype(np.int64), known)
    name = found["t"]
    column = with_dates(table, name, table.column(name))
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


def with_dates(table: Table, name: str, column: pd.Series) -> pd.Series:
    """Times of the day with the date that another column has."""
    if pd.api.types.is_numeric_dtype(column) or is_datetime(column):
        return column
    text = column.astype("str").str.strip()
    dates = [other for other in table.rows.columns if plain(str(other)) in DATES and other != name]
    if not dates or not text.head(20).str.match(r"^\d{1,2}:\d{2}").all():
        return column
    return (table.column(dates[0]).astype("str").str.strip() + " " + text).rename(name)


def checked(
    table: Table,
    found: Mapping[str, str],
    options: Options,
    usual: str | None,
    times: Stamps,
    place: np.ndarray,
    parts: list[tuple[list[str], np.ndarray]],
) -> Stamps:
    """The times again in another unit, where the first one implies a rate or speed that cannot be.

    Args:
        place: (rows, D) positions, roughly in metres.
        parts: rows of every track.
    """
    name = found["t"]
    column = table.column(name)
    numbers = column if pd.api.types.is_numeric_dtype(column) else numeric(column)
    if is_datetime(column) or not numbers.notna().any():
        return times
    clock = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    steps, ways = [], []
    for _, rows in parts:
        step, way = np.diff(clock[rows]), np.linalg.norm(np.diff(place[rows], axis=0), axis=1)
        good = (step > 0) & np.isfinite(way)
        steps.append(step[good])
        ways.append(way[good])
    step, way = np.concatenate(steps), np.concatenate(ways)
    if len(step) < 2:
        return times
    used = unit_of(clock, name, usual)
    fastest = FASTEST if "x" in found else FASTEST_ALOFT
    pace = Pace(float(np.median(step)), float(np.median(way)), float(np.nanmax(np.abs(clock))), fastest)
    unit = likelier(pace, used, told=unit_in_name(name) is not None or usual is not None)
    if unit == used:
        return times
    again = times_of(table, found, replace(options, time_unit=unit), usual)
    implied = TIME_UNITS[used] * 1e-9 * pace.step
    remark = (
        f"times in {name!r} are read as {unit}: as {used} there were {1 / implied:.3g} samples a second at "
        f"{pace.metres / implied:.3g} m/s; --read time_unit={used} overrules."
    )
    return replace(again, warnings=(*again.warnings, remark))


def metres(positions: np.ndarray | None, fixes: Places | None) -> np.ndarray:
    """(rows, D) positions, roughly in metres: good enough for a speed."""
    if fixes is None:
        assert positions is not None
        return np.clip(positions, -1e12, 1e12)  # `assemble` names what is no place
    east = fixes.lon * np.cos(np.radians(fixes.lat))
    return 111_320.0 * np.stack([east, fixes.lat], 1)


def even_stamps(count: int, rate: float | None) -> Stamps:
    """Stamps of a file without times."""
    if rate is None:
        raise ValueError("even stamps need a rate")
    return Stamps(np.round(np.arange(count) * (1e9 / rate)).astype(np.int64), np.ones(count, dtype=bool))
