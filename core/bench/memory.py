"""What a function needs at its peak, measured in a process of its own: nothing else is counted."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from core.errors import RecurraError, WorkError


def peak_of(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """What `function(*arguments)` gives, and the largest resident memory (bytes) of the process it ran in.

    Function, arguments and answer must pickle. An error of ours comes out as it was raised.

    Raises:
        WorkError: the process died, such as for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        answer, error, peak = ours.recv()
    except EOFError as gone:
        process.join()
        raise WorkError(f"{function.__name__} died with exit code {process.exitcode}.") from gone
    process.join()
    if error is not None:
        raise error
    return answer, peak


def work(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the process: run and report."""
    answer, error = None, None
    try:
        answer = function(*arguments)
    except RecurraError as raised:
        error = raised
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send((answer, error, peak if sys.platform == "darwin" else peak * 1024))
    pipe.close()
