"""Is this machine ready: versions, threads, GPU, optional packages and how to get them, who has signed in."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from core import __version__
from core.domains import COMMANDS, DOMAINS, OURS, UNITS, domain, requirements, signed_in
from core.errors import RecurraError
from core.registry import taken


def installed(package: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def required() -> dict[str, dict[str, str]]:
    """Extra ("" for what is always needed) -> distribution -> the versions that do, as the metadata say it.

    An extra that names others, such as `dev`, is left out: it is for people who work on Recurra itself.
    """
    from packaging.requirements import Requirement

    found: dict[str, dict[str, str]] = {"": {}}
    gathering = set()
    for line in requirements():
        need = Requirement(line)
        extra = extra_of(str(need.marker)) if need.marker else ""
        if need.name == OURS:
            gathering.add(extra)
        found.setdefault(extra, {})[need.name] = str(need.specifier)
    return {extra: names for extra, names in found.items() if extra not in gathering}


def extra_of(marker: str) -> str:
    """The extra that a marker such as `extra == "demos"` asks for; "" for a marker of another kind."""
    parts = [part.strip() for part in marker.split("==")]
    return parts[1].strip("\"'") if len(parts) == 2 and parts[0] == "extra" else ""


def fits(found: str | None, wanted: str) -> bool:
    """Whether a version is one of those that do."""
    from packaging.specifiers import SpecifierSet

    return found is not None and SpecifierSet(wanted).contains(found, prereleases=True)


def examine() -> dict[str, Any]:
    """Everything `recurra doctor` reports, as plain values."""
    needs = required()
    packages = {name: installed(name) for name in needs[""]}
    extras = {
        extra: {
            "ready": all(fits(installed(name), wanted) for name, wanted in names.items()),
            "packages": {name: installed(name) for name in names},
            "get": f'pip install "{OURS}[{extra}]"',
        }
        for extra, names in needs.items()
        if extra
    }
    findings: dict[str, Any] = {
        "recurra": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "extras": extras,
        "chromium": shutil.which("chromium") or shutil.which("chromium-browser"),
        "compiler": shutil.which("cc") or shutil.which("gcc"),
        "numba_cache": os.environ.get("NUMBA_CACHE_DIR", "beside the package, or the user's cache folder"),
        "signed_in": who_signed_in(),
        "problems": [
            f"{name} is {found or 'missing'}: pip install '{name}{needs[''][name]}'"
            for name, found in packages.items()
            if not fits(found, needs[""][name])
        ],
    }
    if packages.get("torch"):
        findings |= torch_findings()
    return findings


def who_signed_in() -> list[dict[str, Any]]:
    """Every entry point: group, name, package, where it leads, and in one sentence what is wrong with it."""
    rows = []
    for group in (DOMAINS, COMMANDS, UNITS):
        for row in signed_in(group):
            error = row.error
            if group == UNITS and row.name in taken():
                error = f"the unit {row.name!r} of {row.distribution} is taken by {OURS}"
            if error is None:
                try:
                    domain(row.name) if group == DOMAINS else row.load()
                except RecurraError as problem:
                    error = str(problem)
            rows.append(
                {
                    "group": group,
                    "name": row.name,
                    "package": row.distribution,
                    "target": row.target,
                    "error": error,
                }
            )
    return rows


def torch_findings() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    return {
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if gpu else None,
        "gpu": torch.cuda.get_device_name(0) if gpu else None,
        "triton": installed("triton") if find_spec("triton") else None,
    }


def lines(findings: dict[str, Any]) -> list[str]:
    """The findings for people."""
    text = [
        f"recurra {findings['recurra']}, Python {findings['python']}, {findings['system']}, "
        f"{findings['cores']} cores, {findings.get('threads', '?')} threads",
        "packages  "
        + ", ".join(f"{name} {found or 'MISSING'}" for name, found in findings["packages"].items()),
        f"gpu       {findings.get('gpu') or 'none: everything runs on the CPU'}"
        + (f" (CUDA {findings['cuda']})" if findings.get("cuda") else ""),
        f"triton    {findings.get('triton') or 'none: needed for GPU kernels only'}",
        f"compiler  {findings['compiler'] or 'none: needed for torch.compile only'}",
        f"chromium  {findings['chromium'] or 'none: needed for the browser tests only'}",
    ]
    for extra, about in findings["extras"].items():
        state = "ready" if about["ready"] else f"missing; {about['get']}"
        text.append(f"extra     {extra:<8} {', '.join(about['packages'])}: {state}")
    for row in findings["signed_in"]:
        if row["error"] is not None:
            text.append(f"sign-in   {row['error'].rstrip('.')}.")
        elif row["package"] != OURS:
            text.append(f"sign-in   {row['name']} of the package {row['package']}: ready")
    text += [f"problem   {problem}" for problem in findings["problems"]]
    return [*text, "Ready." if not findings["problems"] else "Not ready: see the problems above."]
