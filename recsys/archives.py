"""Archives of arrays (.npz), mapped where their bytes lie in the file as they are."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from core.door import array, array_header
from core.errors import DataError
from core.files import in_words
from recsys.slates import Slates

LARGEST_FILE = 16 << 30
LARGEST_PACKED = 2 << 30
"""Bytes that one packed array may unpack to; stored ones stay in the file."""


def read_npz(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of an .npz; members stored without compression are memory-mapped.

    Raises:
        DataError: missing, truncated, with pickled objects, or an array is not there.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{path}: larger than {LARGEST_FILE >> 30} GB; split it by users.")
        arrays = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                arrays[name] = mapped(path, archive, member)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        LookupError,
        RuntimeError,
    ) as error:
        raise DataError(f"{path}: not a readable .npz of plain arrays ({error}).") from error
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise DataError(f"{path}: no array {missing[0]!r} in it; it has {', '.join(sorted(arrays))}.")
    return arrays


def mapped(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One array of an archive, as a memory map where its bytes lie in the file as they are."""
    with archive.open(member) as stream:
        shape, fortran, dtype = array_header(stream, member.file_size, path, DataError)
        header = stream.tell()
    if member.compress_type != zipfile.ZIP_STORED:
        if member.file_size > LARGEST_PACKED:
            raise DataError(f"{path}: {member.filename} unpacks to {in_words(member.file_size)}.")
        return array(archive.read(member), path, DataError)
    if not int(np.prod(shape)):
        return np.zeros(shape, dtype)
    with open(path, "rb") as file:  # the local header has lengths of its own
        file.seek(member.header_offset + 26)
        name_length, extra = np.frombuffer(file.read(4), "<u2")
    offset = member.header_offset + 30 + int(name_length) + int(extra) + header
    if offset + int(np.prod(shape)) * dtype.itemsize > path.stat().st_size:
        raise ValueError("the file ends too early")
    return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")


def arrays_of(slates: Slates) -> dict[str, np.ndarray]:
    """A log in the names and numbers of the layout."""
    small = np.int16 if len(slates.catalogue) < 2**15 else np.int32
    arrays = {
        "userId": np.asarray(slates.users),
        "slate": np.asarray(slates.slate).astype(small),
        "click": np.asarray(slates.click).astype(small),
        "click_idx": np.asarray(slates.click_idx).astype(np.int16),
        "slate_lengths": np.asarray(slates.lengths).astype(np.int16),
        "interaction_type": np.asarray(slates.kind).astype(np.int16),
    }
    if slates.time is not None:
        arrays["time"] = np.asarray(slates.time, np.float64)
    if slates.propensity is not None:
        arrays["propensity"] = np.asarray(slates.propensity, np.float32)
    return arrays
