"""What the documents name is there: commands with their options, targets of make, extras, links, Python."""

import re
import shlex
import tomllib
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parents[1]
AWAY = ("out", "runs", "shared")
"""Folders beside the sources that are no part of them."""
DOCUMENTS = sorted(
    place.as_posix()
    for place in (path.relative_to(ROOT) for path in ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part in AWAY for part in place.parts)
)
NOW = [name for name in DOCUMENTS if name != "CHANGELOG.md"]
"""Those that tell what is; the changes also name what has gone."""
PACKAGES = ("core", "apps", "recsys", "speech", "vision", "demos")


@lru_cache
def roof() -> Any:
    from core.cli import app

    return typer.main.get_command(app)


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def commands(document: str) -> list[str]:
    """Every line of a code block that calls `recurra`, and every such piece of a sentence; no comments."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text(document), re.MULTILINE | re.DOTALL)
    lines = re.findall(
        r"(?:^|\| )recurra (.*)$", "\n".join(code for kind, code in blocks if not kind), re.MULTILINE
    )
    lines += re.findall(r"`recurra ([^`]*)`", text(document))
    return [re.split(r"\s#\s|\s\|\s", line)[0] for line in lines]


def wrong(line: str) -> str:
    """What of a command is not there; empty where all is."""
    try:
        words = [word for word in shlex.split(line) if word != "..."]
    except ValueError:  # the rest of a quoted text is cut
        words = line.split()
    command, place = roof(), 0
    context = typer.Context(command, info_name="recurra")
    while isinstance(command, typer.core.TyperGroup) and place < len(words):
        if words[place].startswith(("-", "<", "[")):
            break
        if re.search(r"[A-Z./]", words[place]):  # a placeholder, such as NAME
            break
        found = command.get_command(context, words[place])
        if found is None:
            return f"no command {' '.join(words[: place + 1])}"
        command, place = found, place + 1
        context = typer.Context(command, parent=context, info_name=words[place - 1])
    known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    for word in words[place:]:
        option = word.split("=")[0].rstrip(",;")
        if re.fullmatch(r"--[a-z][a-z0-9-]*|-[a-z]", option) and option not in known:
            return f"{' '.join(words[:place])} has no {option}"
    return ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_of_the_documents_are_there_with_their_options(document: str) -> None:
    found = [f"recurra {line}: {fault}" for line in commands(document) if (fault := wrong(line))]
    assert not found, "\n".join(found)


def test_most_commands_of_readme_are_looked_at() -> None:
    assert len(commands("README.md")) > 80
    assert wrong("speech enhance a.wav --no-such-thing 3") == "speech enhance has no --no-such-thing"
    assert wrong("speech sing") == "no command speech sing"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files(document: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)|(?:src|srcset)=\"([^\"]+)\"", text(document))
    here = [first or second for first, second in targets if "://" not in (first or second)]
    missing = [target for target in here if not ((ROOT / document).parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_sections_that_are_linked_are_there(document: str) -> None:
    heads = re.findall(r"^#+ (.*)$", text(document), re.MULTILINE)
    known = {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}
    assert set(re.findall(r"\]\(#([^)]*)\)", text(document))) <= known


@pytest.mark.parametrize("document", NOW)
def test_targets_of_make_extras_and_scripts_are_there(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text(document), re.MULTILINE)) <= targets
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(re.findall(r"recurra\[([a-z0-9,]+)\]", text(document)))
    assert {name for names in extras for name in names.split(",")} <= set(project["optional-dependencies"])


@pytest.mark.parametrize("document", NOW)
def test_names_of_python_are_there(document: str) -> None:
    names = set(re.findall(rf"`((?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+)", text(document)))
    missing = [name for name in sorted(names) if not there(name)]
    assert not missing


def there(name: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False
