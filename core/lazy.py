"""Public names of a package that load on first use, so that importing the package costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(
    package: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: `__getattr__, __dir__ = lazy(globals(), PUBLIC)`.

    Args:
        package: the package's own globals. A name is kept there once it was asked for, also because a module
            of the same name, which loading it puts there, must not hide it.
        homes: name -> the module that holds it, `.module` below the package or a whole name, with
            `:attribute` where it is called otherwise there.
    """

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        module, _, attribute = homes[name].partition(":")
        package[name] = value = getattr(import_module(module, package["__name__"]), attribute or name)
        return value

    def names() -> list[str]:
        return sorted({*package, *homes})

    return found, names
