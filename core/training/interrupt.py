"""A wish to stop loses nothing: the step is finished and a checkpoint written first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from core.errors import Ended

WISHES = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(Ended):
    """A run was asked to stop and its checkpoint is up to date."""


@contextmanager
def interruption() -> Iterator[Callable[[], int]]:
    """Gives a function that tells which signal asked to stop, 0 for none. A second Ctrl-C stops at once.

    Ctrl-C, SIGTERM (torchrun sends it to its processes, a cluster before it kills) and a closed terminal ask,
    unless they are ignored from outside (nohup).
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {wish: signal.getsignal(wish) for wish in WISHES}
    asked = 0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = asked or number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    watched = [wish for wish, handler in before.items() if handler is not signal.SIG_IGN]
    for wish in watched:
        signal.signal(wish, ask)
    try:
        yield lambda: asked
    finally:
        for wish in watched:
            signal.signal(wish, before[wish])
