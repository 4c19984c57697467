"""What another policy would have earned on a log: of single actions, or of whole slates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DataError
from recsys.ope_actions import estimate, read_log
from recsys.ope_slates import estimate_slates, read_logged


def ope(
    log: str | Path,
    policy: str = "random",
    *,
    slates: bool = False,
    items: int | None = None,
    columns: Mapping[str, str] | None = None,
    clip: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What another policy would have earned on a logged file, and whether to trust the answer.

    Args:
        policy: random, popularity, or a table FILE.npz:NAME; for slates random or column:NAME.
        slates: rows are the slots of whole slates, of which `items` could have been shown.
        columns: names of columns that are called otherwise.
        clip: largest weight of IPS and DR.
        seed: of the intervals.

    Raises:
        DataError: a column is missing, or a propensity is outside (0, 1].
    """
    if not slates:
        logged = read_log(log, columns)
        try:
            return estimate(logged, policy, clip, seed)
        except DataError as error:
            raise DataError(f"{log}: {error}") from error
    shown = read_logged(log, policy, columns, items)
    return estimate_slates(shown, seed) | {"remarks": list(shown.remarks)}
