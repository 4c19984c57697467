"""Text tables: separator, header and comments found from the first lines, the rest parsed by pandas."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from apps.trajectory.formats.names import IDS, plain
from core.errors import DataError

LONG_NUMBER = re.compile(r"[0-9]{9,}\.[0-9]+|[0-9]{16,}")
"""More digits than a float64 keeps."""
MISSING = {"", "nan", "na", "n/a", "null", "none", "inf", "+inf", "-inf", "infinity", "-infinity", "-nan"}
MAX_COLUMNS = 10_000


@dataclass(frozen=True)
class Table:
    """Rows of a file; columns are named by the header, or "0", "1", ... without one."""

    path: Path
    rows: pd.DataFrame
    named: bool
    """Whether the names come from the file."""
    sure: bool = True
    """False where the names come from a comment, which may be prose."""
    text: bytes = field(default=b"", repr=False)

    def line_of(self, row: int) -> int | None:
        """Line number of a row, counted from 1; None where rows have no lines."""
        skip = 1 if self.named and self.sure else 0
        for index, number in enumerate(number for number, _ in content(self.text)):
            if index == row + skip:
                return number
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
    return cast(pd.Series, pd.to_numeric(column, errors="coerce"))


def content(text: bytes) -> Iterator[tuple[int, bytes]]:
    """(line number, line) of every line that is neither empty nor a comment."""
    for number, line in enumerate(io.BytesIO(text), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            yield number, stripped


def parse(path: Path, text: bytes) -> Table:
    """Rows of CSV, semicolon, tab or blank separated text.

    Raises:
        DataError: no rows, or rows of different length.
    """
    lines = content(text)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: there are comments and no data.")
    second = next(lines, None)
    separator = separator_of((second or first)[1])
    names = cells(first[1].lstrip(b"%"), separator)
    header = not any(is_number(name) for name in names)
    if header and second is None:
        raise DataError(f"{path}: there is a header and no data.")
    sample = cells((second or first)[1], separator) if header else names
    sure = header
    if not header:
        names = comment_names(text, first[0], separator, len(sample))
    if len(sample) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(sample)} columns are no track.")
    if header and len(names) < len(sample):
        raise DataError(
            f"{path} line {first[0]}: the header has {len(names)} names, the next row {len(sample)} cells."
        )
    count = len(names) if names else len(sample)
    long = {index: "str" for index, cell in enumerate(sample) if LONG_NUMBER.fullmatch(cell.lstrip("+-"))}
    # an id is a name: 39e102 is no number, and 007 is not 7
    long |= {index: "str" for index, name in enumerate(names) if plain(name) in IDS}
    decimal = "," if separator == ";" and any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in sample) else "."
    try:
        rows = pd.read_csv(
            io.BytesIO(text),
            sep=r"\s+" if separator is None else separator,
            header=None,
            names=range(count),
            index_col=False,
            skiprows=first[0] if header else first[0] - 1,
            comment="#",
            skipinitialspace=True,
            dtype=long,  # type: ignore[arg-type]
            decimal=decimal,
            low_memory=False,
            on_bad_lines="error",
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: rows are not alike ({pandas_words(error)}).") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: no table can be read ({error}).") from None
    rows.columns = unique(names) if names else [str(index) for index in range(count)]
    if not len(rows):
        raise DataError(f"{path}: there is a header and no data.")
    return Table(path, rows, bool(names), sure, text)


def pandas_words(error: Exception) -> str:
    """The parser's message in one line."""
    return " ".join(str(error).removeprefix("Error tokenizing data. C error: ").lower().split())


def separator_of(line: bytes) -> str | None:
    """`;`, tab or comma where the line has one, else None for blanks."""
    for separator in (b";", b"\t", b","):
        if separator in line:
            return separator.decode()
    return None


def cells(line: bytes, separator: str | None) -> list[str]:
    """Cells of one line, without quotes and blanks; a separator inside quotes makes no cell."""
    text = line.decode(errors="replace").strip()
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


def comment_names(text: bytes, first: int, separator: str | None, count: int) -> list[str]:
    """Names from the last comment above the data (`#timestamp, p_RS_R_x [m], ...`) where they fit."""
    last = b""
    for number, line in enumerate(io.BytesIO(text), 1):
        if number >= first:
            break
        last = line.strip() or last
    names = cells(last.lstrip(b"#% "), separator)
    fits = len(names) == count and all(names) and not any(is_number(name) for name in names)
    return names if fits else []


def unique(names: list[str]) -> list[str]:
    """Names with a number behind those that repeat or are empty."""
    seen: dict[str, int] = {}
    found = []
    for index, name in enumerate(names):
        name = name or f"column {index}"
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}.{seen[name] - 1}")
    return found
