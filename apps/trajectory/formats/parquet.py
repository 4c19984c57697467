"""Parquet tables, through pyarrow."""

import io
from pathlib import Path

import pandas as pd

from apps.trajectory.formats.columns import from_names
from apps.trajectory.formats.options import Options
from apps.trajectory.formats.source import MAX_BYTES
from apps.trajectory.formats.table import Table, unique
from apps.trajectory.track import Track
from core.errors import DataError


def read_parquet(path: Path, data: bytes, options: Options) -> list[Track]:
    """Tracks of the columns that names or `columns` tell.

    Raises:
        DataError: damaged, or larger than the limit when unpacked.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(data))
        meta = file.metadata
        packed = sum(meta.row_group(index).total_byte_size for index in range(meta.num_row_groups))
        # repeated values pack to nothing, so the table's own size counts too
        if max(packed, meta.num_rows * meta.num_columns * 8) > MAX_BYTES:
            raise DataError(f"{path}: unpacks to more than {MAX_BYTES >> 20} MB; cut it into parts.")
        rows = file.read().to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise DataError(
            f"{path}: damaged Parquet file ({str(error).splitlines()[0] if str(error) else error!r})."
        ) from None
    if not isinstance(rows.index, pd.RangeIndex):
        rows = rows.reset_index()
    rows.columns = unique([str(name) for name in rows.columns])
    if not len(rows):
        raise DataError(f"{path}: there are columns and no rows.")
    return from_names(Table(path, rows, named=True), options)
