"""Parquet tables, through pyarrow: only the columns that are used, and repeated text once."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.held import TEXT, check_held, used
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.source import MAX_BYTES
from apps.trajectory.formats.table import Table, unique
from apps.trajectory.track import Track
from core.errors import DataError

BATCH = 1 << 20
"""Rows that are unpacked at a time."""
YEARS = -62_135_596_800, 253_402_300_800
"""Seconds from 1970 to the first day of the year 1 and of the year 10000."""
DAMAGED = OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError
"""What pyarrow and pandas raise besides on a damaged file."""
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def read_parquet(path: Path, data: bytes, options: Options) -> list[Track]:
    """Tracks of the columns that names or `columns` tell.

    Raises:
        DataError: damaged, or larger than the limit when unpacked.
    """
    import pyarrow as pa

    try:
        rows, names = columns_in_use(path, data, options)
    except (pa.ArrowException, *DAMAGED) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else repr(error)
        raise DataError(f"{path}: damaged Parquet file ({reason}).") from None
    if not len(rows):
        raise DataError(f"{path}: there are columns and no rows.")
    return from_names(Table(path, rows, named=True, names=names), options)


def columns_in_use(path: Path, data: bytes, options: Options) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The columns that may mean something, counted before and while they are unpacked, and the names of all.

    Raises:
        DataError: more than can be held. What pyarrow raises on a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(data))
    schema, meta = file.schema_arrow, file.metadata
    flat = [
        name for name, kind in zip(schema.names, schema.types, strict=True) if not pa.types.is_nested(kind)
    ]
    once = [name for name in flat if flat.count(name) == 1]  # one of two of a name cannot be asked for
    chosen = used(once, options)
    if not chosen and meta.num_rows:
        return from_arrow(path, pa.table({name: pa.nulls(1) for name in once[:1]})), tuple(
            unique(schema.names)
        )
    check_held(path, meta.num_rows, len(chosen))
    words = [name for name in chosen if is_text(schema.field(name).type)]
    file = pq.ParquetFile(io.BytesIO(data), read_dictionary=words)
    # what is unpacked is counted: asking for the sizes that a damaged file states would end the process
    batches, held = [], 0
    for batch in file.iter_batches(BATCH, columns=chosen, use_pandas_metadata=False):
        held += batch.nbytes
        if held > MAX_BYTES:
            raise DataError(f"{path}: unpacks to more than {MAX_BYTES >> 20} MB; cut it into parts.")
        batches.append(batch)
    table = (
        pa.Table.from_batches(batches) if batches else file.read(columns=chosen, use_pandas_metadata=False)
    )
    return from_arrow(path, table), tuple(unique(schema.names))


def is_text(kind: Any) -> bool:
    """Whether an arrow type is text or bytes."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        check(kind)
        for check in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def from_arrow(path: Path, table: Any) -> pd.DataFrame:
    """Columns of an arrow table; what its writer noted for pandas is not believed.

    Raises:
        DataError: text that unpacks to more than can be held, or times that are no dates.
    """
    import pyarrow as pa

    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type) and is_text(column.type):
            found[name] = words_of(path, name, column)
        elif pa.types.is_dictionary(column.type):
            found[name] = column.cast(column.type.value_type).to_pandas()
        elif pa.types.is_duration(column.type):  # pandas cannot show all of them
            found[name] = column.cast(pa.int64()).to_pandas() / PER_SECOND[column.type.unit]
        elif pa.types.is_timestamp(column.type):
            seconds = column.cast(pa.int64()).to_pandas() / PER_SECOND[column.type.unit]
            if seconds.min() < YEARS[0] or seconds.max() >= YEARS[1]:
                raise DataError(f"{path}: column {name!r} holds times outside the years 1 to 9999.")
            found[name] = column.to_pandas()
        elif pa.types.is_fixed_size_binary(column.type):
            found[name] = pd.Series([as_words(value) for value in column.to_pylist()], dtype="str")
        else:
            found[name] = column.to_pandas()
    return pd.DataFrame(found)


def words_of(path: Path, name: str, column: Any) -> pd.Series:
    """A column of text whose dictionary is short, one value a row."""
    import numpy as np

    parts: list[pd.Series] = []
    for chunk in column.chunks:
        words = [as_words(value) for value in chunk.dictionary.to_pylist()]
        longest = max((len(word) for word in words if word is not None), default=0)
        if longest * len(column) > TEXT:
            raise DataError(
                f"{path}: column {name!r} has texts of up to {longest:,} characters in {len(column):,} rows."
            )
        places = chunk.indices.fill_null(len(words)).to_numpy(zero_copy_only=False).astype(np.int64)
        if len(places) and not 0 <= places.min() <= places.max() <= len(words):
            raise DataError(f"{path}: column {name!r} points beyond the words of its dictionary.")
        known: pd.Series = pd.Series([*words, None], dtype="str")
        parts.append(known.take(places))
    joined: Any = pd.concat(parts, ignore_index=True)
    return joined


def as_words(value: str | bytes | None) -> str | None:
    """Text as it is; bytes as the text that they spell, or in hexadecimal."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
