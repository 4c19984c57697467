"""Public names and modules of a package, loaded on first use, so that importing the package costs nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(
    package: dict[str, Any], homes: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: `__getattr__, __dir__ = lazy(globals(), PUBLIC)`.

    Modules of the package are attributes too: `core.training.optim` works after `import core`.

    Args:
        package: the package's own globals. A name is kept there once it was asked for, also because a module
            of the same name, which loading it puts there, must not hide it.
        homes: name -> the module that holds it, `.module` below the package or a whole name, with
            `:attribute` where it is called otherwise there.
    """

    homes = homes or {}

    def found(name: str) -> Any:
        if name not in homes:
            return module_of(package["__name__"], name)
        module, _, attribute = homes[name].partition(":")
        package[name] = value = getattr(import_module(module, package["__name__"]), attribute or name)
        return value

    def names() -> list[str]:
        return sorted({*package, *homes})

    return found, names


def module_of(package: str, name: str) -> Any:
    """A module of a package as its attribute.

    Raises:
        AttributeError: there is none of that name.
    """
    whole = f"{package}.{name}"
    if not name.startswith("_"):
        try:
            return import_module(whole)
        except ModuleNotFoundError as error:
            if error.name != whole:  # the module is there, and what it needs is not
                raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
