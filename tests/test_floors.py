"""The floors: no import upward or sideways, none by text either, and no file too long for one sitting."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from inspect import getclosurevars
from pathlib import Path
from pkgutil import iter_modules

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "apps", "recsys", "speech", "vision", "demos")
LONGEST = 450

# Inside core, from the ground up; what stands in one line may lean on lines above it and on its own line.
STOREYS = (
    "errors lazy text",
    "kernels parts files config domains metrics ctc report door",
    "state bundled tables terminal sampling",
    "steps",
    "units",
    "registry fitting weights catalogue jobs export",
    "blocks streaming sampling",
    "layouts battery",
    "training doctor",
    "bench",
    "cli __main__",
)
FLOOR = {room: level for level, line in enumerate(STOREYS) for room in line.split()}

MOVED = {("core.kernels", "core.streaming")}
"""Tables of old names that load, for one release, what has moved to a floor above."""


def files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def names_in(path: Path) -> list[tuple[int, str, bool]]:
    """(line, module that is named, by text): imports anywhere in a file, and dotted names in its strings."""
    return list(found_names(path))


def found_names(path: Path) -> Iterator[tuple[int, str, bool]]:
    tree = tree_of(path)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name, False
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module or "", False
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}", False
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            if re.fullmatch(r"[a-z_]\w*((\.\w+)+(:\w+)?\.?|\.)", node.value):
                name = node.value.partition(":")[0].rstrip(".")
                if is_module(name) or node.value == f"{name}.":
                    yield node.lineno, name, True


def domain_of(module: str) -> str | None:
    """The domain that a module belongs to: speech, vision.ocr, apps.trajectory, recsys."""
    parts = module.split(".")
    if parts[0] in ("apps", "vision"):
        return ".".join(parts[:2]) if len(parts) > 1 else None
    return parts[0] if parts[0] in ("speech", "recsys") else None


def is_module(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    if name.split(".")[0] not in PACKAGES:
        return False
    parts = name.split(".")
    inside = [ROOT.joinpath(*parts[:end]) for end in range(1, len(parts) + 1)]
    return len(parts) > 1 and (inside[1].is_dir() or inside[1].with_suffix(".py").is_file())


def wrong(here: str, there: str) -> str | None:
    """Why `here` may not name `there`, if so."""
    if there.split(".")[0] not in PACKAGES:
        return None
    from_package, to_package = here.split(".")[0], there.split(".")[0]
    if from_package == to_package == "core":
        ours, theirs = (name.split(".")[1] if "." in name else "" for name in (here, there))
        if not ours or not theirs or theirs not in FLOOR:  # `core` itself is a table of names
            return None
        return f"{theirs} lies above {ours}" if FLOOR[theirs] > FLOOR[ours] else None
    if from_package == "core":
        return f"{to_package} lies above core"
    if from_package != "demos" and to_package == "demos":
        return "demos lies above the domains"
    mine, other = domain_of(here), domain_of(there)
    if from_package != "demos" and other is not None and mine != other:
        return f"{other} lies beside {mine}"
    return None


def test_every_room_of_core_has_a_floor() -> None:
    rooms = {path.stem if path.is_file() else path.name for path in (ROOT / "core").iterdir()}
    rooms = {room for room in rooms if (ROOT / "core" / room / "__init__.py").is_file()} | {
        path.stem for path in (ROOT / "core").glob("*.py") if path.stem != "__init__"
    }
    assert rooms - set(FLOOR) == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_imported_upward_or_sideways(package: str) -> None:
    found = []
    for path in files():
        here = module_of(path)
        if here.split(".")[0] != package:
            continue
        for line, there, by_text in names_in(path):
            reason = wrong(here, there)
            if reason and (here, there) not in MOVED:
                how = "names" if by_text else "imports"
                found.append(f"{path.relative_to(ROOT)}:{line} {how} {there}: {reason}")
    assert not found, "\n".join(dict.fromkeys(found))


def test_no_two_files_import_each_other() -> None:
    """Not by way of others either, and not from inside a function: what two share lies in a third."""
    modules = {module_of(path): path for path in files()}
    arrows = {}
    for here, path in modules.items():
        found = {there for _, there, by_text in names_in(path) if not by_text and there in modules}
        # `from a.b import c` names a.b and a.b.c: where c is a module, a.b is only its folder
        folders = {there.rpartition(".")[0] for there in found}
        arrows[here] = {there for there in found if not (there in folders and lies_in(modules[there]))} - {
            here
        }
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def lies_in(path: Path) -> bool:
    """Whether a module is a folder's own file."""
    return path.name == "__init__.py"


def test_nothing_below_the_commands_prints() -> None:
    """The result goes through `core.terminal`, remarks are sentences that are handed up."""
    found = []
    for path in files():
        here = module_of(path)
        if here == "core.terminal" or here.startswith("demos") or "cli" in here:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found, found


@pytest.mark.parametrize(
    "package", ["core", "apps/trajectory", "recsys", "speech", "vision/ocr", "vision/pointcloud"]
)
def test_no_two_classes_of_a_package_have_one_name(package: str) -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in tree_of(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert not {name: files for name, files in places.items() if len(files) > 1}


def lazy_packages() -> list[str]:
    """Packages whose public names are loaded on first use."""
    return [
        module_of(path) for path in files() if lies_in(path) and "= lazy(" in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("name", lazy_packages())
def test_no_module_has_the_public_name_of_something_else(name: str) -> None:
    """What is imported first would otherwise decide which of the two a package gives."""
    package = import_module(name)
    table = getclosurevars(package.__getattr__).nonlocals["homes"]
    public = {*table, *getattr(package, "__all__", ())}
    modules = {module.name for module in iter_modules(package.__path__)}
    assert not public & modules


def test_no_file_is_longer_than_one_sitting() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in [*files(), *tests]}
    long = [f"{path.relative_to(ROOT)}: {count}" for path, count in lengths.items() if count > LONGEST]
    assert not long, "\n".join(long)


def test_the_floors_see_what_they_should() -> None:
    assert wrong("core.units.gated.gru", "core.blocks.stack") == "blocks lies above units"
    assert wrong("core.cli", "demos.hub") == "demos lies above core"
    assert wrong("core.bundled", "apps.trajectory") == "apps lies above core"
    assert wrong("apps.trajectory.data", "speech.data") == "speech lies beside apps.trajectory"
    assert wrong("vision.ocr.page", "vision.pointcloud.boxes") == "vision.pointcloud lies beside vision.ocr"
    assert wrong("speech.cli", "demos.theme") == "demos lies above the domains"
    assert wrong("demos.pages.speech", "speech.predict") is None
    assert wrong("core.training.loop", "core.weights") is None
    assert wrong("speech.cli", "speech.predict") is None


def test_domains_are_light_to_import() -> None:
    """Loading every DOMAIN imports none of the large packages."""
    import subprocess
    import sys

    code = (
        "import sys\nfrom core.domains import DOMAINS, domain, signed_in\n"
        "names = [row.name for row in signed_in(DOMAINS) if row.ours]\n"
        "assert all(domain(name).name == name for name in names)\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'gradio', 'numba', 'typer'} & set(sys.modules)\n"
        "assert names and not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
