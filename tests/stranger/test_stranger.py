"""A package of somebody else adds a word, a command, a unit and a bench area; a broken one harms nobody."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import core
from core.errors import ConfigError, SignInError

INIT = """
from core.domains import Domain

DOMAIN = Domain("tides", "Predict the tides.", "tide_tables.cli:app", bench=("tide_tables.bench",))
"""
CLI = '''
import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def predict(harbour: str) -> None:
    """Say when it is high."""
    print(f"high in {harbour}")


@app.command()
def nothing() -> None:
    """Do nothing."""
'''
UNIT = '''
"""Fading average: h_t = a h_{t-1} + (1 - a) W x_t."""

import torch
from torch import Tensor, nn

from core.units.contract import Unit


class Fade(Unit):
    """x (B, T, I), state (B, H) -> y (B, T, H), state (B, H)."""

    paper = "none"
    modes = ("step", "sequential")

    def __init__(self, input_size: int, hidden_size: int, *, keep: float = 0.5) -> None:
        super().__init__(input_size, hidden_size)
        self.keep = keep
        self.write = nn.Linear(input_size, hidden_size)

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = self.keep * state + (1 - self.keep) * self.write(x)
        return state, state
'''
BENCH = """
from core.bench.runner import Case


def cases() -> list[Case]:
    return [Case("tide", "small", lambda: (lambda: sum(range(9)), None), repeats=3)]
"""
COMMAND = '''
def moon(phase: str = "full") -> None:
    """Show the moon."""
    print(f"{phase} moon")
'''
POINTS = """[recurra.domains]
tides = tide_tables:DOMAIN
trajectory = tide_tables:DOMAIN
[recurra.commands]
moon = tide_tables.moon:moon
units = tide_tables.moon:moon
[recurra.units]
fade = tide_tables.fade:Fade
gru = tide_tables.fade:Fade
"""


def install(folder: Path, package: str, files: dict[str, str], points: str, name: str) -> Path:
    """A package with its metadata, as an installer would leave it."""
    (folder / package).mkdir(parents=True)
    for file, text in files.items():
        (folder / package / file).write_text(text)
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    return folder


@pytest.fixture
def tides(tmp_path: Path) -> Path:
    files = {"__init__.py": INIT, "cli.py": CLI, "fade.py": UNIT, "bench.py": BENCH, "moon.py": COMMAND}
    return install(tmp_path / "site", "tide_tables", files, POINTS, "tide-tables")


@pytest.fixture
def broken(tides: Path) -> Path:
    """A second package, which sorts first and whose modules do not parse."""
    points = "[recurra.domains]\nwind = bad_wind:DOMAIN\n[recurra.units]\ngust = bad_wind:Gust\n"
    points += "[recurra.commands]\nmoon = bad_wind:moon\n"
    return install(tides, "bad_wind", {"__init__.py": "def (:\n"}, points, "bad-wind")


def recurra(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return python(site, "-m", "core", *words)


def python(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """An interpreter that finds what is installed at a place, and ours."""
    path = os.pathsep.join([str(site), str(Path(core.__file__).parents[1])])
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
        cwd=site,
    )


SEVERAL = """
import io, json, sys
from core.cli import main

told, (out, err) = [], (sys.stdout, sys.stderr)
for words in json.loads(sys.argv[1]):
    sys.argv, code = ["recurra", *words], 0
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    try:
        main()
    except SystemExit as stop:
        code = stop.code or 0
    told.append([code, *(one.buffer.getvalue().decode() for one in (sys.stdout, sys.stderr))])
