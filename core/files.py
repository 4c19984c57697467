"""Write a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import RecurraError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Whoever reads `path`, also after a kill or a power cut, sees the old content or the new, never a part.

    Raises:
        RecurraError: the folder is missing, not writable or full.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.tmp")
    try:
        try:
            yield partial
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecurraError(f"{path}: cannot be written ({error.strerror or error}).") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
