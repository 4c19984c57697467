"""One token at a time, fast: a unit or stack behind one compiled call.

    stream = core.streaming.open(core.build("mamba", 128))
    y = stream.step(x)

`core.streaming.gru` is a stack of GRUs without any graph; `lstm` and `products` are what other compiled
networks are made of.
"""

from typing import TYPE_CHECKING, Any

from core.lazy import lazy

if TYPE_CHECKING:
    from core.streaming.onnx import Streamer

__all__ = ["Streamer", "open"]


def open(unit: Any, batch: int = 1, threads: int = 1) -> "Streamer":
    """A stream of `batch` rows through a unit or stack; errors as in `Streamer`."""
    from core.streaming.onnx import Streamer

    return Streamer(unit, batch, threads)


__getattr__, __dir__ = lazy(globals(), {"Streamer": ".onnx"})  # loads torch
