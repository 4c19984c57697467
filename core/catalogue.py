"""What Recurra holds, as tables: units and bundled weights."""

import inspect
import sys
from typing import Any

from core import registry, state
from core.domains import OURS
from core.errors import RecurraError


def table(width: int) -> list[dict[str, Any]]:
    """One row a unit: name, summary, paper, modes, parameters, state size at a width, and who brought it.

    Units of other packages that cannot be used are left out; `broken` tells of them.
    """
    ours = [row(name, width) for name in registry.names() if registry.find(name).origin == OURS]
    return ours + [found for found, _ in foreign(width) if found is not None]


def broken(width: int) -> list[str]:
    """One sentence for each unit of another package that cannot be used."""
    return [problem for _, problem in foreign(width) if problem is not None]


def foreign(width: int) -> list[tuple[dict[str, Any] | None, str | None]]:
    """Rows of other packages' units, or why there is none."""
    found = []
    for about in registry.rows():
        if about.origin == OURS:
            continue
        try:
            found.append((row(about.name, width), None))
        except RecurraError as error:
            found.append((None, str(error)))
        except Exception as error:  # a stranger's unit can raise anything
            found.append((None, f"unit {about.name} of the package {about.origin}: {error}"))
    return found


def row(name: str, width: int) -> dict[str, Any]:
    """Facts of one unit at input and hidden width `width`."""
    import torch

    about = registry.find(name)
    unit = registry.build(name, width)
    return {
        "name": about.name,
        "summary": about.summary,
        "aliases": list(about.aliases),
        "paper": unit.paper,
        "modes": list(unit.modes),
        "parameters": sum(parameter.numel() for parameter in unit.parameters()),
        "from": about.origin,
        "state": state.size(first := unit.initial_state(torch.zeros(1, 1, width))),
        "state_bytes": state.byte_count(first),
    }


def table_lines(rows: list[dict[str, Any]], width: int) -> list[str]:
    """The table of units for people."""
    head = (
        f"{'unit':<18}{'parameters':>10}{'state':>8}{'bytes':>9}  {'modes':<38}paper   "
        f"(at width {width}; state of one sequence in float32)"
    )
    lines = [head, "-" * len(head)]
    for unit in rows:
        sizes = f"{unit['parameters']:>10,}{unit['state']:>8,}{unit['state_bytes']:>9,}"
        owner = "" if unit["from"] == OURS else f"  (from {unit['from']})"
        lines.append(f"{unit['name']:<18}{sizes}  {' '.join(unit['modes']):<38}{unit['paper']}{owner}")
    return lines


def describe(name: str, width: int) -> dict[str, Any]:
    """One unit with its equations and options."""
    cls = registry.unit_class(name)
    facts = row(registry.find(name).name, width)
    equations = inspect.getdoc(sys.modules[cls.__module__]) or ""
    shapes = inspect.getdoc(cls) or ""
    signature = ", ".join(
        str(parameter).replace("'", "")
        for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]
    )
    text = [
        f"{facts['name']}: {facts['summary']}",
        f"source      {facts['paper']}",
        f"modes       {', '.join(facts['modes'])}",
        f"at width {width}  {facts['parameters']:,} parameters, {facts['state']:,} numbers of state in "
        f"{facts['state_bytes']:,} bytes, however long the sequence",
        f"options     {signature}",
        f"file        {cls.__module__.replace('.', '/')}.py",
        "",
        equations,
        "",
        shapes,
    ]
    return {**facts, "options": signature, "equations": equations, "shapes": shapes, "text": "\n".join(text)}


SHOWN = ("name", "file", "task", "unit", "parameters", "bytes", "sha256")
"""Facts of bundled weights that stand in the first line, or not at all; every other gets a line."""


def model_lines(rows: list[Any]) -> list[str]:
    """The table of bundled weights for people, with whatever else their cards say, such as a language."""
    if not rows:
        return ["No weights are bundled."]
    lines = []
    for model in rows:
        facts = {key: text for key, text in model.items() if key not in SHOWN and text}
        width = max(map(len, facts), default=0)
        lines.append(
            f"{model['name']}  ({model['task']}, {model['unit']}, {model['parameters']:,} parameters, "
            f"{model['bytes'] / 1024:.0f} KB)"
        )
        lines += [f"    {key:<{width}}  {text}" for key, text in facts.items()]
    return lines
