"""Pieces beneath several families of units: what a unit is made of, never a unit."""

from core.lazy import lazy

__getattr__, __dir__ = lazy(globals())
