"""One row of the table of units."""

from dataclasses import dataclass

from core.domains import OURS


@dataclass(frozen=True)
class Row:
    """One unit of the registry."""

    name: str
    target: str
    """module:Class"""
    summary: str
    aliases: tuple[str, ...] = ()
    origin: str = OURS
    """The distribution, or for a path the package, that it comes from."""
