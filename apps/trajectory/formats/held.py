"""What a reader holds in memory: counted from names and rows before anything is unpacked into columns.

Bytes in a file say little: one byte of text may cost twenty in memory, and a repeated value costs nothing in
a file. So rows and columns are counted first, and columns that mean nothing here are not read at all.
"""

from collections.abc import Iterable
from pathlib import Path

from apps.trajectory.formats.names import IDS, SPELLED, SUFFIXED, plain
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.units import bare
from core.errors import DataError

ROWS = 10_000_000
"""Rows of one file: a day at a hundred samples a second."""
TRACKS = 100_000
OBJECTS = 1_000_000
"""Rows of formats that are read an object at a time, such as XML: eleven days at one a second."""
COLUMNS = 256
"""Columns with a meaning here; the widest log known has some forty."""
NUMBERS = 64 << 20
"""Numbers that all columns hold together, 512 MB."""
TEXT = 64 << 20
"""Bytes of text that one column may hold."""


def used(names: Iterable[str], options: Options) -> list[str]:
    """The names of columns that may be a time, a place, a velocity or an id, and those asked for."""
    asked = {*(options.columns or {}).values(), *(options.group or ())}
    return [name for name in names if name in asked or means_something(plain(name))]


def means_something(name: str) -> bool:
    """Whether a plain name is among the spellings of anything that is read."""
    return (
        name in SPELLED
        or bare(name) in SPELLED
        or name in IDS
        or any(pattern.fullmatch(spelled) for pattern in SUFFIXED for spelled in (name, bare(name)))
    )


def check_held(path: Path, rows: int, columns: int) -> None:
    """Whether so much may be read into memory.

    Raises:
        DataError: too many rows, columns, or numbers altogether.
    """
    if rows > ROWS:
        raise DataError(f"{path}: more than {ROWS:,} rows; cut it into parts.")
    if columns > COLUMNS:
        raise DataError(f"{path}: {columns:,} columns that could be times, places or ids are no track.")
    if rows * columns > NUMBERS:
        raise DataError(
            f"{path}: {rows:,} rows of {columns} columns are more than fits in memory; cut it into parts."
        )
