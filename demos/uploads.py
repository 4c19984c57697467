"""Files that people drop on a page, and errors as sentences: never a stack, never a path of the server."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gradio as gr

from core.errors import RecurraError
from core.text import in_html
from demos.deadline import OutOfTime, at_most

log = logging.getLogger(__name__)
MOST_S = 30.0
"""Seconds that a request may take; the next visitor waits for it."""
OURS = "This is an error of ours, not of your input. The server's log has its details; please tell us."


def uploaded(file: str) -> Path:
    """The path of an uploaded file.

    Raises:
        gr.Error: it lies outside of the folder for uploads.
    """
    path = Path(file).resolve()
    if not path.is_relative_to(upload_folder()):
        raise gr.Error("Only uploaded files can be opened here.")
    return path


def upload_folder() -> Path:
    """Where gradio keeps the uploads of this process."""
    return Path(os.environ.get("GRADIO_TEMP_DIR", "/nowhere")).resolve()


def own_folder() -> Path:
    """A new folder for what a page makes; it goes with the uploads."""
    above = upload_folder()
    return Path(mkdtemp(dir=above if above.is_dir() else None))


@contextmanager
def sentences(seconds: float | None = None) -> Iterator[None]:
    """Expected failures inside the block become one sentence on the page; it has `MOST_S`, or less."""
    try:
        with at_most(MOST_S if seconds is None else seconds):
            yield
    except OutOfTime as error:
        raise gr.Error(f"This took more than {MOST_S:g} s and was stopped; give the page less.") from error
    except (RecurraError, OSError) as error:
        raise gr.Error(in_html(without_paths(str(error)))) from error  # the page takes it for HTML
    except gr.Error:
        raise
    except Exception as error:
        log.exception("a page failed")
        raise gr.Error(OURS) from error


def without_paths(text: str) -> str:
    """The text with the folders of uploads taken out: the name of the file is enough."""
    return re.sub(rf"{re.escape(str(upload_folder()))}/(?:[^/\s]+/)*", "", text)


def said(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of a page (a function or a generator) whose expected failures are sentences."""
    if isgeneratorfunction(handler):

        @wraps(handler)
        def stream(*values: Any) -> Iterator[Any]:
            steps, left = handler(*values), MOST_S
            while True:  # each step may run in another thread, so each is bounded by itself
                begun = time.monotonic()
                with sentences(max(left, 0.01)):
                    try:
                        found = next(steps)
                    except StopIteration:
                        return
                left -= time.monotonic() - begun
                yield found

        return stream

    @wraps(handler)
    def call(*values: Any) -> Any:
        with sentences():
            return handler(*values)

    return call
