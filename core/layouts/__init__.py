"""Weights in the layouts of other libraries, both ways."""

from core.lazy import lazy

__getattr__, __dir__ = lazy(globals())
