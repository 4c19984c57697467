"""Columns of time -> int64 nanoseconds, without losing a digit on the way.

A float64 of seconds near 1.4e9 is good to 2.4e-7 s only, so integers stay integers, decimal text is read
digit by digit, and differences are taken before anything becomes a float.
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from apps.trajectory.formats.options import TIME_UNITS
from apps.trajectory.formats.table import numeric
from core.errors import DataError

UNIT_IN_NAME = re.compile(
    r"[\[(]\s*(ds|s|sec|secs|seconds?|ms|msec|millis|milliseconds?|us|µs|usec|microseconds?|ns|nsec|nanoseconds?)"
    r"\s*[\])]|_(ds|s|sec|secs|seconds|ms|msec|millis|us|usec|ns|nsec)$|^time(us|ms|ns)$",
    re.I,
)
SPELLINGS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "µs", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nanosecond", "nanoseconds"), "ns"),
}
DECIMAL = r"\s*([+-]?)([0-9]+)(?:\.([0-9]*))?\s*"
RATES = (0.003, 2000.0)
"""Samples per second that recorders give."""
FASTEST, FASTEST_ALOFT = 400.0, 1200.0
"""m/s of movers in local and in geographic coordinates."""
COUNTER_S = 60 * 86400.0
"""A counter that is no date does not run longer."""
EPOCH = (631_152_000.0, 4_102_444_800.0)
"""Dates from 1990 to 2100, seconds since 1970."""
FAR = 7.0
"""So much likelier another unit must be: some powers of ten in rate and speed together."""
SLASHED = re.compile(r"^(\d{1,2})[/.](\d{1,2})[/.](\d{4})[ T]+(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?.*)$")
"""Dates as people write them, with the time behind."""
ORDERS = {"dmy": "day, month, year", "mdy": "month, day, year"}
ZONE = re.compile(r"(Z|[+-][0-9]{2}:?[0-9]{2})$", re.IGNORECASE)
"""What ends a stamp that says where it was read."""
SERIAL, DAYS_1970 = (29_000.0, 60_000.0), 25_569.0
"""Days of a spreadsheet from 1979 to 2064, and 1970 among them."""
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
    word = (found[1] or found[2] or found[3]).lower()
    return SPELLINGS.get(word, word)


def stamps(column: pd.Series, name: str, unit: str | None, usual: str | None = None) -> Stamps:
    """Nanoseconds of a column.

    Args:
        unit: what the caller says; it is believed.
        usual: what the format prescribes; corrected, with a warning, where the values say otherwise.

    Raises:
        DataError: text that is no time, or times beyond the reach of nanoseconds.
    """
    if unit in ORDERS:
        return from_dates(column, name, unit)
    if unit != "iso" and (unit or not is_datetime(column)):
        numbers = column if pd.api.types.is_numeric_dtype(column) else numeric(column)
        if numbers.notna().any() or unit:
            return from_numbers(column, numbers, name, unit, usual)
    return from_dates(column, name)


def is_datetime(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column)


def from_dates(column: pd.Series, name: str, order: str | None = None) -> Stamps:
    """ISO 8601 text or datetimes; a stamp without a zone among others takes that of the one before."""
    warnings: list[str] = []
    if not is_datetime(column):
        if (clock := of_the_day(column, name)) is not None:
            return clock
        column = with_points(day_before_month(column, name, order, warnings))
    zoned = column if is_datetime(column) else with_zones(column, name, warnings)
    try:
        dates = (
            column
            if is_datetime(column)
            else pd.to_datetime(zoned, utc=True, format="ISO8601", errors="coerce")
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
    return Stamps(np.where(known, ns.astype(np.int64), 0), known, tuple(warnings))


CLOCK = re.compile(r"^\s*(?:(\d{1,2}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)\s*$")
"""Hours, minutes, seconds; or minutes and seconds."""


def of_the_day(column: pd.Series, name: str) -> Stamps | None:
    """`10:15:30.25` as nanoseconds of the day, `05:03.2` as minutes and seconds; None where it is neither."""
    parts = column.astype("str").str.extract(CLOCK)
    known = parts[2].notna().to_numpy()
    if not known.any() or known.sum() < column.notna().sum() / 2:
        return None
    hours, minutes, rest = (
        np.nan_to_num(np.asarray(pd.to_numeric(parts[index].str.replace(",", "."), errors="coerce"), float))
        for index in range(3)
    )
    ns = np.round((hours * 3600 + minutes * 60 + rest) * 1e9).astype(np.int64)
    short = parts[0][known].isna().any()
    told = (f"times in {name!r} are read as minutes and seconds.",) if short else ()
    return Stamps(ns, known, told)


DIALECTS = (
    (re.compile(r"\s*(?:UTC|GMT)\s*$"), "Z"),
    (re.compile(r"^\s*(\d{4})/(\d{1,2})/(\d{1,2})(?=[ T]|$)"), r"\1-\2-\3"),
)
"""What some write in a date, and how ISO 8601 does."""


def with_points(column: pd.Series) -> pd.Series:
    """ISO 8601 allows a comma before the fraction of a second; some write the name of the zone behind it, and
    others slashes between year, month and day."""
    text = column.astype("str")
    for found, put in DIALECTS:
        changed = text.str.replace(found, put, regex=True)
        column, text = column.where(changed == text, changed), changed
    commas = text.str.contains(r":\d{2},\d", regex=True)
    return (
        column.where(~commas, text.str.replace(r"(:\d{2}),(\d)", r"\1.\2", regex=True))
        if commas.any()
        else column
    )


def day_before_month(column: pd.Series, name: str, order: str | None, warnings: list[str]) -> pd.Series:
    """`17/07/2026 05:13:00` as ISO 8601; what comes first, day or month, is told by a value above 12, else by
    which of the two lets time go forward.

    Raises:
        DataError: both readings are as good.
    """
    text = column.astype("str").str.strip()
    parts = text.str.extract(SLASHED)
    known = parts[0].notna()
    if not known.any() or known.sum() < column.notna().sum() / 2:
        return column
    numbers: Any = [pd.to_numeric(parts[index][known]) for index in (0, 1)]
    first, second = numbers
    if order is None and (first > 12).any() != (second > 12).any():
        order = "dmy" if (first > 12).any() else "mdy"
    readings = {
        key: parts[2] + "-" + parts[month].str.zfill(2) + "-" + parts[day].str.zfill(2) + "T" + parts[3]
        for key, day, month in (("dmy", 0, 1), ("mdy", 1, 0))
    }
    if order is None:
        dates = {
            key: pd.to_datetime(value[known], utc=True, format="ISO8601", errors="coerce")
            for key, value in readings.items()
        }
        forward = [key for key, value in dates.items() if value.is_monotonic_increasing]
        span = {key: dates[key].max() - dates[key].min() for key in forward}
        if len(forward) == 2 and span["dmy"] != span["mdy"]:
            forward = [min(span, key=lambda key: span[key])]
        if len(forward) != 1:
            ours, theirs = (readings[key][known].iloc[0] for key in ("dmy", "mdy"))
            raise DataError(
                f"column {name!r}: {text[known].iloc[0]!r} is {ours} or {theirs}; --read time_unit=dmy or mdy"
            )
        order = forward[0]
        warnings.append(f"dates in {name!r} are read as {ORDERS[order]}; --read time_unit= overrules.")
    return readings[order].where(known, None)


def with_zones(column: pd.Series, name: str, warnings: list[str]) -> pd.Series:
    """The column with a zone behind every stamp, where some have one and others do not."""
    text = column.astype("str").str.strip()
    zones = text.str.extract(ZONE)[0]
    without = zones.isna() & column.notna() & text.str.contains(":")
    if not without.any() or not zones.notna().any():
        return column
    near = zones.ffill().bfill()
    warnings.append(
        f"{int(without.sum())} stamps in {name!r} have no zone; they take that of their neighbours "
        f"({', '.join(sorted(set(near[without])))})."
    )
    return text.where(~without, text + near.fillna(""))


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
    scale = TIME_UNITS[unit]
    if known.sum() > 2 and is_single(column, values[known]):
        told = grain(values[known], name, unit)
        if told and (np.diff(values[known]) >= 0).all():
            values = values.copy()
            values[known] = evened(values[known])
            column = numbers = pd.Series(values)
            told = [f"{told[0]} They are evened: a line through the stamps of each stretch."]
        warnings += told
    if known.any() and np.abs(values[known]).max() * scale > LIMIT:
        raise DataError(
            f"column {name!r} holds {np.abs(values[known]).max():g} {unit}, which is no time; "
            "--read time_unit=?"
        )
    if unit == "d":  # a spreadsheet counts days since the end of 1899
        values = values - DAYS_1970
        ns = np.round(np.where(known, values, 0) * scale).astype(np.int64)
    elif pd.api.types.is_integer_dtype(numbers):
        ns = numbers.fillna(0).to_numpy(dtype=np.int64) * scale
    elif not pd.api.types.is_numeric_dtype(column):
        ns, exact = from_digits(column, scale)
        rest = known & ~exact
        ns[rest] = np.round(values[rest] * scale).astype(np.int64)
    else:
        ns = np.round(np.where(known, values, 0) * scale).astype(np.int64)
    return Stamps(ns, known, tuple(warnings))


def is_single(column: pd.Series, values: np.ndarray) -> bool:
    """Whether the stamps are single precision, as they are or written out in decimals."""
    if column.dtype == np.float32:
        return True
    if np.abs(values).max() < 2.0**14 or (values == np.round(values)).all():
        return False
    return bool((np.abs(values - values.astype(np.float32)) <= 5e-5).all())


def evened(values: np.ndarray) -> np.ndarray:
    """Stamps on a line of stamp on row within each stretch, as the recorder will have had them."""
    steps = np.diff(values)
    finest = float(np.spacing(np.float32(np.abs(values).max())))
    cuts = np.flatnonzero(steps > 5 * np.median(steps) + 2 * finest) + 1
    found = values.copy()
    for begin, end in pairwise([0, *cuts.tolist(), len(values)]):
        if end - begin > 2:
            row = np.arange(end - begin, dtype=np.float64)
            slope, first = np.polyfit(row, values[begin:end] - values[begin], 1)
            found[begin:end] = values[begin] + first + slope * row
    return found


def grain(values: np.ndarray, name: str, unit: str) -> list[str]:
    """What single precision costs a clock.

    Raises:
        DataError: most stamps have become equal.
    """
    finest = float(np.spacing(np.float32(np.abs(values).max())))
    steps = np.diff(np.sort(values))
    if (steps > 0).sum() < len(steps) / 2:
        raise DataError(
            f"column {name!r} is float32 (single precision), which tells times {finest:g} {unit} apart only; "
            "write float64 or integers, or let --read rate=10 count the samples."
        )
    if finest > np.median(steps[steps > 0]) / 10:
        return [f"times in {name!r} are float32: their digits end at {finest:g} {unit}."]
    return []


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


def unit_of(values: np.ndarray, name: str, usual: str | None) -> str:
    """The unit that `from_numbers` reads a column in when nobody tells."""
    seen, sure = plausible_unit(values[np.isfinite(values)])
    told = unit_in_name(name)
    return told or (seen if sure else usual or seen)


def plausible_unit(values: np.ndarray) -> tuple[str, bool]:
    """Unit by size, where the values are an epoch (sure); seconds otherwise, until `likelier` has looked."""
    if not len(values):
        return "s", False
    size = float(np.median(np.abs(values)))
    for unit, low in (("ns", 1e17), ("us", 1e14), ("ms", 1e11)):
        if size >= low:
            return unit, True
    return "s", False


@dataclass(frozen=True)
class Pace:
    """How a file's tracks go, in whatever its clock counts."""

    step: float
    """Median step of the clock from sample to sample."""
    metres: float
    """Median distance from sample to sample."""
    largest: float
    """Largest reading of the clock."""
    fastest: float = FASTEST
    """m/s that no mover of this kind passes."""

    def cost(self, unit: str) -> float:
        """How unlikely a unit is, by the rate and speed that it implies; infinite for what cannot be."""
        seconds = TIME_UNITS[unit] * 1e-9
        step, largest = self.step * seconds, self.largest * seconds
        speed = self.metres / step
        epoch = EPOCH[0] <= largest <= EPOCH[1]
        if unit == "d" and not SERIAL[0] < self.largest < SERIAL[1]:
            return math.inf
        if not (1 / RATES[1] <= step <= 1 / RATES[0]) or speed > self.fastest:
            return math.inf
        if not (epoch or largest < COUNTER_S or unit == "d"):
            return math.inf
        return math.log10(step * 10) ** 2 + math.log10(max(speed, 0.01) / 5) ** 2


def likelier(pace: Pace, used: str, told: bool) -> str:
    """The unit to read the clock in: the one in use, unless it cannot be or another is far likelier.

    Args:
        told: by the header or the format, so only what cannot be is overruled.
    """
    costs = {unit: pace.cost(unit) for unit in (used, "s", "ms", "us", "ns", "d")}
    best = min(costs, key=lambda unit: costs[unit])
    if costs[best] == math.inf or best == used:
        return used
    return best if costs[used] == math.inf or (not told and costs[used] - costs[best] > FAR) else used
