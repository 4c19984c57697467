"""Slates and the catalogue of their items, external ids inside."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

PAD, NOTHING, UNKNOWN, FIRST = 0, 1, 2, 3
"""Reserved ids, and the first item."""
SEARCH, RECOMMENDATION = 1, 2
KINDS = {"unknown": 0, "search": SEARCH, "rec": RECOMMENDATION, "recommendation": RECOMMENDATION}


@dataclass(frozen=True)
class Catalogue:
    """The items a model knows: internal number -> external id and group. Numbers below 3 are reserved."""

    group: np.ndarray
    """(I,) int64: group of each item."""
    names: tuple[str, ...] | None = None
    """(I,) external ids; None: the numbers themselves."""

    def __len__(self) -> int:
        return len(self.group)

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    def name(self, item: int) -> str | int:
        """External id of an internal number."""
        return int(item) if self.names is None else self.names[int(item)]

    def numbers(self, ids: Sequence[Any]) -> np.ndarray:
        """External ids -> internal numbers; what is not in the catalogue becomes 2 (unknown)."""
        if self.names is None:
            found = []
            for one in ids:
                number = whole_number(one)
                found.append(number if number is not None and FIRST <= number < len(self) else UNKNOWN)
            return np.array(found, dtype=np.int64)
        return np.array([self.lookup.get(str(one), UNKNOWN) for one in ids], dtype=np.int64)

    @property
    def lookup(self) -> dict[str, int]:
        """External id -> internal number."""
        if "_lookup" not in self.__dict__:
            names = self.names or ()
            object.__setattr__(
                self, "_lookup", {name: index for index, name in enumerate(names) if index >= FIRST}
            )
        return self.__dict__["_lookup"]


@dataclass(frozen=True)
class Slates:
    """Users x steps x slots. Arrays may be memory maps; nothing here changes them."""

    users: np.ndarray
    """(U,) external ids."""
    slate: np.ndarray
    """(U, T, S) internal item numbers."""
    click: np.ndarray
    """(U, T)"""
    click_idx: np.ndarray
    """(U, T) slot of the click."""
    lengths: np.ndarray
    """(U, T) filled slots, slot 0 among them; 0 = the step was not used."""
    kind: np.ndarray
    """(U, T) 1 search, 2 recommendation, 0 unknown."""
    catalogue: Catalogue
    source: str = ""
    time: np.ndarray | None = None
    """(U, T) seconds, where the log has them."""
    remarks: tuple[str, ...] = field(default=())
    """What a person should know about the reading: cut, skipped, counted."""
    propensity: np.ndarray | None = None
    """(U, T, S) chance of each slot's item given the slots before; NaN is unknown."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def steps(self) -> int:
        return self.slate.shape[1]

    @property
    def slots(self) -> int:
        return self.slate.shape[2]

    def rows(self, index: np.ndarray | slice) -> "Slates":
        """Some of the users."""
        names = ("users", "slate", "click", "click_idx", "lengths", "kind")
        parts = {name: getattr(self, name)[index] for name in names}
        for name in ("time", "propensity"):
            whole = getattr(self, name)
            parts[name] = None if whole is None else whole[index]
        return replace(self, **parts)

    def counted(self) -> np.ndarray:
        """(U, T) steps that a likelihood counts: neither padding nor an unknown item."""
        return (self.lengths > 0) & (self.click != PAD) & (self.click != UNKNOWN)


def whole_number(value: Any) -> int | None:
    """A whole number of an id given as number or text, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, str) and len(value) < 40 and re.fullmatch(r"\s*-?[0-9]+\s*", value):
        return int(value)
    return None
