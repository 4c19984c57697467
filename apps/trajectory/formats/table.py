"""Text tables: separator, header and comments found from the first lines, the rest parsed by pandas."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from apps.trajectory.formats.held import COLUMNS, ROWS, check_held, used
from apps.trajectory.formats.names import IDS, plain
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.source import MAX_LINE
from apps.trajectory.formats.units import UNIT_WORDS
from core.errors import DataError

LONG_NUMBER = re.compile(r"[0-9]{9,}\.[0-9]+|[0-9]{16,}")
"""More digits than a float64 keeps."""
MISSING = {"", "nan", "na", "n/a", "null", "none", "inf", "+inf", "-inf", "infinity", "-infinity", "-nan"}
MAX_COLUMNS = 10_000
BLOCK = 8 << 20
PIECE = 4 << 20
"""Cells that are taken apart at once."""
NEWLINE, HASH = 10, 35
BLANK = np.zeros(256, dtype=bool)
BLANK[list(b" \t\r\v\f")] = True


@dataclass(frozen=True)
class Table:
    """Rows of a file; columns are named by the header, or "0", "1", ... without one."""

    path: Path
    rows: pd.DataFrame
    """Those columns that may mean something."""
    named: bool
    """Whether the names come from the file."""
    sure: bool = True
    """False where the names come from a comment, which may be prose."""
    text: bytes = field(default=b"", repr=False)
    names: tuple[str, ...] = ()
    """Of all columns in the file, for messages."""
    said: tuple[str, ...] = ()
    """What was repaired."""

    @property
    def listed(self) -> str:
        """The first names of the file, for messages."""
        names = self.names or tuple(str(name) for name in self.rows.columns)
        return ", ".join(name[:40] for name in names[:20])

    def line_of(self, row: int) -> int | None:
        """Line number of a row, counted from 1; None where rows have no lines."""
        wanted = row + (1 if self.named and self.sure else 0)
        for numbers, _ in content(self.text):
            if wanted < len(numbers):
                return int(numbers[wanted])
            wanted -= len(numbers)
        return None

    def column(self, name: str) -> pd.Series:
        """One column; names are unique."""
        return cast(pd.Series, self.rows[name])

    def numbers(self, name: str) -> np.ndarray:
        """(rows,) float64, NaN where the cell is empty.

        Raises:
            DataError: a cell with other text, named by its line.
        """
        column = self.column(name)
        try:
            values = numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{self.path}: column {name!r} holds no numbers ({error}).") from None
        if not pd.api.types.is_numeric_dtype(column):
            for row in np.flatnonzero(np.isnan(values) & column.notna().to_numpy()):
                cell = str(column.iloc[row]).strip()
                if cell.lower() not in MISSING:
                    line = self.line_of(int(row))
                    where = f" line {line}" if line else f" row {row + 1}"
                    raise DataError(f"{self.path}{where}: {name} is {cell[:40]!r}, not a number.")
        return values


def numeric(column: pd.Series) -> pd.Series:
    """Numbers of a column, missing where a cell holds something else."""
    try:
        return cast(pd.Series, pd.to_numeric(column, errors="coerce"))
    except OverflowError:  # whole numbers of more than three hundred digits
        short = column.astype("str").str.len() < 300
        return cast(pd.Series, pd.to_numeric(column.where(short), errors="coerce"))


def content(text: bytes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(numbers, offsets) of the lines that are neither empty nor a comment, a block of the text at a time.

    Lines are told apart by arrays: a file of a hundred million comments is passed in seconds.
    """
    begin, passed = 0, 0
    while begin < len(text):
        end = len(text) if begin + BLOCK >= len(text) else text.rfind(b"\n", begin, begin + BLOCK) + 1
        if end <= begin:  # a line longer than a block
            end = text.find(b"\n", begin) + 1 or len(text)
        block = np.frombuffer(text, np.uint8, end - begin, begin)
        breaks = np.flatnonzero(block == NEWLINE)
        starts = np.concatenate([[0], breaks + 1]) if block[-1] != NEWLINE else np.append(0, breaks[:-1] + 1)
        ends = np.append(breaks, len(block)) if block[-1] != NEWLINE else breaks
        first = starts.copy()
        blank = (first < ends) & BLANK[block[np.minimum(first, len(block) - 1)]]
        if blank.any():  # few lines begin with a blank; only for them is the first other byte looked for
            other = np.append(np.flatnonzero(~BLANK[block]), len(block))
            first = other[np.searchsorted(other, starts)]
        filled = first < ends
        filled[filled] = block[first[filled]] != HASH
        yield passed + 1 + np.flatnonzero(filled), begin + starts[filled]
        passed += len(breaks)
        begin = end


