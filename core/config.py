"""Settings: frozen dataclasses, a TOML file, and `--set a.b=c` on top.

A settings class checks relations between its fields in `__post_init__` and raises ConfigError there.
"""

import dataclasses
import tomllib
import types
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from core.errors import ConfigError
from core.text import shown

C = TypeVar("C")
FAR, WHOLE = 1e15, 1 << 53
"""No setting is a larger number: beyond, a float64 tells neighbours no longer apart."""


@dataclasses.dataclass(frozen=True)
class Range:
    """What a number may be: `hidden: Annotated[int, Range(1, 8192)]`. NaN is in no range."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


Size = Annotated[int, Range(1, 65_536)]
"""A width of a network."""
Count = Annotated[int, Range(1, 1000)]
"""Layers, blocks, heads."""
Share = Annotated[float, Range(0, 1)]
"""A part of a whole, or a chance."""


def parse_set(words: Iterable[str]) -> dict[str, Any]:
    """`["lr=1e-3", "model.unit=lstm"]` -> {"lr": 0.001, "model": {"unit": "lstm"}}.

    The right side is a TOML value; what is not one is taken as text, so words need no quotes.

    Raises:
        ConfigError: no `=`, or a name that is both a value and a section.
    """
    changes: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set wants name=value, such as model.unit=gru; got {word!r}.")
        section = changes
        for key in keys[:-1]:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {path}: {key!r} is already given a value.")
        if isinstance(section.get(keys[-1]), dict):
            raise ConfigError(f"--set {path}: {keys[-1]!r} is a section, not a value.")
        section[keys[-1]] = toml_value(text.strip())
    return changes


def toml_value(text: str) -> Any:
    """A TOML value, or the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_toml(path: str | Path) -> dict[str, Any]:
    """Settings of a TOML file.

    Raises:
        ConfigError: missing file, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error}).") from error


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others laid over them."""
    found = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = over(found[key], value) if both else value
    return found


def resolve(
    default: C, file: str | Path | None = None, words: Iterable[str] | None = None, **named: Any
) -> C:
    """Defaults, then a TOML file, `--set` words, and settings with an option of their own (None: not given).

    `resolve(TrainConfig(), config, sets, seed=seed)`
    """
    if file is not None:
        default = replace(default, read_toml(file))
    default = replace(default, parse_set(words or ()))
    return replace(default, {name: value for name, value in named.items() if value is not None})


