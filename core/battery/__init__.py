"""The contract battery: what every recurrent unit promises, checked on a class of anybody's.

    from core.battery import check
    check("my_package.my_unit:MyUnit", heads=2)

Each check is a function named by its promise; `check` runs them all and says which one a unit breaks.
"""

from collections.abc import Callable
from typing import Any

import torch

from core.battery.contract import CONTRACT, compare_modes, finite_differences
from core.battery.extremes import EXTREMES
from core.battery.habits import HABITS
from core.battery.subject import WIDTH, Subject, close, refused, results, sample

CHECKS: tuple[Callable[[Subject], None], ...] = (*CONTRACT, *EXTREMES, *HABITS)
"""Every promise, in the order in which it is worth knowing that it is broken."""

__all__ = [
    "CHECKS",
    "CONTRACT",
    "EXTREMES",
    "HABITS",
    "WIDTH",
    "Subject",
    "check",
    "close",
    "compare_modes",
    "finite_differences",
    "refused",
    "results",
    "sample",
]


def check(unit: Any, *, skip: tuple[str, ...] = (), device: str = "cpu", **options: Any) -> list[str]:
    """Run every check on a class, a name, or "package.module:Class"; returns the promises that were kept.

    Args:
        unit: what is checked, built with equal widths.
        skip: names of checks to leave out.
        device: where it is checked, such as "cuda".
        options: of the unit.

    Raises:
        AssertionError: a promise is broken; says which and how.
    """
    subject, kept = Subject(unit, options), []
    for promise in CHECKS:
        if promise.__name__ in skip:
            continue
        try:
            with torch.device(device):
                promise(subject)
        except Exception as error:
            name = promise.__name__.replace("_", " ")
            raise AssertionError(f"{unit}: {name}: {type(error).__name__}: {error}") from error
        kept.append(promise.__name__)
    return kept
