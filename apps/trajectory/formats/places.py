"""Latitude, longitude, altitude -> metres east, north, up of a track's first good fix."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from apps.trajectory.formats.assemble import plural
from apps.trajectory.formats.table import Table, numeric
from apps.trajectory.formats.units import LENGTHS, degrees, factor
from apps.trajectory.geo import Origin, to_enu
from core.errors import DataError

NOWHERE = 1e-3
"""Degrees around 0, 0 that a receiver without a fix reports."""
HIGHEST_M = 20_000.0
"""Altitudes above it, beside places in 1e-7 degrees, are millimetres."""
LOST_M = 20.0
"""An altitude of exactly 0 between two that are farther from it is none."""
FIRST_M = 5.0
"""A first altitude above it says that the zeros before it were none."""


@dataclass(frozen=True)
class Places:
    """Degrees and metres of every row; altitude None where the file has none."""

    lat: np.ndarray
    lon: np.ndarray
    alt: np.ndarray | None


def places(table: Table, found: Mapping[str, str], warnings: list[str], unit: str | None = None) -> Places:
    """Geographic columns, in degrees and metres; a fix at 0, 0 or beyond the poles is none.

    Raises:
        DataError: no finite place, or numbers that are none.
    """
    lat, lon = angles(table, found["lat"]), angles(table, found["lon"])
    told_units = [degrees(found[axis]) for axis in ("lat", "lon")]
    lat, lon = (axis * (unit or 1.0) for axis, unit in zip((lat, lon), told_units, strict=True))
    alt = None
    if "alt" in found:
        alt = table.numbers(found["alt"]) * (factor(found["alt"]) if unit is None else LENGTHS[unit])
    if alt is None or not np.isfinite(alt).any():
        warnings.append("no altitude; taken as 0.")
        alt = None
    finite = np.isfinite(lat) & np.isfinite(lon)
    if not finite.any():
        raise DataError(f"{table.path}: no row with a finite latitude and longitude.")
    there = finite & ((lat != 0) | (lon != 0))  # one wild number says nothing of the unit
    usual = (
        max((float(np.median(np.abs(axis[there]))) for axis in (lat, lon)), default=0.0)
        if there.any()
        else 0.0
    )
    if 360 < usual <= 1.8e9:
        lat, lon = lat * 1e-7, lon * 1e-7
        told = "latitude and longitude are read as 1e-7 degrees"
        if alt is not None and unit is None and np.nanmedian(np.abs(alt)) > HIGHEST_M:
            alt, told = alt * 1e-3, f"{told}, altitude as millimetres"
        warnings.append(f"{told}.")
    wrong = finite & ((np.abs(lat) > 90) | (np.abs(lon) > 360))
    if wrong.sum() > finite.sum() / 2:
        row = int(np.flatnonzero(wrong)[0])
        where = f" line {table.line_of(row)}" if table.text else ""
        raise DataError(
            f"{table.path}{where}: latitude {lat[row]:g}, longitude {lon[row]:g} is no place; swapped?"
        )
    if wrong.any():  # 91 and 181 are what AIS says when it does not know
        warnings.append(
            f"{plural(int(wrong.sum()), 'row')} with a latitude or longitude that is no place left out."
        )
        lat, lon = np.where(wrong, np.nan, lat), np.where(wrong, np.nan, lon)
        finite &= ~wrong
    nowhere = finite & (np.abs(lat) < NOWHERE) & (np.abs(lon) < NOWHERE)
    if nowhere.any() and not nowhere[finite].all():
        warnings.append(
            f"{int(nowhere.sum())} rows at latitude 0, longitude 0 left out: a receiver without a fix."
        )
        lat, lon = np.where(nowhere, np.nan, lat), np.where(nowhere, np.nan, lon)
    return Places(lat, lon, alt)


HEMISPHERES = re.compile(
    r"""\s*(?P<before>[NSEW])?\s*(?P<degrees>[+-]?\d+(?:\.\d*)?)\s*\N{DEGREE SIGN}?\s*
    (?:(?P<minutes>\d+(?:\.\d*)?)\s*['\N{PRIME}\N{RIGHT SINGLE QUOTATION MARK}]\s*)?
    (?:(?P<seconds>\d+(?:\.\d*)?)\s*(?:["\N{DOUBLE PRIME}\N{RIGHT DOUBLE QUOTATION MARK}]|'')\s*)?
    (?P<after>[NSEW])?\s*""",
    re.VERBOSE | re.IGNORECASE,
)
"""`47.5N`, `S 33.1`, `8 degrees 30' 15" E` (with the signs of degrees, minutes and seconds)."""


def angles(table: Table, name: str) -> np.ndarray:
    """(rows,) numbers of a column, or degrees where its cells name a hemisphere.

    Raises:
        DataError: a cell that is neither, named by its line.
    """
    column = table.column(name)
    if pd.api.types.is_numeric_dtype(column):
        return table.numbers(name)
    text = column.astype("str").str.strip()
    parts = text.str.extract(HEMISPHERES.pattern, flags=HEMISPHERES.flags)
    side = parts["before"].fillna(parts["after"]).str.upper()
    whole = text.str.fullmatch(HEMISPHERES.pattern, flags=HEMISPHERES.flags) & side.notna()
    if not whole.any():
        return table.numbers(name)
    found = np.zeros(len(text))
    for part, share in (("degrees", 1), ("minutes", 60), ("seconds", 3600)):
        values = numeric(parts[part]).to_numpy(np.float64, na_value=np.nan)
        found += np.nan_to_num(values) / share
    found[side.isin(["S", "W"]).to_numpy()] *= -1
    return np.where(whole.to_numpy(bool), found, np.nan)


def local(
    places: Places, rows: np.ndarray, ns: np.ndarray, warnings: list[str]
) -> tuple[np.ndarray, Origin | None]:
    """Positions (n, 3) of one track in metres of its first good fix, and where that is.

    Altitude that comes more slowly than places is filled in between and held before its first value; after
    its last it goes on for one of its own steps.

    Args:
        rows: of the track.
        ns: (n,) their times.
    """
    lat, lon = places.lat[rows], places.lon[rows]
    good = np.isfinite(lat) & np.isfinite(lon)
    alt = np.zeros(len(rows)) if places.alt is None else places.alt[rows].copy()
    if places.alt is not None:
        alt = filled(alt, ns, good, warnings)
    good &= np.isfinite(alt)
    if not good.any():
        return np.full((len(rows), 3), np.nan), None
    first = int(np.flatnonzero(good)[0])
    origin = (float(lat[first]), float(lon[first]), float(alt[first]))
    return to_enu(np.stack([lat, lon, alt], 1), origin), origin


def before_and_after(alt: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Of every row the lesser altitude of those before and after that are not 0; 0 at the ends."""
    if not real.any():
        return np.zeros(len(alt))
    index = np.flatnonzero(real)
    at = np.searchsorted(index, np.arange(len(alt)))
    inside = (at > 0) & (at < len(index))
    near = alt[index[np.clip(at - 1, 0, len(index) - 1)]], alt[index[np.clip(at, 0, len(index) - 1)]]
    same = np.sign(near[0]) == np.sign(near[1])
    return np.where(inside & same, np.sign(near[0]) * np.minimum(np.abs(near[0]), np.abs(near[1])), 0.0)


def filled(alt: np.ndarray, ns: np.ndarray, good: np.ndarray, warnings: list[str]) -> np.ndarray:
    """Altitude at every row, in between by time."""
    known = np.isfinite(alt)
    real = np.flatnonzero(known & (alt != 0))
    if len(real) and real[0] > 0 and abs(alt[real[0]]) > FIRST_M and known[: real[0]].any():
        warnings.append(f"altitude begins with {int(known[: real[0]].sum())} zeros, which are taken as none.")
        known[: real[0]] = False
    lost = known & good & (alt == 0) & (np.abs(alt - before_and_after(alt, known & (alt != 0))) > LOST_M)
    if lost.any():
        warnings.append(f"altitude falls to 0 in {int(lost.sum())} rows, which are taken as none.")
        known &= ~lost
    holes = int((good & ~known).sum())
    if not holes:
        return np.where(known, alt, np.nan)
    if not known.any():
        warnings.append("no altitude; taken as 0.")
        return np.zeros(len(alt))
    warnings.append(f"altitude is missing in {holes} rows; filled in from the others by time.")
    order = np.argsort(ns[known], kind="stable")
    stamps, heights = ns[known][order], alt[known][order]
    found = np.interp(ns, stamps, heights)
    if len(stamps) > 1:
        # within one of its own steps after the last value it goes on as it went; later nobody knows
        late = np.clip(ns - stamps[-1], 0, np.median(np.diff(stamps)))
        found = found + late * ((heights[-1] - heights[-2]) / max(stamps[-1] - stamps[-2], 1))
    return np.where(known, alt, found)