sys.stdout, sys.stderr = out, err
print(json.dumps(told))
"""


def in_turn(site: Path, *commands: str) -> list[tuple[int, str, str]]:
    """Several commands in one interpreter, which loads torch once: (code, stdout, stderr) of each."""
    words = json.dumps([command.split() for command in commands])
    done = python(site, "-c", SEVERAL, words)
    assert done.returncode == 0, done.stderr
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


def test_a_stranger_adds_a_word_that_is_listed_unimported_and_works(tides: Path) -> None:
    (tides / "tide_tables" / "__init__.py").write_text(f"print('imported')\n{INIT}")
    listed = recurra(tides, "--help").stdout
    assert "tides       From the package tide-tables." in listed
    assert "trajectory  Predict where" in listed
    assert "imported" not in listed
    done = recurra(tides, "tides", "predict", "Brest")
    assert done.stdout.splitlines()[-1] == "high in Brest"


def test_its_unit_trains_as_ours_do_and_its_area_is_measured(
    tides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from core import battery, registry
    from core.bench.areas import run
    from core.catalogue import row

    monkeypatch.syspath_prepend(str(tides))
    net = core.stack("fade", 3, 5, layers=2, keep=0.9)
    assert net(torch.zeros(2, 4, 3))[0].shape == (2, 4, 5)
    assert core.build("tide_tables.fade:Fade", 3, 5).keep == 0.5
    assert registry.find("gru").origin == "recurra"
    assert row("fade", 8)["from"] == "tide-tables"
    battery.check(registry.unit_class("fade"))
    with pytest.raises(ConfigError, match="no unit 'fad'; did you mean fade"):
        core.build("fad", 3)
    with pytest.raises(ConfigError, match="is not a class of core"):
        core.build("tide_tables.moon:moon", 3)
    with pytest.raises(SignInError, match=r"cannot be loaded from tide_tables\.fade:Gade"):
        core.build("tide_tables.fade:Gade", 3)
    _, report = run(["tides"], None, 1, progress=lambda line: None)
    assert report["figures"][0]["name"] == "tide"


def test_a_command_may_be_a_function_and_clashes_are_told(tides: Path) -> None:
    moon, doctor = in_turn(tides, "moon --phase new", "doctor --json -")
    assert moon[1] == "new moon\n"
    signed = json.loads(doctor[1])["signed_in"]
    errors = {(row["package"], row["name"]): row["error"] for row in signed}
    assert errors["tide-tables", "trajectory"] == ("the word 'trajectory' of tide-tables is taken by recurra")
    assert errors["tide-tables", "gru"] is not None
    assert errors["tide-tables", "units"] is not None
    assert errors["tide-tables", "fade"] is None


def test_with_a_broken_package_everything_else_works(broken: Path) -> None:
    listed = recurra(broken, "--help")
    assert listed.returncode == 0
    assert "wind        From the package bad-wind." in listed.stdout
    used = recurra(broken, "wind", "predict")
    assert used.returncode == 2
    assert len(used.stderr.strip().splitlines()) == 1
    assert "'wind' of the package bad-wind cannot be loaded from bad_wind:DOMAIN (SyntaxError" in used.stderr
    tides, doctor, models, units = in_turn(
        broken, "tides predict Brest", "doctor", "models --json -", "units"
    )
    assert [code for code, _, _ in (tides, doctor, models, units)] == [0, 0, 0, 0]
    assert tides[1] == "high in Brest\n"
    assert sum("bad-wind" in line for line in doctor[1].splitlines()) == 4
    assert json.loads(models[1])["models"]
    assert "gust" in units[2]


@pytest.mark.parametrize("words", [("-m", "apps.trajectory"), ("-m", "core", "trajectory")])
def test_a_checkout_works_without_an_installation(words: tuple[str, ...], tmp_path: Path) -> None:
    """An interpreter that finds torch and all the rest, but no distribution called recurra."""
    root = Path(core.__file__).parents[1]
    code = (
        "import importlib.metadata as m, runpy, sys\n"
        "real = m.Distribution.discover\n"
        "m.Distribution.discover = classmethod(lambda cls, **k: "
        "(d for d in real(**k) if d.name != 'recurra'))\n"
        f"sys.argv = ['x', *{list(words[2:])!r}, '--help']\n"
        f"runpy.run_module({words[1]!r}, run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout
