"""What is signed in: pipelines, commands and units, of this distribution and of anybody else's.

A distribution signs in by entry points, in its pyproject.toml:

    [project.entry-points."recurra.domains"]      # a word of `recurra`
    trajectory = "apps.trajectory:DOMAIN"
    [project.entry-points."recurra.commands"]     # a single command: a function, a Typer or a click command
    demo = "demos.commands:demo"
    [project.entry-points."recurra.units"]        # a name of `core.build`
    my_gru = "mypackage.my_gru:MyGRU"

Nothing is imported before it is asked for, and what cannot be imported is a sentence, never a crash.
"""

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from core.errors import ConfigError, SignInError

OURS = "recurra"
"""Name of our distribution; its rows win over those of others."""
DOMAINS, COMMANDS, UNITS = "recurra.domains", "recurra.commands", "recurra.units"
"""The groups of entry points."""
VERBS = ("doctor", "units", "models", "bench")
"""The core's own words, which nobody else can have."""


@dataclass(frozen=True)
class Domain:
    """What the house knows of a pipeline without importing it. Dotted names are text: nothing loads early."""

    name: str
    """The word on the command line."""
    summary: str
    """One sentence for `recurra --help`."""
    commands: str
    """"package.cli:app", a Typer."""
    bench: tuple[str, ...] = ()
    """Modules with `cases() -> list[Case]`, for `recurra bench <name>`."""
    weights: str | None = None
    """Package in whose `weights/` folder the bundled weights lie; None: the package of the DOMAIN."""
    page: str | None = None
    """Module with `build() -> gr.Blocks`; None: `demos.pages.<name>`, if there is one."""
    section: str | None = None
    """Module with `section(seed)` for quickstart; None: `demos.sections.<name>`, if there is one."""
    title: str | None = None
    """Name of the page; None: the word with a capital."""
    upload_mb: int = 20
    """Largest file that the page takes."""

    @property
    def heading(self) -> str:
        """The name of the page."""
        return self.title or self.name.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Signed:
    """One entry point: a name, where it lives, and who brought it."""

    name: str
    target: str
    """module:attribute"""
    distribution: str
    error: str | None = None
    """Why it cannot be used, as far as that is known without an import."""
    ours: bool = field(default=False, compare=False)

    def load(self) -> Any:
        """The object.

        Raises:
            SignInError: it cannot be imported; the message names the distribution and the cause.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found: Any = import_module(module)
            for part in filter(None, attribute.split(".")):
                found = getattr(found, part)
            return found
        except Exception as error:  # somebody else's code can raise anything
            reason = str(error).strip().splitlines()
            detail = f": {reason[0][:160].rstrip('.')}" if reason else ""
            raise SignInError(
                f"{self.name!r} of the package {self.distribution} cannot be loaded from {self.target} "
                f"({type(error).__name__}{detail})."
            ) from error


def signed_in(group: str) -> tuple[Signed, ...]:
    """Rows of a group: ours in their order, then others by name of distribution. Imports none of them.

    A name that is taken already stays in the list, with the reason in `error`.
    """
    return listed(group, tuple(sys.path))


@lru_cache(maxsize=16)
def listed(group: str, path: tuple[str, ...]) -> tuple[Signed, ...]:
    """`signed_in`, read once for each search path of this process."""
    rows: list[Signed] = []
    taken: dict[str, str] = {} if group == UNITS else {verb: OURS for verb in VERBS}
    if group == DOMAINS:  # domains and commands share the words of one command line
        taken |= {row.name: OURS for row in own(COMMANDS)}
    elif group == COMMANDS:
        taken |= {row.name: row.distribution for row in listed(DOMAINS, path) if row.error is None}
    for row in [*own(group), *foreign(group)]:
        error = row.error
        if row.name in taken:
            error = f"the word {row.name!r} of {row.distribution} is taken by {taken[row.name]}"
        else:
            taken[row.name] = row.distribution
        rows.append(Signed(row.name, row.target, row.distribution, error, row.ours))
    return tuple(rows)


def usable(group: str) -> dict[str, Signed]:
    """Name -> row, without those that have an error."""
    return {row.name: row for row in signed_in(group) if row.error is None}


def own(group: str) -> Iterator[Signed]:
    """Our rows: of the source tree that is running, else of the installed distribution."""
    table = project()
    if table is not None:
        targets = table.get("entry-points", {}).get(group, {})
    else:
        targets = {
            point.name: point.value for point in entry_points(group=group) if distribution(point) == OURS
        }
    for name, target in targets.items():
        yield Signed(name, target, OURS, ours=True)


def foreign(group: str) -> list[Signed]:
    """Rows of other distributions, in order of their names."""
    points = [(distribution(point), point.name, point.value) for point in entry_points(group=group)]
    return [Signed(name, value, owner) for owner, name, value in sorted(points) if owner != OURS]


def distribution(point: Any) -> str:
    """Name of the distribution that an entry point belongs to."""
    return point.dist.name if point.dist is not None else "an unnamed package"


@lru_cache(maxsize=1)
def project() -> dict[str, Any] | None:
    """The table [project] of the pyproject.toml above this package: there in a source tree only."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    return table if table.get("name") == OURS else None


def requirements() -> list[str]:
    """What this distribution requires, extras marked as in metadata: `plotly>=6; extra == "demos"`."""
    table = project()
    if table is not None:
        listed = list(table.get("dependencies", ()))
        for extra, lines in table.get("optional-dependencies", {}).items():
            listed += [f'{line}; extra == "{extra}"' for line in lines]
        return listed
    try:
        return list(metadata(OURS).get_all("Requires-Dist") or ())
    except PackageNotFoundError:
        return []


def domains() -> dict[str, Domain]:
    """Every pipeline that can be loaded, by its word; `recurra doctor` tells of those that cannot."""
    found = {}
    for name in usable(DOMAINS):
        try:
            found[name] = domain(name)
        except SignInError:
            continue
    return found


def domain(name: str) -> Domain:
    """A pipeline by its word.

    Raises:
        ConfigError: no such pipeline.
        SignInError: it cannot be imported, or is no Domain.
    """
    rows = usable(DOMAINS)
    if name not in rows:
        raise ConfigError(f"no pipeline called {name!r}; there is {', '.join(rows)}.")
    found = rows[name].load()
    if not isinstance(found, Domain):
        raise SignInError(
            f"{name!r} of the package {rows[name].distribution}: {rows[name].target} is "
            f"{type(found).__name__}, not a core.domains.Domain."
        )
    return found


def weights_folders() -> list[Path]:
    """The `weights/` folders of the core and of every pipeline that has one."""
    packages = ["core"]
    for name, about in domains().items():
        packages.append(about.weights or usable(DOMAINS)[name].target.partition(":")[0])
    folders = [Path(place) / "weights" for package in packages for place in locations(package)]
    return [folder for folder in dict.fromkeys(folders) if (folder / "index.json").is_file()]


def locations(package: str) -> list[str]:
    """Folders of a package; none if it is a single file or is not there."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    return list(spec.submodule_search_locations or ()) if spec else []
