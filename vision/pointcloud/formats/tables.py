"""Tables of points: CSV and text with or without a header, Parquet and feather."""

import io

import numpy as np

from core.errors import DataError
from core.files import in_words, unpacked_limit
from vision.pointcloud.cloud import Cloud, cloud_of
from vision.pointcloud.formats.names import standard

MARK = b"\xef\xbb\xbf"
"""What some programs write before UTF-8."""
LARGEST = 2 << 30
"""Bytes that the columns of a file may unpack to."""
POSITIONS = ("x", "y", "z", "intensity")


def looks_like_text(data: bytes) -> bool:
    """Whether the beginning is printable text."""
    head = data[:4096].removeprefix(MARK)
    good = sum(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head)
    return good > 0.98 * len(head)


def read_text(data: bytes, name: str) -> Cloud:
    """Numbers separated by commas, semicolons, tabs or spaces; the first line may name the columns.

    Raises:
        DataError: rows of different length, or words that are no numbers.
    """
    data = data.removeprefix(MARK)
    lines = [
        line for line in data.decode("utf-8", "replace").splitlines() if line.strip() and line[0] not in "#/"
    ]
    named = [line for line in data[:4096].decode("utf-8", "replace").splitlines() if line[:1] == "#"]
    if not lines:
        raise DataError(f"{name}: no rows of numbers.")
    separator = next((mark for mark in (",", ";", "\t") if mark in lines[0]), None)
    if separator:  # some programs end every row with one
        lines = [line.strip().rstrip(separator) for line in lines]
    first = [word.strip().strip("\"'") for word in lines[0].split(separator)]
    header = None
    if not all(is_number(word) for word in first):
        header, lines = first, lines[1:]
    elif named:
        words = named[0].lstrip("#/ ").replace(",", " ").split()
        header = words if len(words) == len(first) else None
    try:
        table = np.array([line.split(separator) for line in lines], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{name}: rows of different length, or words among the numbers.") from error
    table = table.reshape(len(lines), -1)
    if header is None:
        if table.shape[1] < 3:
            raise DataError(f"{name}: rows of {table.shape[1]} numbers; x, y, z are needed.")
        header = [*POSITIONS, *[f"column{k}" for k in range(table.shape[1])]][: table.shape[1]]
    if len(lines) and table.shape[1] != len(header):
        raise DataError(f"{name}: {len(header)} names for rows of {table.shape[1]} numbers.")
    columns = {label: table[:, k] if len(lines) else np.zeros(0) for k, label in enumerate(header)}
    return cloud_of(standard(columns, name), "csv", name)


def is_number(word: str) -> bool:
    """Whether a word is a number, NaN and infinity included."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_columns(data: bytes, name: str) -> Cloud:
    """Columns x, y, z of a Parquet or feather file.

    Raises:
        DataError: a damaged file, more rows than its bytes can hold, or columns that are missing.
    """
    import pyarrow
    from pyarrow import feather, parquet

    try:
        source = io.BytesIO(data)
        if data[:4] == b"PAR1":
            file = parquet.ParquetFile(source)
            told = file.metadata
            if 8 * told.num_rows * told.num_columns > unpacked_limit(len(data), LARGEST):
                raise DataError(
                    f"{name}: {told.num_rows:,} rows are told, and {in_words(len(data))} hold them."
                )
            table = file.read()
        else:
            table = feather.read_table(source)
        columns = {label: table.column(label).to_numpy(zero_copy_only=False) for label in table.column_names}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{name}: damaged, or no Parquet or feather.") from error
    found = standard(columns, name)
    found = {label: values for label, values in found.items() if label in "xyz" or values.dtype != object}
    if "time" in found and found["time"].dtype.kind in "mM":  # a date, or a length of time, as seconds
        found["time"] = (found["time"] - found["time"].min(initial=None)) / np.timedelta64(1, "s")
    return cloud_of(found, "parquet" if data[:4] == b"PAR1" else "feather", name)