def line_at(text: bytes, offset: int) -> bytes:
    """The line that begins there, with its tabs: at either end they are the borders of empty cells."""
    end = text.find(b"\n", offset)
    return text[offset : end if end >= 0 else len(text)].strip(b" \r\v\f")


def parse(path: Path, text: bytes, options: Options | None = None) -> Table:
    """Rows of CSV, semicolon, tab or blank separated text; of a table with a header the columns in use.

    Raises:
        DataError: no rows, rows of different length, or more than can be held.
    """
    found = ((n, o) for numbers, offsets in content(text) for n, o in zip(numbers, offsets, strict=True))
    begin = next(found, None)
    if begin is None:
        raise DataError(f"{path}: there are comments and no data.")
    number, offset = int(begin[0]), int(begin[1])
    after = next(found, None)
    line = line_at(text, offset)
    second = line if after is None else line_at(text, int(after[1]))
    separator = separator_of(second)
    names = cells(line.lstrip(b"%"), separator)
    header = not any(is_number(name) for name in names)
    said: list[str] = []
    if header and after is not None and is_units(cells(second, separator)):
        names = with_units(names, cells(second, separator))
        said.append("the row below the header is read as its units.")
        after = next(found, None)
        second = line if after is None else line_at(text, int(after[1]))
    if header and after is None:
        raise DataError(f"{path}: there is a header and no data.")
    sample = cells(second, separator) if header else names
    sure = header
    if not header:
        filled = max((place + 1 for place, cell in enumerate(sample) if cell), default=0)
        names = comment_names(text, offset, separator, filled)
        names += [""] * (len(sample) - len(names) if names else 0)
    if max(len(sample), len(names)) > MAX_COLUMNS:
        raise DataError(f"{path}: {max(len(sample), len(names))} columns are no track.")
    if header and len(names) < len(sample):
        names = as_long_as(names, sample, said)
    called = unique(names) if names else [str(index) for index in range(len(sample))]
    chosen = set(used(called, options)) if header and options is not None else set(called)
    keep = [index for index, name in enumerate(called) if name in chosen] or [0]
    start = int(after[1]) if header and after is not None else offset
    check_held(path, rows_after(text, start), len(keep) if header else min(len(keep), COLUMNS))
    long = {index: "str" for index, cell in enumerate(sample) if LONG_NUMBER.fullmatch(cell.lstrip("+-"))}
    # an id is a name: 39e102 is no number, and 007 is not 7
    long |= {index: "str" for index, name in enumerate(names) if plain(name) in IDS}
    decimal = "," if separator == ";" and any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in sample) else "."
    first_line = (int(after[0]) if header and after is not None else number) - 1
    shape: dict[str, Any] = {
        "sep": r"\s+" if separator is None else separator,
        "names": range(len(called)),
        "decimal": decimal,
    }
    try:
        whole = without_a_cut_quote(text, start, said)
        rows = pieces(whole, start, keep, long, shape)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: rows are not alike ({pandas_words(error, first_line)}).") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: no table can be read ({error}).") from None
    rows.columns = [called[index] for index in keep]
    if not len(rows):
        raise DataError(f"{path}: there is a header and no data.")
    if header:
        rows = without_headers(rows, said)
    if not names:  # rows that end in separators
        held = max(1, 1 + int(np.flatnonzero(rows.notna().any()).max(initial=0)))
        rows, called = rows.iloc[:, :held], called[:held]
    return Table(path, rows, bool(names), sure, text, tuple(called), tuple(said))


def is_units(found: Sequence[str]) -> bool:
    """Whether the cells of a row are units of measure, most of them known ones."""
    words = [cell.strip("[]() ").lower() for cell in found]
    known = sum(word in UNIT_WORDS for word in words)
    return known >= 2 and all(
        word in UNIT_WORDS or (word in ("", "-") or not is_number(word)) for word in words
    )


def with_units(names: Sequence[str], units: Sequence[str]) -> list[str]:
    """Names with their units behind them, as headers in one row have them."""
    words = [cell.strip("[]() ") for cell in units] + [""] * len(names)
    return [
        f"{name} [{unit}]" if unit.lower() in UNIT_WORDS else name
        for name, unit in zip(names, words, strict=False)
    ]


def as_long_as(names: Sequence[str], sample: Sequence[str], said: list[str]) -> list[str]:
    """A header for rows that are longer: R numbers its rows without a name, others end them in separators."""
    more = len(sample) - len(names)
    if more == 1 and sample[0] in ("0", "1") and sample[-1]:
        said.append(
            "the header has no name for the first cell of the rows, a number of the row; it is added."
        )
        return ["row", *names]
    if any(sample[len(names) :]):
        said.append(
            f"rows have {len(sample)} cells, the header {len(names)} names; what has no name is left out."
        )
    return [*names, *("" for _ in range(more))]


