"""Speed: cases with a peer or a hardware ceiling, measured in the same run."""

from core.lazy import lazy

__getattr__, __dir__ = lazy(globals())
