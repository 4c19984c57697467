"""A bound on the time of a request, which runs in a thread that nobody can kill."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

RAISE = ctypes.pythonapi.PyThreadState_SetAsyncExc


class OutOfTime(BaseException):
    """The time of the block is over; no handler of an ordinary error keeps it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Inside, work that takes longer is stopped at its next line of Python.

    Raises:
        OutOfTime: in the thread of the block, within it.
    """
    thread, lock, over = ctypes.c_ulong(threading.get_ident()), threading.Lock(), False

    def end() -> None:
        with lock:
            if not over:
                RAISE(thread, ctypes.py_object(OutOfTime))

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True
        RAISE(thread, None)  # one that came in the last moment would hit whatever the thread does next
