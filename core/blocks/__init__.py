"""Parts around recurrent units."""

from core.lazy import lazy

__getattr__, __dir__ = lazy(globals(), {"pool": ".pooling"})
