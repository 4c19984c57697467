"""Recurrent units, one per file, all behind the contract of `core.units.contract`."""

from core.lazy import lazy

__getattr__, __dir__ = lazy(globals())
