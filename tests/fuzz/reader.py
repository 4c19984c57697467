"""One door that is knocked at: how its inputs are made, and what reads them."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Make = Callable[[random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of input. Registered in `READERS` of a module of `tests.fuzz.domains`."""

    name: str
    """domain-kind, such as "trajectory-tables"."""
    make: Make
    """The input is a function of the generator alone, so a finding is replayed by its number."""
    read: Callable[[str], Any]
    """Path of a file with the input -> what was read; the project's own error refuses."""
    suffix: str = ""
    """Of the file."""
    share: float = 1.0
    """Of the seconds, relative to the others."""


def drawn(reader: Reader, seed: int, number: int) -> bytes:
    """The input of a number."""
    return reader.make(random.Random(f"{seed}/{reader.name}/{number}"))


def has_nan(value: Any, depth: int = 0) -> bool:
    """Whether numbers that a reader gave hold a NaN; only plain containers and arrays are looked into."""
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and bool(np.isnan(value).any())
    if isinstance(value, dict) and depth < 4:
        return any(has_nan(part, depth + 1) for part in value.values())
    if isinstance(value, list | tuple) and depth < 4:
        return any(has_nan(part, depth + 1) for part in value)
    return False
