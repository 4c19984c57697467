"""What `recurra bench` can measure, and how a run is reported."""

import os
import pkgutil
import platform
from collections.abc import Callable
from datetime import date
from importlib import import_module
from typing import Any

from core import bench
from core.bench.runner import Figure, as_rows, measure_all
from core.domains import domains
from core.errors import ConfigError

CORE = "core"
"""The area of this package; every other is a pipeline's word."""


def areas() -> dict[str, tuple[str, ...]]:
    """Word -> modules with `cases() -> list[Case]`: ours by place, those of a pipeline as it says."""
    found = pkgutil.walk_packages(bench.__path__, f"{bench.__name__}.")
    here = tuple(sorted(module.name for module in found if not module.ispkg))
    return {CORE: here} | {name: about.bench for name, about in domains().items() if about.bench}


def cases_of(module: str) -> list[Any]:
    """The cases of a module; none for one that only helps to measure."""
    return getattr(import_module(module), "cases", list)()


def run(
    wanted: list[str], only: str | None, threads: int, progress: Callable[[str], None]
) -> tuple[list[str], dict[str, Any]]:
    """Measure areas; returns lines for people and the report for machines.

    Raises:
        ConfigError: unknown area, or no case with that name.
    """
    known = areas()
    unknown = [area for area in wanted if area not in known]
    if unknown:
        raise ConfigError(f"nothing to measure called {unknown[0]!r}; there is {', '.join(known)}.")
    import torch

    from core.training import reuse_memory

    torch.set_num_threads(threads)
    reuse_memory()
    figures = []
    for area in wanted:
        for module in known[area]:
            cases = [case for case in cases_of(module) if only is None or only in case.name]
            figures += measure_all(cases, lambda figure: progress(line(figure)))
    if not figures:
        raise ConfigError(f"no case called {only!r} in {', '.join(wanted)}.")
    machine = about_machine(threads)
    report = {"machine": machine, "figures": as_rows(figures)}
    head = ", ".join(f"{key} {value}" for key, value in machine.items())
    return [head, *map(line, figures)], report


def about_machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "threads": threads,
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "load": round(os.getloadavg()[0], 1),
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [text.split(":", 1)[1].strip() for text in file if text.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def line(figure: Figure) -> str:
    """One figure for people."""
    if figure.error is not None:
        return f"{figure.name:<34}{figure.sizes:<30} cannot run here: {figure.error}"
    if figure.value is not None:
        text = f"{figure.name:<34}{figure.sizes:<30}{figure.value:>12,.4g} {figure.unit}"
        kept = "met" if figure.met else "MISSED"
        return f"{text}  target {figure.bound}: {kept}" if figure.bound else text
    text = f"{figure.name:<34}{figure.sizes:<30}{figure.ours_us:>12,.1f} us +-{figure.spread_us:<9,.1f}"
    if figure.ratio is not None and figure.peer_us is not None:
        text += f"{figure.ratio:>7.2f} x {figure.peer} ({figure.peer_us:,.1f} us)"
    bounds = [f"{figure.target:g} x"] if figure.target is not None else []
    bounds += [f"{figure.limit_us:g} us"] if figure.limit_us is not None else []
    if bounds:
        text += f"  target {' and '.join(bounds)}: {'met' if figure.met else 'MISSED'}"
    return text
