"""Columns of time -> int64 nanoseconds, without losing a digit on the way.

A float64 of seconds near 1.4e9 is good to 2.4e-7 s only, so integers stay integers, decimal text is read
digit by digit, and differences are taken before anything becomes a float.
"""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from apps.trajectory.formats.options import TIME_UNITS
from apps.trajectory.formats.table import numeric
from core.errors import DataError

UNIT_IN_NAME = re.compile(
    r"[\[(]\s*(s|sec|secs|seconds|ms|us|µs|ns)\s*[\])]|_(s|sec|secs|seconds|ms|msec|us|usec|ns|nsec)$", re.I
)
SPELLINGS = {"sec": "s", "secs": "s", "seconds": "s", "msec": "ms", "usec": "us", "µs": "us", "nsec": "ns"}
DECIMAL = r"\s*([+-]?)([0-9]+)(?:\.([0-9]*))?\s*"
LIMIT = 9.2e18
"""int64 nanoseconds reach 292 years from 1970."""


@dataclass(frozen=True)
class Stamps:
    """Times of all rows; where `known` is false the row has none."""

    ns: np.ndarray
    known: np.ndarray
    warnings: tuple[str, ...] = ()


def unit_in_name(name: str) -> str | None:
    """`timestamp [ns]`, `time_us` -> their unit."""
    found = UNIT_IN_NAME.search(name.strip())
    if not found:
        return None
    word = (found[1] or found[2]).lower()
    return SPELLINGS.get(word, word)


def stamps(column: pd.Series, name: str, unit: str | None, usual: str | None = None) -> Stamps:
    """Nanoseconds of a column.

    Args:
        unit: what the caller says; it is believed.
        usual: what the format prescribes; corrected, with a warning, where the values say otherwise.

    Raises:
        DataError: text that is no time, or times beyond the reach of nanoseconds.
    """
    if unit != "iso" and (unit or not is_datetime(column)):
        numbers = column if pd.api.types.is_numeric_dtype(column) else numeric(column)
        if numbers.notna().any() or unit:
            return from_numbers(column, numbers, name, unit, usual)
    return from_dates(column, name)


def is_datetime(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column)


def from_dates(column: pd.Series, name: str) -> Stamps:
    """ISO 8601 text or datetimes."""
    try:
        dates = (
            column
            if is_datetime(column)
            else pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
        )
        if dates.dt.tz is not None:
            dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
        ns = dates.astype("datetime64[ns]").to_numpy()
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(
            f"column {name!r} holds no times ({error}); --read columns=t=... names another."
        ) from None
    known = ~np.isnat(ns)
    if not known.any():
        raise DataError(f"column {name!r} holds no numbers and no ISO 8601 times.")
    return Stamps(np.where(known, ns.astype(np.int64), 0), known)


def from_numbers(
    column: pd.Series, numbers: pd.Series, name: str, unit: str | None, usual: str | None
) -> Stamps:
    """Numbers in a unit that is told, named, or seen from their size and step."""
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(values)
    warnings = []
    if unit is None:
        seen, sure = plausible_unit(values[known])
        told = unit_in_name(name)
        unit = told or usual or seen
        if told is None and sure and seen != unit:
            warnings.append(f"times in {name!r} are read as {seen}, not {unit}, by their size.")
            unit = seen
        elif told is None and usual is None and seen != "s" and not sure:
            warnings.append(
                f"times in {name!r} are read as {seen} by their step; --read time_unit=UNIT overrules."
            )
    scale = TIME_UNITS[unit]
    if known.any() and np.abs(values[known]).max() * scale > LIMIT:
        raise DataError(
            f"column {name!r} holds {np.abs(values[known]).max():g} {unit}, which is no time; "
            "--read time_unit=?"
        )
    if pd.api.types.is_integer_dtype(numbers):
        ns = numbers.fillna(0).to_numpy(dtype=np.int64) * scale
    elif not pd.api.types.is_numeric_dtype(column):
        ns, exact = from_digits(column, scale)
        rest = known & ~exact
        ns[rest] = np.round(values[rest] * scale).astype(np.int64)
    else:
        ns = np.round(np.where(known, values, 0) * scale).astype(np.int64)
    return Stamps(ns, known, tuple(warnings))


def from_digits(column: pd.Series, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Decimal text times an integer scale, exactly, and which rows were plain decimals."""
    parts = column.astype("str").str.extract(f"^{DECIMAL}$")
    whole = parts[1].fillna("")
    digits = len(str(scale)) - 1
    exact = ((whole != "") & (whole.str.len() <= 18 - digits + 1)).to_numpy()
    fraction = parts[2].fillna("").str.slice(0, digits).str.pad(digits, side="right", fillchar="0")
    ns = np.zeros(len(column), dtype=np.int64)
    upper = whole[exact].to_numpy(dtype=object).astype(np.int64) * scale
    lower = fraction[exact].to_numpy(dtype=object).astype(np.int64) if digits else 0
    ns[exact] = np.where(parts[0][exact] == "-", -1, 1) * (upper + lower)
    return ns, exact


def plausible_unit(values: np.ndarray) -> tuple[str, bool]:
    """Unit by size (an epoch, sure) or else by the median step (a guess)."""
    if not len(values):
        return "s", False
    size = float(np.median(np.abs(values)))
    for unit, low in (("ns", 1e17), ("us", 1e14), ("ms", 1e11)):
        if size >= low:
            return unit, True
    steps = np.abs(np.diff(values))
    steps = steps[steps > 0]
    step = float(np.median(steps)) if len(steps) else 0.0
    for unit, low in (("ns", 1e6), ("us", 1e3), ("ms", 20.0)):
        if step >= low:
            return unit, False
    return "s", False
