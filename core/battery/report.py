"""The battery on the command line: every promise with its verdict."""

from typing import Any

from core import registry
from core.battery import CHECKS, Subject
from core.errors import WorkError


def examined(target: str, json_path: str | None) -> tuple[dict[str, Any], str | None, list[str]]:
    """What `emit` takes: promises kept by a unit, "package.module:Class" or a name.

    Raises:
        ConfigError: there is no such class of units.
        WorkError: a promise is broken; names all of them.
    """
    registry.unit_class(target)
    broken = {}
    for promise in CHECKS:
        try:
            promise(Subject(target))
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            broken[words(promise)] = said[0]
    if broken:
        raise WorkError(
            f"{target} breaks {len(broken)} of {len(CHECKS)} promises: "
            + "; ".join(f"{promise} ({said})" for promise, said in broken.items())
        )
    kept = [words(promise) for promise in CHECKS]
    return {"unit": target, "kept": kept}, json_path, [f"{target} keeps {len(kept)} promises:", *kept]


def words(promise: Any) -> str:
    return promise.__name__.replace("_", " ")
