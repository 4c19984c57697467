"""Memories of a fixed window instead of a recurrence."""

from core.lazy import lazy
from core.units.row import Row

ROWS = (
    Row(
        "fsmn",
        "core.units.window.fsmn:FSMN",
        "feed-forward sequential memory, a window of learned taps",
        ("dfsmn",),
    ),
)
"""One row a unit; the registry name is the file name."""

__getattr__, __dir__ = lazy(globals())
