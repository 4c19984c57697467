"""Smaller inputs that fail at the same place: lines, then pieces, then bytes are left out."""

import time
from collections.abc import Callable


def shrunk(data: bytes, fails: Callable[[bytes], bool], seconds: float = 20.0) -> bytes:
    """The smallest input found in the time for which `fails` still holds."""
    end = time.monotonic() + seconds
    lines = data.split(b"\n")
    if len(lines) > 2:
        data = b"\n".join(without(lines, lambda kept: fails(b"\n".join(kept)), end))
    pieces = (
        [data[i : i + 1] for i in range(len(data))]
        if len(data) <= 4096
        else [data[i : i + 64] for i in range(0, len(data), 64)]
    )
    return b"".join(without(pieces, lambda kept: fails(b"".join(kept)), end))


def without(parts: list[bytes], fails: Callable[[list[bytes]], bool], end: float) -> list[bytes]:
    """Parts left out by halves, quarters, ... as long as it fails (Zeller & Hildebrandt 2002)."""
    size = max(1, len(parts) // 2)
    while size and time.monotonic() < end:
        place, gone = 0, False
        while place < len(parts) and time.monotonic() < end:
            fewer = parts[:place] + parts[place + size :]
            if fewer and fails(fewer):
                parts, gone = fewer, True
            else:
                place += size
        if size == 1 and not gone:
            break
        size = max(1, size // 2) if size > 1 or gone else 0
    return parts
