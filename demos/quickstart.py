"""`recurra quickstart`: every finished pipeline once on embedded data, one table, one report page."""

import os
import platform
import sys
import time
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from pathlib import Path

from core import __version__
from core.domains import Domain, domains
from core.errors import MissingExtraError, RecurraError
from core.files import write_text
from core.report import table
from demos.hub import extra_of
from demos.places import places
from demos.report import Missing, Part, Section, report


def run(out: Path, seed: int) -> list[str]:
    """Run the pipelines, write `out/report.html`; returns the table for the terminal.

    Raises:
        RecurraError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecurraError(f"{out}: cannot be made ({error.strerror}).") from error
    parts: list[Part] = []
    lines: list[str] = []
    found, known = places("section"), domains()
    begin = time.perf_counter()
    for number, (name, module) in enumerate(found.items(), 1):
        print(f"[{number}/{len(found)}] {name}: {known[name].summary}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        part = shown(known[name], module, seed)
        seconds = time.perf_counter() - start
        parts.append((name, placed(part, out), seconds))
        if isinstance(part, Missing):
            print(f"      did not run: {part.why}", file=sys.stderr, flush=True)
            lines += [f"{part.title}: {part.why}", ""]
            continue
        print(f"      done in {seconds:.1f} s", file=sys.stderr, flush=True)
        lines += [f"{part.title} ({seconds:.1f} s)", *table(part.head, part.rows), ""]
    facts = [
        datetime.now().astimezone().strftime("%-d %B %Y, %H:%M"),
        f"version {__version__}",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        f"Python {platform.python_version()}",
        f"{time.perf_counter() - begin:.0f} s in all",
    ]
    path = out / "report.html"
    write_text(path, report(parts, facts))
    return [*lines, f"{path}"]


def shown(about: Domain, module: str, seed: int) -> Section | Missing:
    """What one pipeline shows, or why it cannot: an extra that is not installed stops no other pipeline."""
    try:
        return import_module(module).section(seed)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        return Missing(about.heading, f'needs {package}: pip install "recurra[{extra_of(package)}]".')
    except MissingExtraError as error:
        return Missing(about.heading, str(error))


def placed(part: Section | Missing, out: Path) -> Section | Missing:
    """The same with links relative to the report; what is not in this source tree loses its link."""
    if isinstance(part, Missing):
        return part
    root = Path(__file__).resolve().parent.parent
    links = [
        (words, os.path.relpath(root / place, out.resolve()).replace(os.sep, "/"))
        for words, place in part.links
        if (root / place.partition("#")[0]).is_file()
    ]
    return replace(part, links=tuple(links))
