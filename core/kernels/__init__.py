"""Compute kernels, each with its plain definition beside it."""

from core.lazy import lazy

_MOVED = {"gru_stream": "..streaming:gru"}
"""Old name -> where it lives now."""

__getattr__, __dir__ = lazy(globals(), _MOVED)
