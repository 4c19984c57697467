"""Bytes of a file, unpacked, within limits that a hostile or damaged file cannot pass."""

import gzip
import os
import zlib
from pathlib import Path

from core.errors import DataError
from core.files import too_much, unpacked_limit

MAX_BYTES = 512 * 2**20
"""Unpacked size; about five million rows of text."""
MAX_LINE = 2**20
CHUNK = 2**20
GZIP = b"\x1f\x8b"
BINARY = (
    b"ULog", b"PAR1", b"#ROSBAG V2", b"SQLite for", b"\x89MCAP0", b"\xa3\x95",
    b"\x00\x04", b"\x00\x05", b"\x00\x06",
)  # fmt: skip
"""How files begin that have no lines; the last three are stamps of microseconds since 1970."""


def read_bytes(path: Path) -> bytes:
    """Content of a file, gunzipped where it is gzip (whatever its name).

    Raises:
        DataError: no such file, not readable, truncated, too large, or text with a line above 1 MB.
    """
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a file.")
    pieces, total, since_newline, lines = [], 0, 0, 1
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            size = os.fstat(raw.fileno()).st_size
            most = unpacked_limit(size, MAX_BYTES) if packed else MAX_BYTES
            stream = gzip.open(raw) if packed else raw
            while piece := stream.read(CHUNK):
                total += len(piece)
                if total > most:
                    if packed:
                        raise DataError(f"{path}: {too_much(size, most, MAX_BYTES)}")
                    raise DataError(f"{path}: is larger than {MAX_BYTES >> 20} MB; cut it into parts.")
                if not pieces and piece.startswith(BINARY):
                    since_newline = -MAX_BYTES  # lines mean nothing there
                newline = piece.rfind(b"\n")
                lines += piece.count(b"\n")
                since_newline = since_newline + len(piece) if newline < 0 else len(piece) - newline - 1
                if since_newline > MAX_LINE:
                    raise DataError(f"{path} line {lines}: longer than 1 MB, so this is no table of samples.")
                pieces.append(piece)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except EOFError:
        raise DataError(f"{path}: the gzip file is cut short; fetch it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); fetch it again.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except ValueError as error:  # a path with a NUL byte
        raise DataError(f"{str(path)!r}: not a path ({error}).") from None
    return b"".join(pieces)


def as_text(path: Path, data: bytes) -> bytes:
    """The same text as UTF-8 without a byte-order mark, with lines that end in a newline.

    Raises:
        DataError: empty, or not text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", errors="replace").encode()
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise DataError(f"{path}: the file is empty.")
    if b"\0" in data:
        raise DataError(f"{path}: a binary file of a kind that is not known here.")
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("latin-1").encode()
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