def without_a_cut_quote(text: bytes, start: int, said: list[str]) -> bytes:
    """The text without a last line that ends inside a quoted cell."""
    last = text.rfind(b"\n", start, len(text)) + 1
    if last <= start or text.endswith(b"\n") or text.count(b'"', last) % 2 == 0:
        return text
    said.append("the last line ends inside a quoted cell; left out.")
    return text[:last]


def without_headers(rows: pd.DataFrame, said: list[str]) -> pd.DataFrame:
    """Rows that are the header again, where logs were put behind each other, are left out."""
    words = [name for name in rows.columns if not pd.api.types.is_numeric_dtype(rows[name])]
    if not words:
        return rows
    again = np.ones(len(rows), dtype=bool)
    for name in words:
        again &= rows[name].astype("str").str.strip().eq(str(name).strip()).to_numpy()
    if not again.any() or again.all():
        return rows
    said.append(f"the header comes again {int(again.sum())} times; left out.".replace(" 1 times", " once"))
    return rows.loc[~again].reset_index(drop=True)


def pieces(
    text: bytes, start: int, keep: Sequence[int], kinds: Mapping[int, str], shape: Mapping[str, Any]
) -> pd.DataFrame:
    """The columns `keep` from the byte `start` on, read in pieces; each is of one type throughout."""
    body = io.BytesIO(text)
    body.seek(start)
    with pd.read_csv(
        body,
        header=None,
        index_col=False,
        comment="#",
        skipinitialspace=True,
        dtype=dict(kinds),  # type: ignore[arg-type]
        low_memory=False,
        on_bad_lines="error",
        chunksize=max(1, PIECE // len(shape["names"])),
        **shape,
    ) as reader:
        found = [piece[list(keep)] for piece in reader]
    words = [
        index for index in keep if len({pd.api.types.is_numeric_dtype(part[index]) for part in found}) > 1
    ]
    if words:  # numbers in one piece, text in another: what would be numbers keeps its digits as text
        return pieces(text, start, keep, {**kinds, **dict.fromkeys(words, "str")}, shape)
    return pd.concat(found, ignore_index=True) if len(found) > 1 else found[0]


def rows_after(text: bytes, start: int) -> int:
    """At most so many rows; comments are looked at only where there might be too many."""
    count = text.count(b"\n", start) + 1
    if count > ROWS:
        count = sum(int((offsets >= start).sum()) for _, offsets in content(text))
    return count


def pandas_words(error: Exception, lines: int) -> str:
    """The parser's message in one line; it does not know of the lines above the data."""
    words = " ".join(str(error).removeprefix("Error tokenizing data. C error: ").lower().split())
    return re.sub(r"in line (\d+)", lambda found: f"in line {int(found[1]) + lines}", words)


def separator_of(line: bytes) -> str | None:
    """`;`, tab or comma where the line has one, else None for blanks."""
    for separator in (b";", b"\t", b","):
        if separator in line.strip():
            return separator.decode()
    return None


def cells(line: bytes, separator: str | None) -> list[str]:
    """Cells of one line, without quotes and blanks; a separator inside quotes makes no cell."""
    text = line.decode(errors="replace")
    text = text.strip("\r\n " if separator == "\t" else None)
    parts = text.split() if separator is None else text.split(separator)
    if separator is not None and '"' in text:
        try:
            parts = next(csv.reader([text], delimiter=separator, skipinitialspace=True))
        except (csv.Error, StopIteration):
            pass  # quotes that are none
    return [cell.strip().strip('"').strip() for cell in parts]


def is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return True


def comment_names(text: bytes, offset: int, separator: str | None, count: int) -> list[str]:
    """Names from the last comment above the data (`#timestamp, p_RS_R_x [m], ...`) where they fit."""
    above = text[max(0, offset - MAX_LINE) : offset].rstrip()
    last = above[above.rfind(b"\n") + 1 :].strip()
    names = cells(last.lstrip(b"#% "), separator)
    fits = len(names) == count and all(names) and not any(is_number(name) for name in names)
    return names if fits else []


def unique(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that repeat or are empty; none twice, whatever the file has."""
    given, taken, counts = set(names), set(), dict[str, int]()
    found = []
    for index, name in enumerate(names):
        base = name or f"column {index}"
        new, number = base, counts.get(base, 0)
        while new in taken or (number and new in given):
            number += 1
            new = f"{base}.{number}"
        counts[base] = number
        taken.add(new)
        found.append(new)
    return found
