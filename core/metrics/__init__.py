"""Figures that several pipelines report."""

from core.lazy import lazy

__getattr__, __dir__ = lazy(globals())
