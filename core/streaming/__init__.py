"""One token at a time, fast: any unit or stack behind one compiled call.

    stream = core.streaming.open(core.build("mamba", 128))
    y = stream.step(x)

`core.streaming.gru` is a stack of GRUs without any graph; `lstm` and `products` are what other compiled
networks are made of.
"""

from typing import TYPE_CHECKING, Any

from core.lazy import lazy

if TYPE_CHECKING:
    from core.streaming.saved import load, save
    from core.streaming.streamer import Streamer

__all__ = ["Streamer", "load", "open", "save"]


def open(unit: Any, batch: int = 1) -> "Streamer":
    """A stream of `batch` rows through a unit or stack; errors as in `Streamer`."""
    from core.streaming.streamer import Streamer

    return Streamer(unit, batch)


__getattr__, __dir__ = lazy(
    globals(), {"Streamer": ".streamer", "load": ".saved", "save": ".saved"}
)  # loads torch