def replace(config: C, changes: Mapping[str, Any], section: str = "") -> C:
    """A copy of a settings object with (nested) changes, each checked against its annotation.

    Raises:
        ConfigError: unknown name, wrong type, or what the class itself refuses.
    """
    hints = get_type_hints(type(config), include_extras=True)
    known = {field.name for field in dataclasses.fields(config)}  # pyright: ignore[reportArgumentType]
    values: dict[str, Any] = {}
    for name, value in changes.items():
        path = f"{section}{name}"
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {section}{close[0]}?" if close else ""
            raise ConfigError(f"no setting {path!r}; this section has {', '.join(sorted(known))}.{hint}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            word = getattr(type(current), "shorthand", None)
            if word and not isinstance(value, Mapping):
                value = {word: value}
            if not isinstance(value, Mapping):
                inner = ", ".join(f"{path}.{field.name}" for field in dataclasses.fields(current))
                raise ConfigError(f"{path} is a section; set one of {inner}.")
            values[name] = replace(current, value, f"{path}.")
        else:
            values[name] = convert(value, hints[name], path)
    return dataclasses.replace(config, **values)  # pyright: ignore[reportArgumentType]


def convert(value: Any, wanted: Any, path: str) -> Any:
    """`value` as the annotation asks, or a ConfigError that names the setting."""
    origin, options = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        value = convert(value, options[0], path)
        for about in options[1:]:
            if isinstance(about, Range) and value not in about:
                raise ConfigError(f"{path} must be {about}, got {brief(value)}.")
        return value
    if origin is Literal:
        if value in options:
            return value
        raise ConfigError(f"{path} must be one of {options}, got {brief(value)}.")
    if origin in (Union, types.UnionType):
        if type(None) in options and (value is None or value == "none"):
            return None
        for option in options:
            if option is not type(None):
                try:
                    return convert(value, option, path)
                except ConfigError:
                    continue
        raise ConfigError(f"{path} must be {describe(wanted)}, got {brief(value)}.")
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(options) == 2 and options[1] is Ellipsis:
            return tuple(convert(item, options[0], path) for item in value)
        if len(options) == len(value):
            return tuple(convert(item, kind, path) for item, kind in zip(value, options, strict=True))
    if wanted is Any:
        return finite(value, path)
    if origin is dict and isinstance(value, Mapping):
        return {key: convert(item, options[1], f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return made(value, wanted, path)
    if wanted in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= (WHOLE if isinstance(value, int) else FAR):  # NaN neither
            raise ConfigError(f"{path} must be a finite number, got {brief(value)}.")
        value = float(value) if wanted is float else value
    if wanted is Path and isinstance(value, str):
        return Path(value)
    if (
        isinstance(wanted, type)
        and isinstance(value, wanted)
        and (wanted is bool or not isinstance(value, bool))
    ):
        return finite(value, path) if isinstance(value, Mapping | list | tuple) else value
    raise ConfigError(f"{path} must be {describe(wanted)}, got {brief(value)}.")


def finite(value: Any, path: str) -> Any:
    """A value whose type its reader judges, unless a number in it is none."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            finite(item, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            finite(item, path)
    elif isinstance(value, int | float):
        convert(value, float if isinstance(value, float) else type(value), path)
    return value


def brief(value: Any) -> str:
    """A value of a message: a list of a million numbers is told by its beginning."""
    try:
        return shown(repr(value), 80)
    except ValueError:  # a whole number of more than 4,300 digits
        return "a number of thousands of digits"


def made(value: Any, wanted: type, path: str) -> Any:
    """A settings object of a list, from the table that a TOML file or `--set` has for it."""
    if isinstance(value, wanted):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} must be a table such as {{{dataclasses.fields(wanted)[0].name} = ..}}.")
    hints = get_type_hints(wanted, include_extras=True)
    known = [field.name for field in dataclasses.fields(wanted)]
    for name in value:
        if name not in known:
            raise ConfigError(f"no setting {path}.{name!r}; this section has {', '.join(known)}.")
    try:
        return wanted(**{name: convert(item, hints[name], f"{path}.{name}") for name, item in value.items()})
    except TypeError as error:
        raise ConfigError(f"{path}: {error}.") from error


def describe(wanted: Any) -> str:
    """An annotation in words."""
    options = get_args(wanted)
    if get_origin(wanted) is Annotated:
        return f"{describe(options[0])} ({', '.join(str(about) for about in options[1:])})"
    if get_origin(wanted) is tuple:
        return "a list of " + ", ".join(describe(option) for option in options if option is not Ellipsis)
    if options:
        return " or ".join(describe(option) for option in options)
    if wanted is type(None):
        return "none"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}.get(
        wanted, str(wanted)
    )


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a settings object, for metadata and comparison."""
    plain = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            plain[field.name] = to_dict(value)
        elif isinstance(value, Path):
            plain[field.name] = str(value)
        else:
            plain[field.name] = in_lists(value)
    return plain


def in_lists(value: Any) -> Any:
    """Lists for tuples, tables for settings objects."""
    if isinstance(value, (list, tuple)):
        return [in_lists(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    return value


def to_toml(settings: Mapping[str, Any], section: str = "") -> str:
    """Settings as TOML text that `read_toml` reads back."""
    values = [
        f"{key} = {literal(value)}" for key, value in settings.items() if not isinstance(value, Mapping)
    ]
    text = "\n".join(values) + ("\n" if values else "")
    for key, value in settings.items():
        if isinstance(value, Mapping):
            path = f"{section}{key}"
            text += f"\n[{path}]\n{to_toml(value, f'{path}.')}"
    return text


def literal(value: Any) -> str:
    """One TOML value."""
    import json

    if value is None:  # TOML has no null; `convert` reads the word
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
