"""Names of units and where they live; nothing is imported before it is asked for."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from core.domains import UNITS, Signed, usable
from core.errors import ConfigError
from core.units import diagonal, gated, grid, matrix, window
from core.units.row import Row

ROWS: tuple[Row, ...] = (*gated.ROWS, *diagonal.ROWS, *matrix.ROWS, *window.ROWS, *grid.ROWS)
"""Our units, a table in each family's `__init__.py`."""


def rows() -> list[Row]:
    """Our units in table order, then those that other packages have signed in."""
    known = taken()
    foreign = [
        Row(row.name, row.target, f"from the package {row.distribution}", origin=row.distribution)
        for row in usable(UNITS).values()
        if row.name not in known
    ]
    return [*ROWS, *foreign]


def taken() -> set[str]:
    """Names and aliases of our units, which nobody else can have."""
    return {name for row in ROWS for name in (row.name, *row.aliases)}


def names() -> list[str]:
    """Registry names in table order."""
    return [row.name for row in rows()]


def find(name: str) -> Row:
    """The row of a unit by name or alias, or one made for "package.module:Class".

    Raises:
        ConfigError: no such unit; names the closest ones.
    """
    if ":" in name:
        return Row(name, name, "given by its path", origin=name.partition(".")[0].partition(":")[0])
    key = name.lower().replace("-", "_").replace(" ", "_")
    known = {alias: row for row in rows() for alias in (row.name, *row.aliases)}
    if key in known:
        return known[key]
    close = get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`recurra units` lists them all."
    raise ConfigError(f"no unit {name!r}; {hint}")


def unit_class(name: Any) -> Any:
    """The class of a unit.

    Raises:
        ConfigError: no such unit, or what is there is not a Unit.
        SignInError: the package that brings it cannot be imported.
    """
    if not isinstance(name, str | type):
        raise ConfigError(f"a unit is a name, 'package.module:Class' or a class, got {type(name).__name__}")
    if isinstance(name, type):
        return checked_class(name, name.__name__, f"{name.__module__}:{name.__name__}")
    row = find(name)
    if row in ROWS:
        module, attribute = row.target.split(":")
        return getattr(import_module(module), attribute)
    return checked_class(Signed(row.name, row.target, row.origin).load(), row.name, row.target)


def checked_class(found: Any, name: str, target: str) -> Any:
    """What was found, after checking that it is a class of units."""
    from core.units.contract import Unit

    if not (isinstance(found, type) and issubclass(found, Unit)):
        raise ConfigError(f"unit {name}: {target} is not a class of core.units.contract.Unit.")
    return found


def build(
    name: Any,
    input_size: int,
    hidden_size: int | None = None,
    *,
    remember: Any = None,
    recurrent: str | None = None,
    zoneout: Any = None,
    weight_drop: float = 0.0,
    variational_dropout: float = 0.0,
    candidate_dropout: float = 0.0,
    generator: Any = None,
    **options: Any,
) -> Any:
    """A unit by name or by "package.module:Class"; `build("gru", 64)` has equal widths, ("gru", 3, 64) not.

    Args:
        remember: T, for gates and decays that begin with memories of T/4 to 4 T tokens, or a pair of ends.
        recurrent: how recurrent matrices begin, gate by gate: "orthogonal", "identity", or None as published.
        zoneout: of gated units, the chance that a state keeps its old number, or one for each state.
        weight_drop: of gated units, of their recurrent matrices, one mask a call.
        variational_dropout: of the old state as the gates see it, one mask for each row of a call.
        candidate_dropout: of what is written into the memory, a mask a token.
        generator: where these draw from; None: torch's own.
        options: of the unit.

    Raises:
        ConfigError: unknown unit, or an option that it does not have.
        SignInError: the package that brings the unit cannot be imported.
    """
    cls = unit_class(name)
    try:
        unit = cls(input_size, input_size if hidden_size is None else hidden_size, **options)
    except TypeError as error:
        name = name.__name__ if isinstance(name, type) else name
        raise ConfigError(f"unit {name}: {str(error).split('__init__() ')[-1]}") from error
    if zoneout or weight_drop or variational_dropout or candidate_dropout:
        unit.regularise(zoneout, weight_drop, variational_dropout, candidate_dropout, generator)
    if recurrent is not None:
        unit.start_recurrent(recurrent)
    if remember is not None:
        unit.remember(remember)
    return unit
