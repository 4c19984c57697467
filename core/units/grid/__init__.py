"""Memories over more than one axis or with a fixed window."""

from core.lazy import lazy
from core.units.row import Row

ROWS = (
    Row(
        "plstm", "core.units.grid.plstm:PLSTM", "pLSTM on a sequence: source, transition, mark, direct gates"
    ),
)
"""One row a unit; the registry name is the file name."""

__getattr__, __dir__ = lazy(globals())
