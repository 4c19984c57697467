"""Index tables: a CSV whose cells are paths beside it, texts and numbers; errors name row and column."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.errors import ConfigError, DataError
from core.files import read_bytes, write_text
from core.text import from_cell, in_cell

LIMIT = 64 << 20
"""Bytes that an index may unpack to."""
CELLS = 4_000_000
"""Cells that an index may have; each is a text of its own in memory."""
DELIMITERS = ",;\t"
Number = TypeVar("Number", int, float)


def finite(text: str) -> float:
    """A number that is one.

    Raises:
        ValueError: it is none, or not finite.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


@dataclass(frozen=True)
class IndexRow:
    """One row of an index."""

    table: Path
    line: int
    """Number of its line in the file, from 1."""
    values: Mapping[str, str]

    def wrong(self, column: str, what: str) -> DataError:
        """An error that names table, line and column."""
        return DataError(f"{self.table} line {self.line}, column {column}: {what}")

    def text(self, column: str, default: str | None = None) -> str:
        """A cell; empty or missing ones are the default.

        Raises:
            DataError: empty or missing, and there is no default.
        """
        value = self.values.get(column, "")
        if value:
            return value
        if default is None:
            raise self.wrong(column, "empty.")
        return default

    def number(self, column: str, default: float | None = None) -> float:
        """A finite number.

        Raises:
            DataError: it is none, or empty without a default.
        """
        return self.read(column, finite, "a finite number", default)

    def whole(self, column: str, default: int | None = None) -> int:
        """A whole number.

        Raises:
            DataError: it is none, or empty without a default.
        """
        return self.read(column, int, "a whole number", default)

    def read(self, column: str, kind: Callable[[str], Number], what: str, default: Number | None) -> Number:
        """A cell as `kind` reads it; empty ones are the default."""
        text = self.text(column, "" if default is not None else None)
        if not text and default is not None:
            return default
        try:
            return kind(text)
        except ValueError:
            raise self.wrong(column, f"expected {what}, got {text[:40]!r}.") from None

    def path(self, column: str) -> Path:
        """The path of a cell, from the folder of the table; whether a file is there is not looked at."""
        text = self.text(column)
        if "\0" in text:
            raise self.wrong(column, "a path with a zero byte.")
        return self.table.parent / text

    def file(self, column: str) -> Path:
        """The path of a cell that must be a file.

        Raises:
            DataError: it is not there.
        """
        path = self.path(column)
        if not path.is_file():
            raise self.wrong(column, f"no file {path}.")
        return path


def read_index(
    path: str | Path, required: Sequence[str], *, split: str | None = None, optional: Sequence[str] = ()
) -> list[IndexRow]:
    """Rows of an index with a header, in UTF-8, separated by commas, semicolons or tabs; packed ones too.

    Args:
        required: columns that there must be; others are kept.
        split: only rows whose column `split` says so.
        optional: known columns that may be missing; for the message only.

    Raises:
        DataError: not a table, a column is missing or there twice, a row is longer or shorter than the
            header, or there is no row (of this split).
    """
    path = Path(path)
    try:
        text = read_bytes(path, LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start}).") from error
    if "\0" in text:
        raise DataError(f"{path}: not a table of text (it holds zero bytes).")
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = delimiter_of(first)
    if text.count("\n") * (first.count(delimiter) + 1) > CELLS:
        raise DataError(f"{path}: more than {CELLS:,} cells; an index lists files, so cut it into parts.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[IndexRow] = []
    head: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not head:
                head = header(path, cells, required, optional)
                continue
            if len(cells) != len(head):
                raise DataError(
                    f"{path} line {reader.line_num}: {len(cells)} cells, the header has {len(head)}."
                )
            values = {name: from_cell(cell.strip()) for name, cell in zip(head, cells, strict=True)}
            rows.append(IndexRow(path, reader.line_num, values))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: not CSV ({error}).") from error
    if not head:
        header(path, [], required, optional)
    if split is not None:
        rows = of_split(path, rows, head, split)
    if not rows:
        raise DataError(f"{path}: a header without rows.")
    return rows


def delimiter_of(head: str) -> str:
    """What stands between the columns of a table, by its header."""
    return max(DELIMITERS, key=head.count)


def header(path: Path, cells: Sequence[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Names of the columns, checked."""
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}.")
    missing = [name for name in required if name not in names]
    if missing:
        more = f" (and may have {', '.join(optional)})" if optional else ""
        has = ", ".join(name[:40] for name in names[:12]) or "no header"
        raise DataError(
            f"{path}: no column {missing[0]!r}; an index needs {', '.join(required)}{more}, "
            f"this one has {has}."
        )
    return names


def of_split(path: Path, rows: Sequence[IndexRow], head: Sequence[str], split: str) -> list[IndexRow]:
    """Rows of one split.

    Raises:
        ConfigError: the table has no such column or no such split.
    """
    if "split" not in head:
        raise ConfigError(f"{path}: has no column 'split', so there is no split {split!r}.")
    chosen = [row for row in rows if row.values["split"] == split]
    if not chosen:
        there = ", ".join(sorted({row.values["split"] for row in rows})[:12])
        raise ConfigError(f"{path}: no row of the split {split!r}; there is {there}.")
    return chosen


def write_table(path: str | Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV whole or not at all; text that a spreadsheet would take for a formula gets a quote."""
    write_text(path, table_text(head, rows))


def table_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A CSV as text, its cells as in `write_table`; `read_index` takes the quotes away again."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([in_cell(name) for name in head])
    writer.writerows([in_cell(value) for value in row] for row in rows)
    return buffer.getvalue()
