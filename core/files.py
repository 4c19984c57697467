"""Files written whole or not at all, and read up to a bound."""

import bz2
import fcntl
import gzip
import lzma
import os
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import DataError, RecurraError

NODES = ("/dev/", "/proc/")
"""What lies there is written into; only `/dev/shm` holds files."""
PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
"""First bytes of a packed file -> what opens it."""
CHUNK = 1 << 20
FOLD, UNPACKED = 200, 64 << 20
"""A packed file may become so many times as large, or as large as this; tables of numbers pack tenfold."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends well.

    Whoever reads `path`, also after a kill or a power cut, sees the old content or the new, never a part. A
    link stays and the file behind it is written; a pipe or a device is written into and stays what it is. The
    temporary file lies beside the target, is made exclusively, and is gone afterwards; one that a killed
    process has left is cleared away by the next write to the same target.

    Raises:
        RecurraError: the folder is missing, not writable or full, or the path names a folder.
    """
    path = named(path)
    try:
        if is_node(path):
            with written_into(path) as partial:
                yield partial
            return
        target = Path(os.path.realpath(path))
        with beside(target) as (partial, mode):
            yield partial
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            if mode is not None:
                os.chmod(partial, mode)
            os.replace(partial, target)
    except OSError as error:
        raise RecurraError(f"{path}: cannot be written ({error.strerror or error}).") from error


def check_place(path: str | Path) -> None:
    """Whether a file can be written there, as far as that can be told before the work.

    Raises:
        RecurraError: the folder is missing or not writable, or the path names a folder.
    """
    path = named(path)
    try:
        if is_node(path):
            return
        target = Path(os.path.realpath(path))
        if target.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        os.stat(target.parent)
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise RecurraError(f"{path}: cannot be written ({error.strerror or error}).") from error


def check_folder_place(folder: str | Path) -> None:
    """Whether a folder is there to write into, or can be made, as far as that can be told before the work.

    Raises:
        RecurraError: a file lies there or on the way, or nothing may be written.
    """
    if not str(folder):
        raise RecurraError("the name of the folder to write is empty.")
    folder = Path(folder)
    place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not place.is_dir():
        raise RecurraError(f"{folder}: cannot be made, {place} is no folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RecurraError(f"{folder}: cannot be made, nothing may be written into {place}.")


def named(path: str | Path) -> Path:
    """A path that is not empty, as a script's unset variable is."""
    if not str(path) or str(path) == ".":
        raise RecurraError("the name of the file to write is empty.")
    return Path(path)


def is_node(path: Path) -> bool:
    """Whether a path is there and must be written into: a pipe, a device, an open descriptor."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    place = os.path.abspath(path)
    if place.startswith(NODES) and not place.startswith("/dev/shm/"):
        return True
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def written_into(node: Path) -> Iterator[Path]:
    """A temporary file elsewhere, whose bytes go into the node when the block ends well."""
    with tempfile.TemporaryDirectory(prefix="recurra-") as folder:
        partial = Path(folder) / "whole"
        yield partial
        with open(partial, "rb") as source, open(node, "wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK)


@contextmanager
def beside(target: Path) -> Iterator[tuple[Path, int | None]]:
    """An empty file of our own beside the target, gone if the block fails; and the mode of the target."""
    mode = None
    if target.is_dir():
        raise IsADirectoryError(21, "it is a folder")
    if target.exists():
        mode = stat.S_IMODE(target.stat().st_mode)
        if not os.access(target, os.W_OK):
            raise PermissionError(13, "Permission denied")
    partial, descriptor = made(target)
    try:
        yield partial, mode
    except BaseException:  # once it has been moved, the name may be another writer's
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def made(target: Path) -> tuple[Path, int]:
    """A file that did not exist, with its descriptor; a lock on it says that its writer lives."""
    stem = f".{target.name[:60]}"
    for attempt in range(100):
        partial = target.with_name(f"{stem}.{secrets.token_hex(4)}.tmp" if attempt else f"{stem}.tmp")
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        except FileExistsError:
            clear(partial)
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return partial, descriptor
    raise FileExistsError(17, "no free name for a temporary file")


def clear(partial: Path) -> None:
    """Remove what a killed process has left: our own regular file that nobody holds a lock on."""
    try:
        about = os.lstat(partial)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_nlink != 1:
            return
        descriptor = os.open(partial, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial.unlink(missing_ok=True)
    except OSError:  # its writer lives
        return
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_bytes(data)


def read_bytes(
    path: str | Path, limit: int, *, unpack: bool = True, error: type[RecurraError] = DataError
) -> bytes:
    """Content of a file of at most `limit` bytes; gzip, bzip2 and xz are unpacked up to the same limit.

    Raises:
        DataError (or `error`): missing, a folder, not readable, damaged, or larger than the limit.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            data = up_to(file, limit)
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror or cause}).") from cause
    if len(data) > limit:
        size = path.stat().st_size
        found = f"{in_words(size)}" if size > limit else f"more than {in_words(limit)}"
        raise error(f"{path}: {found}; the limit is {in_words(limit)}.")
    opener = next((way for magic, way in PACKED.items() if data.startswith(magic)), None)
    if not unpack or opener is None:
        return data
    most = unpacked_limit(len(data), limit)
    try:
        with opener(memory(data), "rb") as file:
            inside = up_to(file, most)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as cause:
        raise error(f"{path}: cannot be unpacked; is it cut short or damaged?") from cause
    if len(inside) > most:
        raise error(f"{path}: {too_much(len(data), most, limit)}")
    return inside


def unpacked_limit(packed: int, limit: int) -> int:
    """Bytes that so many packed ones may become: a file made to fill memory packs a thousandfold."""
    return min(limit, max(UNPACKED, FOLD * packed))


def too_much(packed: int, most: int, limit: int) -> str:
    """Why unpacking was given up, in a sentence."""
    if most < limit:
        return f"{in_words(packed)} unpack more than {most // packed}-fold, which no file of data does."
    return f"{in_words(packed)} unpack to more than {in_words(limit)}, which is the limit."


def memory(data: bytes) -> Any:
    """Bytes as a file."""
    import io

    return io.BytesIO(data)


def up_to(file: Any, limit: int) -> bytes:
    """At most `limit` bytes and one more, which tells that there would have been more."""
    parts, left = [], limit + 1
    while left > 0:
        part = file.read(min(left, CHUNK))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def in_words(count: int) -> str:
    """A number of bytes for people."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
