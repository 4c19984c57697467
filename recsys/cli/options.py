"""`--config` and `--set` of verbs that have no settings beyond their options: they stand for the options."""

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from core.config import parse_set, read_toml
from core.errors import ConfigError


def from_file(context: typer.Context, path: Path | None) -> None:
    """Options of a TOML file; those by --set are above them whichever comes first."""
    if path is not None:
        above = context.default_map or {}
        context.default_map = {**named(context.command, read_toml(path), str(path)), **above}


def from_words(context: typer.Context, words: list[str] | None) -> None:
    """Options by --set."""
    if words:
        below = context.default_map or {}
        context.default_map = {**below, **named(context.command, parse_set(words), "--set")}


OptionFile = Annotated[
    Path | None,
    typer.Option("--config", is_eager=True, callback=from_file, help="TOML file of these options."),
]
OptionSets = Annotated[
    list[str] | None,
    typer.Option("--set", is_eager=True, callback=from_words, help="One of these options, such as k=20."),
]
ADDED = {"config": OptionFile, "sets": OptionSets}


def widened(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The verb with `--config` and `--set` for its options, unless it has settings of its own."""
    own = inspect.signature(verb)
    if "config" in own.parameters:
        return verb

    @wraps(verb)
    def called(**given: Any) -> Any:
        return verb(**{name: value for name, value in given.items() if name not in ADDED})

    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in ADDED.items()
    ]
    called.__signature__ = own.replace(parameters=[*own.parameters.values(), *more])  # type: ignore[attr-defined]
    called.__annotations__ = {**verb.__annotations__, **ADDED}
    return called


def named(command: Any, values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Values by the names of a verb's parameters.

    Raises:
        ConfigError: it has no such option.
    """
    known = {
        word.removeprefix("--").replace("-", "_"): one.name
        for one in command.params
        for word in one.opts
        if word.startswith("--") and word not in ("--config", "--set", "--help")
    }
    found = {}
    for name, value in values.items():
        option = known.get(name.replace("-", "_"))
        if option is None:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{source}: no option {name!r}; there are {', '.join(sorted(known))}.{hint}")
        found[option] = value
    return found
