"""Checks of a unit's options, so that all units refuse the same things in the same words."""

from collections.abc import Sequence
from typing import Any

from core.errors import ConfigError


def sizes(unit: str, **options: int | None) -> None:
    """Every option is a whole number of 1 or more, or None where the unit has a default.

    Raises:
        ConfigError: names the option and what came.
    """
    for name, value in options.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{unit} needs a whole {name} of 1 or more, got {value!r}")


def above_zero(unit: str, **options: float) -> None:
    """Every option is a number above zero; errors as in `sizes`."""
    for name, value in options.items():
        if not 0 < value < float("inf"):
            raise ConfigError(f"{unit} needs a {name} above zero, got {value!r}")


def one_of(unit: str, option: str, value: Any, known: Sequence[Any]) -> None:
    """The option is one of those known; errors as in `sizes`."""
    if value not in known:
        raise ConfigError(f"{option} of {unit} is one of {', '.join(map(str, known))}, got {value!r}")


def steps(unit: str, dt_min: float, dt_max: float) -> None:
    """Step sizes at the start, 0 < dt_min < dt_max; errors as in `sizes`."""
    if not 0 < dt_min < dt_max < float("inf"):
        raise ConfigError(f"{unit} needs 0 < dt_min < dt_max, got {dt_min!r} and {dt_max!r}")
