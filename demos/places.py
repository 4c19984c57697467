"""Which pipelines have a page or a part of the report: as they say, else by the name of a file here."""

from importlib.util import find_spec
from typing import Literal

from core.domains import Domain, domains

Kind = Literal["page", "section"]


def place(about: Domain, kind: Kind) -> str | None:
    """Module of a page or section: what the pipeline names, else `demos.<kind>s.<word>`; None without."""
    named = about.page if kind == "page" else about.section
    if named is not None:
        return named
    module = f"demos.{kind}s.{about.name}"
    return module if find_spec(module) is not None else None


def places(kind: Kind) -> dict[str, str]:
    """Word of a pipeline -> module of its page or section, in the order in which they are signed in.

    `pyproject.toml` states the rule of that order: hub, navigation and report follow it.
    """
    found = {name: place(about, kind) for name, about in domains().items()}
    return {name: module for name, module in found.items() if module is not None}
