"""LAS 1.0 to 1.4 from its own description; LAZ, its packed form, by the package laspy."""

import io
import struct

import numpy as np

from core.errors import DataError
from core.files import unpacked_limit
from core.terminal import need
from vision.pointcloud.cloud import Cloud, cloud_of

PACKED = 0x80
HEAD = 227
"""Least bytes of a header."""
TIME_AT = {1: 20, 3: 20, 4: 20, 5: 20, 6: 22, 7: 22, 8: 22, 9: 22, 10: 22}
"""Where the time stands in a record of each format that has one."""
LEAST = {0: 20, 1: 28, 2: 26, 3: 34, 4: 57, 5: 63, 6: 30, 7: 36, 8: 38, 9: 59, 10: 67}
"""Bytes of a record of each format."""
RECORD = 54
"""Bytes of the head of a variable length record."""

LARGEST = 2 << 30
"""Bytes that packed points may become."""


def read_las(data: bytes, name: str) -> Cloud:
    """Points of a LAS file, in its units; large coordinates keep their origin in float64.

    Raises:
        DataError: a header that does not fit the file.
        MissingExtraError: packed points, and laspy is not installed.
    """
    if len(data) < HEAD:
        raise DataError(f"{name}: {len(data)} bytes are no LAS header.")
    kind, length = data[104], struct.unpack_from("<H", data, 105)[0]
    start = struct.unpack_from("<I", data, 96)[0]
    count = struct.unpack_from("<I", data, 107)[0]
    if data[25] >= 4 and len(data) >= 255:
        count = max(count, struct.unpack_from("<Q", data, 247)[0])
    scale, offset = struct.unpack_from("<3d", data, 131), struct.unpack_from("<3d", data, 155)
    if not np.isfinite([*scale, *offset]).all() or min(map(abs, scale)) == 0:
        raise DataError(f"{name}: scale or offset of the LAS header is no number.")
    if kind & PACKED:
        records = struct.unpack_from("<I", data, 100)[0]
        if data[25] >= 4 and len(data) >= 247:
            records += struct.unpack_from("<I", data, 243)[0]
        if records * RECORD > len(data):
            raise DataError(f"{name}: {records:,} records are told before the points, the file has no room.")
        if count * max(length, 20) > unpacked_limit(len(data), LARGEST):
            raise DataError(f"{name}: {count:,} points are told, and {len(data):,} packed bytes hold them.")
        return read_laz(data, name)
    if kind not in LEAST or length < LEAST[kind]:
        raise DataError(f"{name}: LAS point format {kind} with records of {length} bytes is not known.")
    if start < HEAD:
        raise DataError(f"{name}: the points are told to begin at byte {start}, inside of the header.")
    if start > len(data) or count * length > len(data) - start:
        raise DataError(
            f"{name}: {count} points of {length} bytes are told, {max(0, len(data) - start)} bytes follow."
        )
    rows = np.frombuffer(data, np.uint8, count * length, start).reshape(count, length)
    places = rows[:, :12].copy().view("<i4").reshape(count, 3).astype(np.float64)
    columns = {axis: places[:, k] * scale[k] + offset[k] for k, axis in enumerate("xyz")}
    columns["intensity"] = rows[:, 12:14].copy().view("<u2").ravel()
    if kind in TIME_AT:
        at = TIME_AT[kind]
        columns["time"] = rows[:, at : at + 8].copy().view("<f8").ravel()
    return cloud_of(columns, "las", name)


def read_laz(data: bytes, name: str) -> Cloud:
    """Packed points by laspy.

    Raises:
        DataError: a damaged file.
    """
    need("las", "laspy", "lazrs")
    import laspy

    try:
        table = laspy.read(io.BytesIO(data))
        columns = {axis: np.asarray(getattr(table, axis), np.float64) for axis in "xyz"}
        columns["intensity"] = np.asarray(table.intensity)
    except Exception as error:  # its unpacker raises whatever its own language raises
        raise DataError(f"{name}: damaged, or no LAZ.") from error
    return cloud_of(columns, "laz", name)
